#!/usr/bin/env python3
"""What each modality is worth to a run: its accuracy with the audio or the visual features of test clips replaced.

    python analyse_modalities.py --run save/AVE/avcil-linear_audio-visual_released_seed42

After each step of which the run keeps a checkpoint, the features of one modality are replaced by zeros, by their mean
over training clips, by those of another test clip of the same class, and of another class. Prints accuracies after each
step and what each modality adds to each class, and writes modalities.csv (counts by class) and a picture to the run's
folder, where report.py finds the counts.
"""

if __name__ == "__main__":
    from utils.environment import enter_environment

    enter_environment()

import os
from dataclasses import replace

import numpy as np
import torch
from tqdm import tqdm

from engine.checkpoints import kept_steps
from engine.replaced import MODALITIES, REPLACEMENTS, UNCHANGED, across_classes, within_classes, write_counts
from engine.run_files import STEPS
from engine.trained import load_trained
from features.store import open_features
from features.tokens import Tokens
from splits.formats import read_splits
from splits.select import choose_classes, drop_missing
from utils.command_line import DATA_ROOT, OneLineParser, seed
from utils.datasets import dataset_folder
from utils.devices import choose_device
from utils.errors import InputError, command, printable, say
from utils.files import read_lines

CLIPS_AT_ONCE = 32
MEAN_CLIPS = 50  # of a class, at most, that count in the mean over training clips
KEPT_BYTES = 4e9  # of features of test clips, which several cases take


@command
def main(arguments=None):
    args = parse(arguments)
    last = [check(run) for run in args.run]
    from reporting.modalities import draw_counts, tables_of_counts  # matplotlib, once the command line is known right
    from reporting.table_formats import as_text

    for run, trained in zip(args.run, last, strict=True):
        counts = Analysis(run, trained, args).counts()
        folder = args.output or run
        os.makedirs(folder, exist_ok=True)
        name = printable(f"{trained.args.method}, {trained.args.dataset}")
        say(as_text(tables_of_counts(name, [counts])))
        path = write_counts(folder, counts)
        picture = draw_counts(os.path.join(folder, "modalities.png"), name, counts)
        say(f"\nWrote {path} and {picture}")


def parse(arguments):
    parser = OneLineParser(prog="analyse_modalities.py", description="What each modality is worth to a run.")
    parser.add_argument("--run", nargs="+", required=True, help="folders of audio-visual runs")
    parser.add_argument("--seed", type=seed, default=0, help="of which clip takes whose place")
    parser.add_argument("--output", metavar="FOLDER", help="write there; default: into the folder of the run")
    parser.add_argument("--data_root", help="folder of the data sets' folders; default: that of the run")
    parser.add_argument("--device", default="auto", help="auto (CUDA when there), cpu, cuda or cuda:N")
    args = parser.parse_args(arguments)
    if args.output and len(args.run) > 1:
        raise InputError("--output: one folder for several runs; leave it out, or give one run")
    return args


def check(run):
    """The Trained after the last step of ``run``; InputError if it takes one modality alone."""
    trained = load_trained(run)
    if trained.args.modality != "audio-visual":
        raise InputError(f"{run}: learned from {trained.args.modality} features alone, so that nothing can be replaced")
    return trained


