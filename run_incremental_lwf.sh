#!/bin/sh
# LwF: sh run_incremental_lwf.sh 'dataset' 'modality' [flags]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
case ${2-}/${3-} in
*/ | -*/* | */-*) launch train_incremental.py "dataset modality" "$@" --method lwf ;;
*)
    # Older instructions run iCaRL this way.
    echo "With a classifier ($3) this is iCaRL: running run_incremental_icarl.sh"
    launch train_incremental.py "dataset modality classifier" "$@" --method icarl
    ;;
esac
