#!/usr/bin/env bash
# The escape suite as an ordinary user, also where root starts it: under root the jail has more to take away, without root
# fewer tools to build with, and both must hold. Root's run is of a copy that everyone can read, gone afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=(-m pytest tests/escape -m "not slow" -p no:cacheprovider)

if [ "$(id -u)" -ne 0 ]; then
  exec .venv/bin/python "${suite[@]}"
fi

uid=1000
place="$(mktemp -d /tmp/yunei-unprivileged-XXXXXX)"
trap 'rm -rf "$place"' EXIT
chmod 755 "$place"
mkdir "$place/tree"

# What is committed or would be, without what was deleted; a folder that belongs to another user is read all the same.
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
  while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
  tar --create --null --files-from=- | tar --extract --no-same-owner --directory="$place/tree"

# The same packages below another interpreter, with the copy in the place of this folder.
"$(readlink -f .venv/bin/python)" -m venv --without-pip "$place/venv"
packages="$("$place/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
cp --archive "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/." "$packages"
grep --files-with-matches --fixed-strings --line-regexp "$PWD" "$packages"/*.pth | xargs --no-run-if-empty rm
echo "$place/tree" > "$packages/yunei_copy.pth"

chmod -R u=rwX,go=rX "$place/tree" "$place/venv"
mkdir "$place/home"
chown -R "$uid:$uid" "$place/home" "$place/tree"
cd "$place/tree"
setpriv --reuid="$uid" --regid="$uid" --clear-groups --inh-caps=-all \
  env HOME="$place/home" TMPDIR="$place/home" USER=escape LOGNAME=escape \
  "$place/venv/bin/python" "${suite[@]}"
