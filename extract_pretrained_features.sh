#!/bin/sh
# Features of a data set's clips: sh extract_pretrained_features.sh 'dataset' [flags]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
case ${1-} in
'')
    echo "error: no dataset given; usage: sh extract_pretrained_features.sh 'dataset' [flags of extract_pretrained_features.py]" >&2
    exit 2
    ;;
-*) ;;
*)
    dataset=$1
    shift
    set -- --dataset "$dataset" "$@"
    ;;
esac
exec "$python" "$here/extract_pretrained_features.py" "$@"
