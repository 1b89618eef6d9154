#!/bin/sh
# iCaRL: sh run_incremental_icarl.sh 'dataset' 'modality' 'classifier' [flags]; classifier NME or FC
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
launch train_incremental.py "dataset modality classifier" "$@" --method icarl
