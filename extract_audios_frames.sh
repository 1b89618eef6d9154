#!/bin/sh
# Sound and frames of a data set's clips: sh extract_audios_frames.sh 'dataset' [flags]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
launch extract_audios_frames.py "dataset" "$@"
