#!/bin/sh
# Features of a data set's clips: sh extract_pretrained_features.sh 'dataset' [flags]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
launch extract_pretrained_features.py "dataset" "$@"
