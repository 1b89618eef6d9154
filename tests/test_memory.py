"""What a step may read of earlier classes: never more clips than the memory holds, class means included."""

from unittest import mock

import numpy as np
import pytest

from dataloader import IncrementalData
from engine import herding
from engine.gradient import GradientLearner
from engine.herding import HerdingLearner
from engine.registry import find_method, method_names
from tests.helpers import tiny
from utils.exemplars import class_mean

METHODS = [name for name in method_names() if find_method(name).has_epochs and name != "upper_bound"]
RUNS = [(method, classifier, "released", 17) for method in METHODS for classifier in find_method(method).classifiers]
RUNS += [(method, "NME", "corrected", memory) for method, memory in (("icarl", 17), ("afc", 40))]
RUNS += [("icarl", "NME", "released", memory) for memory in (6, 40)]


class Reads:
    """Counts, step by step, the training clips of old classes that are read, and the clips behind class means."""

    def __init__(self):
        self.task, self.old, self.behind_means = None, [], []

    def begin(self, begin_task):
        def wrapped(learner, task):
            self.task = task
            self.old.append(set())
            return begin_task(learner, task)

        return wrapped

    def load(self, load):
        def wrapped(data, clips, *args):
            train = data.split[clips] == 0
            self.old[-1] |= set(clips[train & (data.label[clips] < self.task.start)].tolist())
            return load(data, clips, *args)

        return wrapped

    def prepare(self, prepare_scores):
        def wrapped(learner, task):
            self.behind_means.append(0)
            return prepare_scores(learner, task)

        return wrapped

    def class_mean(self, features, *args):
        self.behind_means[-1] += len(features)
        return class_mean(features, *args)


@pytest.mark.parametrize(("method", "classifier", "variant", "memory"), RUNS)
def test_no_step_reads_more_exemplars_than_the_memory_holds(tmp_path, method, classifier, variant, memory):
    tiny.make(tmp_path)
    reads = Reads()
    modality = find_method(method).modalities[0]
    flags = ["--classifier", classifier, "--variant", variant, "--modality", modality]
    with (
        mock.patch.object(GradientLearner, "begin_task", reads.begin(GradientLearner.begin_task)),
        mock.patch.object(IncrementalData, "load", reads.load(IncrementalData.load)),
        mock.patch.object(HerdingLearner, "prepare_scores", reads.prepare(HerdingLearner.prepare_scores)),
        mock.patch.object(herding, "class_mean", reads.class_mean),
    ):
        tiny.train(tmp_path, method, *flags, "--memory_size", str(memory))
    old = np.array([len(clips) for clips in reads.old])
    assert len(old) == 3 and (old <= memory).all()
    assert (old[1:] > 0).all() if find_method(method).replay != "none" else not old.any()
    assert max(reads.behind_means, default=0) <= memory
    assert (min(reads.behind_means) > 0) if classifier == "NME" else not any(reads.behind_means)
