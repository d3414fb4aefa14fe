#!/usr/bin/env bash
# Make .venv from a hash-pinned lock: `tools/setup.sh run` or `tools/setup.sh dev`. Nothing unpinned is fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
lock="$1"

# Whether everyone may enter every folder above a file: under root, jobs and notebooks run as another user.
world_reachable() {
  local folder
  folder="$(dirname "$(readlink -f "$1")")"
  while [ "$folder" != / ]; do
    case "$(stat -c %A "$folder")" in *x | *t) ;; *) return 1 ;; esac
    folder="$(dirname "$folder")"
  done
}

usable() {
  command -v "$1" >/dev/null 2>&1 || return 1
  "$1" -c 'import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1 || return 1
  [ "$(id -u)" -ne 0 ] || world_reachable "$("$1" -c 'import sys; print(sys.executable)')"
}

choose_python() {
  local candidate
  for candidate in ${PYTHON:-} /usr/bin/python3 python3 /usr/bin/python3.1{4,3,2,1} python3.1{4,3,2,1}; do
    if usable "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  cat >&2 <<'END'
No usable Python was found. Yunei needs Python 3.11 or newer with the venv module, and, when you are root, one that other
users can reach (an interpreter below a 0700 home is not). On Debian or Ubuntu:

    apt-get install python3 python3-venv

or name one:  PYTHON=/path/to/python3 make setup
没有找到可用的 Python。需要 3.11 以上并带 venv 模块；以 root 运行时，解释器不能位于 0700 的主目录之下。
END
  return 1
}

if [ ! -x .venv/bin/python ]; then
  python="$(choose_python)"
  echo "setting up .venv with $("$python" -c 'import sys; print(sys.version.split()[0], sys.executable)')"
  "$python" -m venv .venv
fi
echo "installing $(grep -c '==' "requirements/$lock.lock") pinned packages; the first time this takes about a minute"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r "requirements/$lock.lock"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
touch ".venv/$lock.stamp"
[ "$lock" != dev ] || touch .venv/run.stamp # the dev lock holds the run lock
