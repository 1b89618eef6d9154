#!/bin/sh
# Three minutes on one GPU: is everything right there, repeatable, and how near the card's own bounds is it?
#   sh run_gpu_check.sh [--json FILE]
# One table; ends with 1 if something is not as it should be, and says so in one line where there is no GPU.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
choose_python
cd "$here"
exec "$python" benchmarks/gpu_check.py "$@"
