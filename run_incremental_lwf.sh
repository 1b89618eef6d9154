#!/bin/sh
# LwF: sh run_incremental_lwf.sh 'dataset' 'modality' [flags]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
case ${3-} in
'' | -*) launch lwf "dataset modality" "$@" ;;
*)
    # Older instructions run iCaRL this way.
    echo "With a classifier ($3) this is iCaRL: running run_incremental_icarl.sh"
    launch icarl "dataset modality classifier" "$@"
    ;;
esac
