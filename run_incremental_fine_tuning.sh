#!/bin/sh
# Fine-tuning: sh run_incremental_fine_tuning.sh 'dataset' 'modality' [flags]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
launch train_incremental.py "dataset modality" "$@" --method fine_tuning
