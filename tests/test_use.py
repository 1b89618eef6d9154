"""What is done with a trained model: naming new clips, and drawing where it looks."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import extract_audios_frames
import extract_pretrained_features
import make_demo_clips
import predict
import train_incremental
import visualize_attention
from dataloader import open_data
from engine.evaluate import predict as predict_split
from engine.registry import find_method, method_names
from engine.trained import load_trained
from extraction.ffmpeg import find_ffmpeg
from reporting.attention_figure import Row, attention_figure
from reporting.style import figure_style
from tests.helpers import tiny
from tests.helpers.tiny import refused


def run_of(root, method, *flags):
    tiny.train(root, method, *flags)
    return str(root / "run")


@pytest.mark.parametrize("method", method_names())
def test_every_method_predicts_what_it_was_tested_with(tmp_path, capsys, method):
    tiny.make(tmp_path)
    for modality in find_method(method).modalities:
        run = run_of(tmp_path, method, "--modality", modality)
        data = open_data("tiny", modality, data_root=tmp_path)
        clips = data.clips("test", slice(0, 4))
        output = str(tmp_path / "predictions.csv")
        flags = ["--run", run, "--step", "1", "--data", str(tmp_path / "tiny"), "--top", "1", "--output", output]
        # Ids of this data begin with a hyphen.
        predict.main([*flags, "--", *(data.ids[clip] for clip in clips)])
        found = [row["class"] == data.classes[data.label[clip]] for row, clip in zip(rows(output), clips, strict=True)]
        results = json.loads((tmp_path / "run" / "results.json").read_text())
        assert sum(found) / len(found) == results["accuracy_per_step"][1]
        # What the run kept is what the network says again, but for half precision: 11 bits of differences below 8.
        expected = rows(output)
        predict.main(["--run", run, "--step", "1", "--kept", "--top", "1", "--output", output])
        assert [row["clip"] for row in rows(output)] == [row["clip"] for row in expected]
        assert [row["class"] for row in rows(output)] == [row["class"] for row in expected]
        of_both = zip(rows(output), expected, strict=True)
        assert all(float(a["probability"]) == pytest.approx(float(b["probability"]), rel=2**-8) for a, b in of_both)
    assert f"Wrote 16 rows on 16 clips to {output}" in capsys.readouterr().out


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Video clips, their features, and a run on them."""
    root = tmp_path_factory.mktemp("clips")
    roots = ["--data_root", str(root / "data"), "--raw_root", str(root / "raw")]
    make_demo_clips.main([*roots, "--train", "4", "--val", "1", "--test", "1"])
    extract_audios_frames.main(["--dataset", "dial_tones", *roots, "--sample_rate", "8000"])
    encoders = ["--audio_encoder", "logmel", "--visual_encoder", "patches", "--num_workers", "0"]
    extract_pretrained_features.main(["--dataset", "dial_tones", *roots, *encoders])
    flags = ["--dataset", "dial_tones", "--data_root", str(root / "data"), "--max_epochs", "3"]
    train_incremental.main([*flags, "--train_batch_size", "8", "--run_dir", str(root / "run")])
    return root


def test_new_clips_get_the_class_their_features_get(clips, capsys):
    data = open_data("dial_tones", data_root=clips / "data")
    trained = load_trained(str(clips / "run"))
    trained.learner.data, trained.learner.args.infer_batch_size = data, 64
    numbers, _, expected = predict_split(trained.learner, "test", slice(0, 10))
    videos = [str(clips / "raw" / "dial_tones" / "videos" / f"{data.ids[number]}.mp4") for number in numbers]
    capsys.readouterr()
    predict.main(["--run", str(clips / "run"), *videos, "--top", "2", "--output", str(clips / "p.csv")])
    best = [row for row in rows(clips / "p.csv") if row["rank"] == "1"]
    assert [row["class"] for row in best] == [data.classes[label] for label in expected]
    assert all(0.1 <= float(row["probability"]) <= 1 for row in best)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 11 and printed[0].startswith(videos[0])


def test_a_clip_without_sound_does_not_stop_the_others(clips, capsys):
    import subprocess

    video = next((clips / "raw" / "dial_tones" / "videos").iterdir())
    silent = clips / "silent.mp4"
    command = [find_ffmpeg(), "-nostdin", "-y", "-loglevel", "error", "-i", video, "-an", "-c", "copy", silent]
    subprocess.run(command, check=True)
    with pytest.raises(SystemExit) as ended:
        predict.main(["--run", str(clips / "run"), str(silent), str(video)])
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(str(video)) and captured.err == f"error: {silent}: no audio track\n"


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_attention_over_frames(clips, capsys, suffix):
    output = clips / f"attention{suffix}"
    data = open_data("dial_tones", data_root=clips / "data")
    flags = ["--run", str(clips / "run"), "--clip", data.ids[0], "--raw_root", str(clips / "raw"), "--steps", "0", "4"]
    capsys.readouterr()
    visualize_attention.main([*flags, "--output", str(output)])
    assert capsys.readouterr().out == f"Wrote {output}: attention of 1 run, 2 rows\n"
    assert output.stat().st_size > 10_000
    if suffix == ".png":
        assert Image.open(output).size[0] > 1500
    before = output.read_bytes()
    visualize_attention.main([*flags, "--output", str(output)])
    assert output.read_bytes() == before


