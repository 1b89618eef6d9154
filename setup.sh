#!/bin/sh
# Make the project's environment, .venv beside this file: sh setup.sh [--cpu] [--dev]
# --cpu takes PyTorch without CUDA, a tenth of the size; --dev adds what the tests need. PYTHON chooses the interpreter.
# Quick when that is done already.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=${PYTHON:-python3}
# Where PyTorch publishes its builds for CPUs.
cpu_builds=${CPU_BUILDS:-https://download.pytorch.org/whl/cpu}

fail() {
    echo "error: $1" >&2
    exit 2
}

cpu=
dev=
for option in "$@"; do
    case $option in
    --cpu) cpu=1 ;;
    --dev) dev=1 ;;
    -h | --help)
        sed -n '2,4s/^# //p' "$here/setup.sh"
        exit 0
        ;;
    *) fail "$option is not an option of setup.sh; usage: sh setup.sh [--cpu] [--dev]" ;;
    esac
done
set -- requirements.txt ${dev:+requirements-dev.txt}

command -v "$python" >/dev/null 2>&1 || fail "no $python found; install Python 3.10 or newer, or set PYTHON to one"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" --version 2>&1) is too old; install Python 3.10 or newer, or set PYTHON to one"

cd "$here"
# The stamp is written last: where it fits, the installation was complete.
stamp=.venv/installed-$(cat "$@" | cksum | tr ' ' -)
if [ -e "$stamp" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

enough_disk() {
    free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "$free" -ge "$1" ] || fail "$here: $free GB of disk are free, the environment takes up to $1"
}
gigabytes=7
[ -z "$cpu" ] || gigabytes=3
[ -d .venv/lib ] || enough_disk $gigabytes
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    rm -rf .venv
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        fail "$python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
    fi
fi
if [ -n "$cpu" ]; then
    echo "Installing PyTorch for CPUs and the rest into .venv (once, about 2 GB)"
    if ! .venv/bin/python -m pip install --disable-pip-version-check --retries 2 --index-url "$cpu_builds" \
        torch torchvision; then
        echo "warning: no PyTorch for CPUs from $cpu_builds (CPU_BUILDS names another index): the usual one follows, 6 GB" >&2
        enough_disk 7
    fi
else
    echo "Installing $* into .venv (once, about 6 GB; sh setup.sh --cpu takes a third, without CUDA)"
fi
for file in "$@"; do set -- "$@" -r "$file"; shift; done
.venv/bin/python -m pip install --disable-pip-version-check "$@" ||
    fail "pip could not install $*; see its lines above, then run this again"
touch "$stamp"
