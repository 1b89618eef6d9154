"""Records what a run draws, keeps and computes, step by step, in the form of the traces of the released code."""

import contextlib
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
import torch

from engine import evaluate
from engine.gradient import GradientLearner
from methods import afc

FIRST = 8  # of a batch's ids
random_ = torch.Tensor.random_


@dataclass
class Tracer:
    """Records a run from outside: wraps what plans batches, trains an epoch and predicts."""

    steps: list = field(default_factory=lambda: [{}])
    int_draws: int = 0

    @contextlib.contextmanager
    def recording(self):
        """Within, one run of train_incremental is recorded."""
        with (
            mock.patch.object(GradientLearner, "epoch_plan", self._planned(GradientLearner.epoch_plan)),
            mock.patch.object(GradientLearner, "train_epoch", self._trained(GradientLearner.train_epoch)),
            mock.patch.object(evaluate, "predict", self._predicted(evaluate.predict)),
            mock.patch.object(afc, "shuffled_pass", self._imprinted(afc.shuffled_pass)),
            mock.patch.object(torch.Tensor, "random_", self._drawn()),
        ):
            yield

    @property
    def step(self):
        return self.steps[-1]

    def _drawn(self):
        def counted(tensor, *args, **kwargs):
            self.int_draws += 1
            return random_(tensor, *args, **kwargs)

        return counted

    def _planned(self, epoch_plan):
        def recorded(learner, task):
            plan = epoch_plan(learner, task)
            clips, replayed = plan[0]
            new, exemplars = np.split(clips, [len(clips) - replayed])
            for name, batch in (("first_batch", new), ("first_exemplar_batch", exemplars)):
                if len(batch) and name not in self.step:
                    self.step[name] = [learner.data.ids[clip] for clip in batch[:FIRST]]
                    self.step[f"{name}_size"] = len(batch)
            return plan

        return recorded

    def _imprinted(self, shuffled_pass):
        def recorded(clips, size):
            plan = shuffled_pass(clips, size)
            self.step["imprint_plan"] = [batch for batch, _ in plan]
            return plan

        return recorded

    def _trained(self, train_epoch):
        def recorded(learner, *args):
            terms = train_epoch(learner, *args)
            self.step.setdefault("train_loss", []).append(sum(terms.values()))
            return terms

        return recorded

    def _predicted(self, predict):
        def recorded(learner, split, *args):
            prediction = predict(learner, split, *args)
            _, labels, classes_predicted = prediction
            correct = labels == classes_predicted
            if split == "val":
                self.step.setdefault("val", []).append(int(correct.sum()))
                self.step["val_total"] = len(labels)
            else:
                self._finish_step(learner, labels, correct)
            return prediction

        return recorded

    def _finish_step(self, learner, labels, correct):
        stops = np.cumsum(learner.sizes) if hasattr(learner, "sizes") else []
        starts = np.concatenate(([0], stops[:-1])).astype(int)
        self.step.update(
            best_epoch=int(np.argmax(self.step["val"])),
            test=int(correct.sum()),
            test_total=len(labels),
            test_by_task=[
                int(correct[(labels >= start) & (labels < stop)].sum())
                for start, stop in zip(starts, stops, strict=True)
            ],
            exemplars=[
                [int(video.rpartition("_")[2]) for video in learner.memory.clips[label]]
                for label in sorted(learner.memory.clips)
            ],
            next_int_draw=peek_int_draw(),
            next_numpy_draw=peek_numpy_draw(),
        )
        if getattr(learner, "class_means", None) is not None:
            self.step["class_mean_norms"] = learner.class_means.norm(dim=1).tolist()
        plan = self.step.pop("imprint_plan", None)
        if plan is not None:
            new = np.bincount(learner.data.label[np.concatenate(plan)], minlength=stops[-1])[starts[-1] :]
            first = [learner.data.ids[clip] for clip in plan[0][:FIRST]]
            self.step.update(imprint_batch=first, imprint_batch_size=len(plan[0]), imprint_clips=new.tolist())
        self.steps.append({})


def peek_int_draw():
    """What torch's default generator would give next as an integer; it stays where it is."""
    state = torch.get_rng_state()
    value = random_(torch.empty((), dtype=torch.int64)).item()
    torch.set_rng_state(state)
    return value


def peek_numpy_draw():
    """What numpy's global generator would give next; it stays where it is."""
    state = np.random.get_state()
    value = np.random.random_sample()
    np.random.set_state(state)
    return value
