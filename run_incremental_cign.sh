#!/bin/sh
# Class tokens (CIGN): sh run_incremental_cign.sh 'dataset' 'modality' [flags]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
launch train_incremental.py "dataset modality" "$@" --method cign
