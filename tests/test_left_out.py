"""Flags that change nothing in a run: left out of it where methods share them, refused where they are its own."""

import re

import pytest

import run_all
import train_incremental
from engine.options import parse, resolve
from engine.run_identity import run_path
from tests.helpers import tiny
from tests.helpers.tiny import refused
from utils.exemplars import ExemplarMemory

# Shared flags, and the methods to which they mean something.
REPLAYING = {"icarl", "afc", "ssil", "avcil", "cign"}
PAIRED = {"ssil", "avcil", "cign"}
IN_EPOCHS = REPLAYING | {"fine_tuning", "lwf", "upper_bound"}
USED_BY = {
    ("--max_epochs", "9"): IN_EPOCHS,
    ("--lr", "0.5"): IN_EPOCHS,
    ("--weight_decay", "0.5"): IN_EPOCHS,
    ("--train_batch_size", "9"): IN_EPOCHS,
    ("--milestones", "5"): IN_EPOCHS,
    ("--lr_decay", "0.5"): IN_EPOCHS,
    ("--memory_size", "60"): REPLAYING,
    ("--memory_per_class", "7"): REPLAYING,
    ("--exemplar_batch_size", "9"): PAIRED,
    ("--variant", "corrected"): REPLAYING,
}
# Flags that change no run, but what it keeps.
KEEPING = {("--probe_gradients", "5"): IN_EPOCHS, ("--save_features",): IN_EPOCHS - {"cign"}}


def chosen(*flags):
    args, method = parse(["--dataset", "tiny", *flags])
    return resolve(args, tiny.CLASSES), method


@pytest.mark.parametrize("flag", USED_BY, ids=" ".join)
def test_a_shared_flag_names_the_runs_of_the_methods_that_use_it(flag):
    for method in {*IN_EPOCHS, "analytic"}:
        plain = run_path(*chosen("--method", method))
        args, learner = chosen("--method", method, *flag)
        assert (flag[0] in args.left_out) == (method not in USED_BY[flag]), method
        assert (run_path(args, learner) == plain) == (method not in USED_BY[flag]), method


@pytest.mark.parametrize("flag", KEEPING, ids=" ".join)
def test_a_flag_that_keeps_more_is_left_out_where_there_is_nothing_to_keep(flag):
    for method in {*IN_EPOCHS, "analytic"}:
        args, learner = chosen("--method", method, *flag)
        assert (flag[0] in args.left_out) == (method not in KEEPING[flag]), method
        assert run_path(args, learner) == run_path(*chosen("--method", method))


def test_the_closed_form_of_a_trained_network_has_epochs():
    assert not chosen("--method", "analytic", "--analytic_trunk", "both", "--max_epochs", "9")[0].left_out


def test_what_is_left_out_is_said_and_not_recorded(tmp_path):
    tiny.make(tmp_path)
    printed, results = tiny.train(tmp_path, "fine_tuning", "--exemplar_batch_size", "9", "--variant", "corrected")
    assert "--exemplar_batch_size is left out: fine_tuning has no batches of exemplars alone" in printed
    assert "--variant is left out: fine_tuning is the same in both" in printed
    assert results["arguments"]["variant"] == "released"
    assert "exemplar_batch_size" in results["arguments"]["without_effect"]


@pytest.mark.parametrize(
    ("method", "flags", "parts"),
    [
        ("avcil", ["--lam_I", "1", "--no-instance_contrastive"], ["--lam_I", "without --instance_contrastive"]),
        ("avcil", ["--lam", "0.1", "--no-attn_score_distil"], ["--lam", "without --attn_score_distil"]),
        ("avcil", ["--class_token_temperature", "2"], ["without --class_token_distillation"]),
        ("avcil", ["--lam", "1.5"], ["--lam", "a number from 0 to 1"]),
        ("avcil", ["--lam_C", "-1"], ["--lam_C", "a number of 0 or more"]),
        ("avcil", ["--class_contrastive_temperature", "0"], ["a number above 0"]),
        ("afc", ["--nca_margin", "0.1"], ["--nca_margin", "--variant corrected"]),
        ("afc", ["--lam_disc", "-0.5"], ["--lam_disc", "a number of 0 or more"]),
        ("analytic", ["--heads", "2", "--modality", "audio"], ["--heads"]),
        ("analytic", ["--heads", "0", "--sharpness", "2"], ["--sharpness", "--heads 0"]),
        ("lwf", ["--lr_decay", "1.5"], ["--lr_decay", "of 1 at most"]),
        ("lwf", ["--milestones", "1", "2"], ["--milestones 2", "the 2 epochs of a step", "below 2"]),
        ("lwf", ["--lr_decay"], ["--milestones 100"]),
        ("ssil", ["--memory_per_class", "3"], ["--memory_per_class", "not allowed with", "--memory_size"]),
    ],
)
def test_one_line_before_anything_runs(tmp_path, method, flags, parts):
    tiny.make(tmp_path)
    line = refused(tmp_path, *flags, method=method)
    assert all(part in line for part in parts), line


def test_so_many_exemplars_of_each_class(tmp_path):
    tiny.make(tmp_path)
    memory = ExemplarMemory(None, 3)
    assert memory.quota(2) == memory.quota(100) == 3
    flags = [flag for flag in tiny.flags(tmp_path, "ssil") if flag not in ("--memory_size", "18")]
    args, method = parse([*flags, "--memory_per_class", "3"])
    args = resolve(args, tiny.CLASSES)
    assert args.memory_size is None and run_path(args, method).endswith("max_epochs-2_memory_per_class-3_num_classes-6")


@pytest.mark.parametrize("method", ["ssil", "icarl"])
def test_a_run_keeps_so_many_of_each_class(tmp_path, method, capsys):
    tiny.make(tmp_path)
    flags = ["--dataset", "tiny", "--data_root", str(tmp_path), "--run_dir", str(tmp_path / "run"), "--max_epochs", "1"]
    train_incremental.main(["--method", method, *flags, "--classes_per_step", "2", "--memory_per_class", "3"])
    printed = capsys.readouterr().out
    assert "3 exemplars of each class" in printed
    assert [int(count) for count in re.findall(r"clips, (\d+) exemplars", printed)] == [6, 12]


def test_a_sweep_gives_each_method_what_it_uses_and_says_so(tmp_path, capsys):
    tiny.make(tmp_path)
    flags = ["--dataset", "tiny", "--data_root", str(tmp_path), "--save_root", str(tmp_path / "save")]
    flags += ["--modalities", "audio-visual", "--methods", "fine_tuning", "ssil", "analytic"]
    runs = run_all.planned(*run_all.read([*flags, "--memory_size", "60", "--max_epochs", "5"]))
    assert ["memory_size" in run.folder for run in runs] == [False, True, False]
    assert ["max_epochs" in run.folder for run in runs] == [True, True, False]
    run_all.say_left_out(runs)
    said = capsys.readouterr().out.splitlines()
    assert "--max_epochs is left out where analytic has no epochs" in said
    assert len(said) == 2 and said[1].startswith("--memory_size is left out where fine_tuning keeps")
