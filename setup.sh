#!/usr/bin/env bash
# Makes the virtual environment in $1 with Tokenfleet, its test tools and every dependency pinned by constraints.txt.
# Needs Python 3.11 or newer; on Debian it installs the venv module where that is missing.
set -euo pipefail
cd "$(dirname "$0")"
venv=${1:-.venv}

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

python=${PYTHON:-}
if [ -z "$python" ]; then
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
fi
[ -n "$python" ] || fail "no Python 3.11 or newer is on PATH. On Debian: apt-get install python3 python3-venv"

if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "$python lacks the venv module. On Debian: apt-get install python3-venv"
    say "installing python3-venv"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv >/dev/null
fi

started=$SECONDS
say "making $venv with $("$python" --version)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# Build isolation would fetch the build backend unpinned; it is among the constraints instead.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
# What reads s3://, without its dependencies: botocore's metadata refuses the python-dateutil that kubernetes asks for; it runs with both.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps \
    aiobotocore aioitertools botocore jmespath wrapt
touch "$venv/.ready"
say "$venv is ready ($((SECONDS - started)) s)"
