#!/bin/sh
# The released features and splits of a data set: sh download.sh 'dataset' [--dtype float16] [flags]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
launch download.py "dataset" "$@"
