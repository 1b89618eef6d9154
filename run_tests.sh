#!/bin/sh
# Everything that checks the project: sh run_tests.sh [--slow] [arguments of pytest]
# --slow adds whole golden runs in audio-visual (minutes each).
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
sh "$here/setup.sh" --dev
cd "$here"
if [ "${1-}" = --slow ]; then
    shift
    set -- -m "" "$@"
fi
# One thread per process, one process per core: the same numbers on every machine, and the fastest.
OMP_NUM_THREADS=1 exec .venv/bin/python -m pytest -n auto "$@"
