#!/bin/sh
# Fine-tuning: sh run_incremental_fine_tuning.sh 'dataset' 'modality' [flags]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
launch fine_tuning "dataset modality" "$@"
