#!/bin/sh
# Features of a data set's clips: sh extract_pretrained_features.sh 'AVE' [further options, see --help]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=python3
[ -x "$here/.venv/bin/python" ] && python=$here/.venv/bin/python
case ${1-} in
  "") echo "usage: sh $0 'data set' [options]; see sh $0 --help" >&2; exit 2 ;;
  -*) exec "$python" "$here/extract_pretrained_features.py" "$@" ;;
esac
dataset=$1
shift
exec "$python" "$here/extract_pretrained_features.py" --dataset "$dataset" "$@"