class Analysis:
    """The test clips of ``run``, whose last step left ``last`` (engine.trained.Trained), with modalities replaced."""

    def __init__(self, run, last, args):
        self.run, self.last, self.args, self.device = run, last, args, choose_device(args.device)
        self.kept, self.sums, self.mean_count, self.stop = {}, [], 0, 0
        options = last.args
        folder = dataset_folder(args.data_root or options.data_root or DATA_ROOT, options.dataset)
        self.files = {modality: open_features(folder, modality) for modality in MODALITIES}
        splits = read_splits(options.splits or folder)
        classes, self.clips = choose_classes(splits, options.num_classes, options.class_order_seed)
        for file in self.files.values():
            self.clips = drop_missing(file, self.clips, options.allow_missing)
        if classes[: len(last.classes)] != last.classes:
            raise InputError(f"{splits.source}: other classes than the run in {run} learned; put its splits back")

    def counts(self):
        """engine.replaced.Counts of all steps of which there is a checkpoint; says which are missing."""
        steps = kept_steps(os.path.join(self.run, "checkpoints"))
        missing = sorted(set(range(self.last.step)) - set(steps))
        if missing:
            say(f"{self.run}: no checkpoint of step {', '.join(map(str, missing))}; left out")
        cases = [(modality, by) for modality in MODALITIES for by in REPLACEMENTS]
        counts = {case: {} for case in (UNCHANGED, *cases)}
        for step in tqdm(steps, "Steps", unit="step", disable=None, leave=False):
            trained = load_trained(self.run, step, self.device)
            label, right = self._step(trained)
            for case, of_clips in right.items():
                of_class = [of_clips[label == each] for each in range(len(trained.classes))]
                pairs = [(len(each), int(each.sum())) for each in of_class]
                counts[case][step] = dict(zip(trained.classes, pairs, strict=True))
            self._compare(step, right[UNCHANGED].mean())
        return {case: of_steps for case, of_steps in counts.items() if of_steps}

    def _step(self, trained):
        """Labels (N,) of the test clips of ``trained``, and by case whether each is named right, (N,)."""
        part = self.clips["test"]
        clips = sorted((clip for clip in part if part[clip] < len(trained.classes)), key=part.__getitem__)
        label = np.array([part[clip] for clip in clips])
        rng, mean = np.random.default_rng([self.args.seed, trained.step]), self._mean(trained)
        partners = {"same class": within_classes(label, rng), "other class": across_classes(label, rng)}
        if len(trained.classes) == 1:
            del partners["other class"]  # there is none
        right = {}
        for start in range(0, len(clips), CLIPS_AT_ONCE):
            rows = np.arange(start, min(start + CLIPS_AT_ONCE, len(clips)))
            own = self._batch(trained, [clips[row] for row in rows])
            others = {by: self._batch(trained, [clips[row] for row in order[rows]]) for by, order in partners.items()}
            for case, batch in _cases(own, mean, others):
                with torch.no_grad():
                    predicted = trained.learner.scores(batch).argmax(1).cpu().numpy()
                right.setdefault(case, []).append(predicted == label[rows])
        return label, {case: np.concatenate(parts) for case, parts in right.items()}

    def _mean(self, trained):
        """The mean feature of each modality over up to MEAN_CLIPS training clips of each class seen: audio, visual."""
        rng, part = np.random.default_rng(self.args.seed), self.clips["train"]
        for label in range(self.stop, len(trained.classes)):
            of_class = [clip for clip in part if part[clip] == label]
            for clip in rng.permutation(of_class)[:MEAN_CLIPS].tolist():
                batch = trained.batch([{modality: file[clip] for modality, file in self.files.items()}])
                features = [batch.audio[0].double(), batch.visual.tensor()[0].double()]
                self.sums = [a + b for a, b in zip(self.sums or [0, 0], features, strict=True)]
                self.mean_count += 1
        self.stop = len(trained.classes)
        return [(total / self.mean_count).float() for total in self.sums]

    def _batch(self, trained, clips):
        return trained.batch([self._features(clip) for clip in clips])

    def _features(self, clip):
        if clip in self.kept:
            return self.kept[clip]
        features = {modality: file[clip] for modality, file in self.files.items()}
        if (len(self.kept) + 1) * sum(array.nbytes for array in features.values()) <= KEPT_BYTES:
            self.kept[clip] = features
        return features

    def _compare(self, step, accuracy):
        """Say so if the accuracy with nothing replaced is not that of the run: then the features are others."""
        path = os.path.join(self.run, STEPS)
        lines = read_lines(path, "file of steps") if os.path.isfile(path) else []
        found = [part for line in lines[step : step + 1] for part in line.split('"accuracy": ')[1:2]]
        if found and abs(float(found[0].partition(",")[0]) - accuracy) > 1e-9:
            say(f"{self.run}: accuracy {accuracy:.4f} after step {step} is not the run's; other features or device?")


def _cases(own, mean, others):
    """Pairs of a case, (modality, by), and the Batch ``own`` with that modality replaced."""
    yield UNCHANGED, own
    audio, visual = own.audio, own.visual.tensor()
    sources = {"zeros": (torch.zeros_like(audio), torch.zeros_like(visual))}
    sources["mean"] = mean[0].expand_as(audio), mean[1].expand_as(visual)
    sources |= {by: (batch.audio, batch.visual.tensor()) for by, batch in others.items()}
    for by, (other_audio, other_visual) in sources.items():
        yield ("audio", by), replace(own, audio=other_audio)
        yield ("visual", by), replace(own, visual=Tokens.of(other_visual))


if __name__ == "__main__":
    main()
