#!/bin/sh
# Sound and frames of a data set's clips: sh extract_audios_frames.sh 'AVE' [further options, see --help]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=python3
[ -x "$here/.venv/bin/python" ] && python=$here/.venv/bin/python
case ${1-} in
  "") echo "usage: sh $0 'data set' [options]; see sh $0 --help" >&2; exit 2 ;;
  -*) exec "$python" "$here/extract_audios_frames.py" "$@" ;;
esac
dataset=$1
shift
exec "$python" "$here/extract_audios_frames.py" --dataset "$dataset" "$@"
