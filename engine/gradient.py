"""Methods that learn by gradient descent: epochs over batches, and the best epoch by validation."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from dataloader import Batch, IncrementalData
from engine.epoch_state import EpochState
from engine.evaluate import accuracy
from engine.learner import Learner
from engine.registry import find_network
from engine.step_log import StepLog, logger
from engine.tasks import Task
from engine.updates import Updates
from model.heads import GrowingLinear
from model.network import PRECISIONS
from utils.datasets import find_dataset
from utils.errors import InputError
from utils.exemplars import ExemplarMemory, choose_randomly
from utils.seeding import Batches, paired_pass, shuffled_pass


class GradientLearner(Learner):
    """Minimise the sum of ``losses(batch, task)`` with Adam; keep the epoch with the best validation accuracy.

    A method says how it replays exemplars: not at all (``none``), mixed with the new clips (``merged``), or as a batch
    of their own beside each batch of new clips (``paired``); and whether it needs the frozen network of the step before
    (``has_teacher``).
    """

    has_epochs = has_features = True
    precisions = ("auto", "fp32", "tf32", "bf16")
    has_teacher = False
    head = GrowingLinear  # the class of the classifier

    def __init__(self, args: Any, data: IncrementalData, device: torch.device):
        super().__init__(args, data, device)
        # Each an nn.Module of the class that --network names, with what the method needs of it, once there is one.
        self.network: Any = None
        self.teacher: Any = None
        self.teacher_cache: TeacherCache | None = None
        self.sizes: list[int] = []  # classes added to the head at each step
        # Runs of earlier versions have no such option.
        self.memory = ExemplarMemory(args.memory_size, getattr(args, "memory_per_class", None))

    # What a method writes.

    def losses(self, batch: Batch, task: Task) -> dict[str, torch.Tensor]:
        """Named scalar losses of a batch, whose sum is minimised. By default cross-entropy over all classes seen."""
        logits = self.forward(self.network, batch)["logits"]
        return {"cross_entropy": F.cross_entropy(logits, batch.label)}

    def scores(self, batch: Batch) -> torch.Tensor:
        self.network.eval()
        return self.forward(self.network, batch)["logits"]

    def features(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.network.eval()
        outputs = self.forward(self.network, batch)
        return {name: outputs[name] for name in ("feature", "audio", "visual") if name in outputs}

    # What a method may change.

    @classmethod
    def needs_of_network(cls, args: Any) -> set[str] | None:
        return {"logits"}

    def training_clips(self, task: Task) -> np.ndarray:
        """Indices of the clips that an epoch goes through once."""
        return self.data.clips("train", task.new)

    def choose_exemplars(self, task: Task, quota: int) -> dict[int, list[str]]:
        """Up to ``quota`` clips to keep of each new class, best first: {class: ids}."""
        return {label: choose_randomly(videos, quota) for label, videos in self.data.ids_by_class(task.new).items()}

    def teacher_outputs(self, batch: Batch) -> dict[str, torch.Tensor]:
        """What the losses need of the teacher, a row per clip; computed once a step (``cached_outputs``)."""
        return {"logits": self.forward(self.teacher, batch)["logits"]}

    def grow_head(self, task: Task) -> None:
        """Make room in the classifier for the new classes."""
        self.network.classifier.grow(task.num_new)

    def milestones(self, task: Task) -> list[int]:
        """Epochs before which the learning rate is multiplied by ``--lr_decay``."""
        return self.args.milestones

    def prepare_scores(self, task: Task) -> None:
        """Called after every epoch, before validation."""

    # What all of them share.

    def new_network(self, num_classes: int) -> nn.Module:
        """A freshly initialised network for ``num_classes`` classes."""
        self.sizes = [num_classes]
        data = self.data
        precision = PRECISIONS[self.args.precision]
        network_class = find_network(getattr(self.args, "network", None))  # earlier runs have no such option
        network = network_class(self.args.modality, num_classes, data.audio_dim, data.visual_dim, self.head, precision)
        return network.to(self.device)

    def forward(self, network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        return network(batch.audio, batch.visual)

    def batches(self, clips: np.ndarray) -> Iterator[Batch]:
        """The Batch objects of ``clips`` (indices) in order, of the size for inference."""
        size = self.args.infer_batch_size
        return self.data.batches([clips[start : start + size] for start in range(0, len(clips), size)])

    def cache_teacher(self, task: Task) -> None:
        """Compute ``teacher_outputs`` of every clip that the epochs of ``task`` use."""
        clips = np.union1d(self.training_clips(task), self.exemplars())
        self.teacher_cache = TeacherCache.compute(self.teacher_outputs, clips, self.batches(clips), self.device)

    def cached_outputs(self, batch: Batch) -> dict[str, torch.Tensor]:
        """``teacher_outputs`` of the clips of ``batch``."""
        assert self.teacher_cache is not None  # made before the first epoch of a step
        return self.teacher_cache.rows(batch.index)

    def begin_task(self, task: Task) -> None:
        if task.index == 0:
            self.network = self.new_network(task.stop)
            return
        if self.has_teacher:
            self.teacher = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.grow_head(task)
        self.sizes.append(task.num_new)

    def fit_task(self, task: Task, log: StepLog) -> None:
        """Train for ``max_epochs``; the network ends as it was after the best one (the first, among equals)."""
        clips = self.training_clips(task), self.exemplars(), self.data.clips("val", task.seen)
        self.data.prefetch(np.concatenate(clips), later=self.data.clips("test", task.seen))
        if self.has_teacher and task.index > 0:
            self.cache_teacher(task)
        epochs = EpochState(self, self.milestones(task))
        log.resume(epochs.restore)
        updates = Updates(self, task, epochs.optimiser)
        for epoch in log.epochs(self.args.max_epochs):
            lr = epochs.optimiser.lr = epochs.lr(epoch)
            terms = self.train_epoch(task, updates, epoch)
            self.prepare_scores(task)
            val_accuracy = accuracy(self, "val", task.seen)
            log.epoch(epoch, terms, val_accuracy, lr, updates.probed)
            epochs.keep_if_best(val_accuracy)
            log.save(epoch, epochs.snapshot)
        assert epochs.best is not None  # there was an epoch
        self.restore(epochs.best)
        if epochs.best_accuracy <= 1 / task.stop:
            logger.warning(
                f"step {task.index}: no epoch did better on validation than guessing; see --lr and --max_epochs"
            )

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that the optimiser changes."""
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]

    def train_epoch(self, task: Task, updates: Updates, epoch: int) -> dict[str, float]:
        """One pass over the training clips. Returns the mean of each loss term over the batches."""
        self.network.train()
        plan = self.epoch_plan(task)
        updates.probe(plan, epoch)
        values = updates.epoch(plan).double().cpu()
        self.check_finite(values, updates.names, plan, f"step {task.index}, epoch {epoch}")
        return dict(zip(updates.names, values.mean(0).tolist(), strict=True))

    def check_finite(self, values: torch.Tensor, names: list[str], plan: list, where: str) -> None:
        """InputError naming the first batch (a row of ``values``) in which a loss term is not finite."""
        bad = (~values.isfinite()).any(1).nonzero()
        if len(bad):
            number = int(bad[0])
            clips = [self.data.ids[clip] for clip in plan[number][0][:5]]
            terms = ", ".join(f"{name} {value:g}" for name, value in zip(names, values[number].tolist(), strict=True))
            raise InputError(
                f"{where}, batch {number}: the loss is not finite ({terms}; clips {', '.join(clips)}, ...); lower --lr"
            )

    def epoch_plan(self, task: Task) -> Batches:
        """The batches of an epoch."""
        args, clips = self.args, self.training_clips(task)
        if self.replay == "paired" and task.index > 0:
            sizes = args.train_batch_size, args.exemplar_batch_size
            workers = find_dataset(args.dataset).workers and args.modality != "audio"
            return paired_pass(clips, self.exemplars(), *sizes, workers, reshuffle=args.variant == "corrected")
        return shuffled_pass(clips, args.train_batch_size)

    def exemplars(self) -> np.ndarray:
        """Indices of the clips in memory, class by class."""
        return self.data.indices(self.memory.ids())

    def replayable_clips(self, task: Task) -> np.ndarray:
        return self.exemplars()

    def end_task(self, task: Task) -> None:
        if self.replay != "none":
            self.memory.update(task, self.choose_exemplars)

    def snapshot(self) -> dict[str, Any]:
        """What an epoch changes: kept of the best one."""
        return {"network": self.network.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``snapshot()`` returned."""
        self.network.load_state_dict(state["network"])

    def state(self) -> dict[str, Any]:
        return self.snapshot() | {"sizes": self.sizes, "memory": dict(self.memory.clips)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the network, as wide as it was, and the memory."""
        self.network = self.new_network(state["sizes"][0])
        for size in state["sizes"][1:]:
            self.network.classifier.grow(size)
        self.sizes = list(state["sizes"])
        self.restore(state)
        self.memory.clips = dict(state["memory"])


class TeacherCache:
    """Outputs of the teacher, a dict of tensors with one row for each of ``clips`` (indices into the data)."""

    def __init__(self, clips: np.ndarray, outputs: dict[str, torch.Tensor], device: torch.device):
        self.outputs = outputs
        row_of = np.full(max(clips, default=-1) + 1, -1)
        row_of[clips] = np.arange(len(clips))
        self.row_of = torch.from_numpy(row_of).to(device)

    @classmethod
    @torch.no_grad()
    def compute(
        cls,
        teacher_outputs: Callable[[Batch], dict[str, torch.Tensor]],
        clips: np.ndarray,
        batches: Iterable[Batch],
        device: torch.device,
    ) -> "TeacherCache":
        """The cache of ``teacher_outputs(batch)`` on ``clips``, which ``batches`` bring in this order."""
        parts = [teacher_outputs(batch) for batch in batches]
        return cls(clips, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, device)

    def rows(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs on the clips ``index`` (B,), indices on the device, in their order."""
        rows = self.row_of.index_select(0, index)
        return {name: values.index_select(0, rows) for name, values in self.outputs.items()}
