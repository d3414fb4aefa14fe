#!/usr/bin/env bash
# Re-lock: hash-pinned requirements without any index address. Needs uv on the PATH; `--upgrade` moves versions.
set -euo pipefail
cd "$(dirname "$0")/.."
common=(--universal --python-version 3.11.2 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -q
        --extra client --extra pir --extra he --extra enclave --extra bureau --extra demo --extra build)
uv pip compile pyproject.toml "${common[@]}" "$@" -o requirements/run.lock
uv pip compile pyproject.toml "${common[@]}" --extra dev --extra hsm --extra gm --extra tee "$@" -o requirements/dev.lock
! grep -n '://' requirements/*.lock