@pytest.mark.parametrize("positions", [4, 49])
def test_the_picture_of_attention_shows_plain_frames_and_whole_numbers(positions):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, 24, 24, 3), dtype=np.uint8)
    # Nearly uniform weights: numbers that differ in the fourth digit.
    temporal = 1 / 8 + 1e-5 * rng.standard_normal((2, 8))
    rows = [Row("AV-CIL", "a class", np.full((8, positions), 1 / positions), each / each.sum()) for each in temporal]
    rows[0].spatial[3, 1] *= 3
    with figure_style():
        figure = attention_figure("a clip", rows, pictures)
        figure.draw_without_rendering()
    plain, first = figure.axes[:8], figure.axes[8:17]
    assert all((axes.get_images()[0].get_array() == frame).all() for axes, frame in zip(plain, pictures, strict=True))
    frame, heat = first[3].get_images()
    # Over the frame, not in its place: clear where attention is least, and never opaque.
    shades = heat.cmap(heat.norm(heat.get_array()))[..., 3].ravel()
    assert shades[0] == 0 and shades[1] == shades.max() == pytest.approx(0.8)
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height
    bars, labels = [bar.get_height() for bar in first[8].patches], first[8].get_yticklabels()
    np.testing.assert_allclose(bars, 100 * (8 * rows[0].temporal - 1), atol=1e-9)
    texts = [text.get_text() for text in labels]
    assert texts[1] == "0" and texts[0][0] == "-" and texts[2][0] == "+" and len(set(texts)) == 3
    assert not first[8].yaxis.get_offset_text().get_text()


def test_attention_is_that_of_the_network(clips):
    args = visualize_attention.parse(["--run", str(clips / "run"), "--clip", open_data_ids(clips)[0]])
    args.steps = [1]
    (row,) = visualize_attention.rows_of(str(clips / "run"), args)
    assert row.spatial.shape == (8, 4) and row.temporal.shape == (8,)
    assert abs(row.spatial.sum(1) - 1).max() < 1e-5 and abs(row.temporal.sum() - 1) < 1e-5


def open_data_ids(clips):
    return open_data("dial_tones", data_root=clips / "data").ids


REFUSED = {
    "no run": (predict, ["--run", "{root}", "a.mp4"], "not the folder of a run"),
    "no step": (predict, ["--run", "{root}/run", "--step", "9", "--data", "{root}/tiny", "x"], "no such step"),
    "no clip": (predict, ["--run", "{root}/run", "nowhere.mp4"], "no such video file"),
    "no id": (predict, ["--run", "{root}/run", "--data", "{root}/tiny", "x"], "no feature for 'x'"),
    "no folder": (predict, ["--run", "{root}/run", "--data", "{root}/none", "x"], "no such folder"),
    "no clips": (predict, ["--run", "{root}/run"], "no clips given"),
    "no test clip": (predict, ["--run", "{root}/run", "--kept", "x"], "has no test clip 'x'"),
    "no scores": (predict, ["--run", "{root}/run", "--step", "0", "--kept"], "no scores were kept; train again"),
    "kept or not": (predict, ["--run", "{root}/run", "--kept", "--data", "d"], "give one of the two"),
    "no weights": (predict, ["--run", "{root}/run", "{root}/a.mp4"], "pass the file as --audio_checkpoint"),
    "attention of no clip": (visualize_attention, ["--run", "{root}/run", "--clip", "x"], "has no such id"),
    "format": (
        visualize_attention,
        ["--run", "{root}/run", "--clip=-train_0_0", "--output", "{root}/a.gif"],
        "not a .svg, .pdf, .png file",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_said_in_a_line(tmp_path, case):
    tiny.make(tmp_path)
    run_of(tmp_path, "avcil")
    (tmp_path / "run" / "scores" / "step_0.npz").unlink()
    (tmp_path / "a.mp4").write_bytes(b"no clip")
    command, flags, line = REFUSED[case]
    assert line in refused(tmp_path, *(flag.format(root=tmp_path) for flag in flags), main=command.main)


def test_names_of_classes_do_not_steer_the_terminal_nor_a_spreadsheet(tmp_path, capsys):
    """Splits with such names are refused; a run of somebody else may have them."""
    tiny.make(tmp_path)
    names = ["\x1b[2Jgone", "=1+1", "turned\u202e", "plain", "-5+cmd", "@sum"]
    run = run_of(tmp_path, "fine_tuning")
    path = Path(run, "checkpoints", "step_2.pt")
    torch.save(torch.load(path, weights_only=True) | {"classes": names}, path)
    output = tmp_path / "p.csv"
    capsys.readouterr()
    flags = ["--run", run, "--data", str(tmp_path / "tiny"), "--top", "6", "--output", str(output)]
    predict.main([*flags, "--", "-test_0_0"])
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable() and "\\x1b[2Jgone" in printed
    classes = {row["class"] for row in rows(output)}
    assert classes == {"\x1b[2Jgone", "'=1+1", "turned\u202e", "plain", "'-5+cmd", "'@sum"}
    assert {row["clip"] for row in rows(output)} == {"-test_0_0"}  # an id as it is


def test_attention_of_a_run_that_has_none(tmp_path):
    tiny.make(tmp_path)
    run = run_of(tmp_path, "lwf", "--modality", "audio")
    flags = ["--run", run, "--clip=-train_0_0"]
    assert "audio runs of lwf have no attention" in refused(tmp_path, *flags, main=visualize_attention.main)


def test_tensorboard_has_every_number(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tiny.make(tmp_path)
    tiny.train(tmp_path, "avcil", "--tensorboard")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    lines = [line.split(",") for line in (tmp_path / "run" / "epochs.csv").read_text().splitlines()[1:]]
    for name in {line[2] for line in lines}:
        expected = {2 * int(step) + int(epoch): float(value) for step, epoch, key, value in lines if key == name}
        found = {event.step: event.value for event in events.Scalars(f"epoch/{name}")}
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [event.value for event in events.Scalars("step/accuracy")] == pytest.approx(results["accuracy_per_step"])
