#!/bin/sh
# Every method, classifier, modality and seed: sh run_all.sh 'dataset' [--seeds 0 1 2] [--methods ...] [flags]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
launch run_all.py "dataset" "$@"
