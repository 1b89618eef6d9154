#!/bin/sh
# AV-CIL: sh run_incremental_ours.sh 'dataset' [flags]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
launch train_incremental.py "dataset" "$@" --method avcil
