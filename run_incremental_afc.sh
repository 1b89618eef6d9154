#!/bin/sh
# AFC: sh run_incremental_afc.sh 'dataset' 'modality' 'classifier' [flags]; classifier NME or LSC
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
launch train_incremental.py "dataset modality classifier" "$@" --method afc
