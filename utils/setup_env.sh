#!/bin/sh
# Make .venv beside the scripts and install requirement files into it: sh utils/setup_env.sh requirements.txt ...
# Quick when that is done already. PYTHON chooses the interpreter.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=${PYTHON:-python3}

fail() {
    echo "error: $1" >&2
    exit 2
}

command -v "$python" >/dev/null 2>&1 || fail "no $python found; install Python 3.10 or newer, or set PYTHON to one"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" --version 2>&1) is too old; install Python 3.10 or newer, or set PYTHON to one"

cd "$here"
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    rm -rf .venv
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        fail "$python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
    fi
fi

# The stamp is written last: where it fits, the installation was complete.
stamp=.venv/installed-$(cat "$@" | cksum | tr ' ' -)
if [ ! -e "$stamp" ]; then
    echo "Installing $* into .venv (once; PyTorch is large, this takes minutes)"
    for file in "$@"; do set -- "$@" -r "$file"; shift; done
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" ||
        fail "pip could not install $*; see its lines above, then run this again"
    touch "$stamp"
fi
