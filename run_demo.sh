#!/bin/sh
# The demonstration, from nothing to a table of accuracies: sh run_demo.sh [--all]
# It trains fine-tuning, AV-CIL and the upper bound; --all adds the other methods.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
case ${1-} in
'' | --all) ;;
*)
    echo "error: $1 is not an option of run_demo.sh; usage: sh run_demo.sh [--all]" >&2
    exit 2
    ;;
esac
# shellcheck source=utils/launch.sh
. "$here/utils/launch.sh"
choose_python

methods="fine_tuning:linear avcil:linear upper_bound:linear"
if [ "${1-}" = --all ]; then
    # Asked of the project, so that a new file in methods/ takes part.
    methods=$(cd "$here" && "$python" -c '
from engine.registry import find_method, method_names
for name in method_names():
    method = find_method(name)
    if "audio-visual" in method.modalities:
        print(*(f"{name}:{classifier}" for classifier in method.classifiers), sep="\n")
')
fi

data=dial_tones
echo "1. Clips: handwritten digits drift by while their dial tones sound"
"$python" "$here/make_demo_clips.py"
echo "2. Their sound and frames"
sh "$here/extract_audios_frames.sh" $data --sample_rate 8000
echo "3. Features"
sh "$here/extract_pretrained_features.sh" $data --audio_encoder logmel --visual_encoder patches
# One thread: the same table on machines of any number of cores, and little slower at this size.
export OMP_NUM_THREADS=1
echo "4. Training in 5 steps of 2 classes"
set --
for each in $methods; do
    run=$here/save/demo/${each%:*}-${each#*:}
    set -- "$@" "$run"
    "$python" "$here/train_incremental.py" --method "${each%:*}" --classifier "${each#*:}" --dataset $data \
        --max_epochs 30 --train_batch_size 25 --exemplar_batch_size 25 --run_dir "$run" --overwrite
done
echo
echo "Test accuracy on all classes seen, after each step:"
"$python" "$here/report.py" "$@"
echo "Logs, curves and checkpoints are in $here/save/demo"
