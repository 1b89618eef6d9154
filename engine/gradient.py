"""Methods that learn by gradient descent: epochs over batches, and the best epoch by validation."""

import copy

import numpy as np
import torch
from torch.nn import functional as F

from engine.evaluate import accuracy
from engine.learner import Learner
from engine.step_log import warn
from model.heads import GrowingLinear
from model.network import PRECISIONS, AudioVisualNet
from utils.errors import InputError
from utils.exemplars import ExemplarMemory, choose_randomly, paired_pass, shuffled_pass


class GradientLearner(Learner):
    """Minimise the sum of ``losses(batch, task)`` with Adam; keep the epoch with the best validation accuracy.

    A method says how it replays exemplars: not at all (``none``), mixed with the new clips (``merged``), or as a batch
    of their own beside each batch of new clips (``paired``); and whether it needs the frozen network of the step before
    (``has_teacher``).
    """

    has_epochs = True
    precisions = ("fp32", "tf32", "bf16")
    has_teacher = False
    head = GrowingLinear

    def __init__(self, args, data, device):
        super().__init__(args, data, device)
        self.network = self.teacher = None
        self.lessons = None
        self.sizes = []  # classes added to the head at each step
        self.memory = ExemplarMemory(args.memory_size)

    # What a method writes.

    def losses(self, batch, task):
        """Named scalar losses of a batch, whose sum is minimised. By default cross-entropy over all classes seen."""
        logits = self.forward(self.network, batch)["logits"]
        return {"cross_entropy": F.cross_entropy(logits, batch.label)}

    def scores(self, batch):
        self.network.eval()
        return self.forward(self.network, batch)["logits"]

    # What a method may change.

    def training_clips(self, task):
        """Indices of the clips that an epoch goes through once."""
        return self.data.clips("train", task.new)

    def choose_exemplars(self, task, quota):
        """Up to ``quota`` clips to keep of each new class, best first: {class: ids}."""
        return {label: choose_randomly(videos, quota) for label, videos in self.data.ids_by_class(task.new).items()}

    def lesson(self, batch):
        """What a method wants to know of the teacher about each clip: a dict of tensors with one row per clip."""
        return {"logits": self.forward(self.teacher, batch)["logits"]}

    def grow_head(self, task):
        """Make room in the classifier for the new classes."""
        self.network.classifier.grow(task.num_new)

    def prepare_scores(self, task):
        """Called after every epoch, before validation."""

    # What all of them share.

    def new_network(self, num_classes):
        """A freshly initialised network for ``num_classes`` classes."""
        self.sizes = [num_classes]
        data = self.data
        precision = PRECISIONS[self.args.precision]
        network = AudioVisualNet(self.args.modality, num_classes, data.audio_dim, data.visual_dim, self.head, precision)
        return network.to(self.device)

    def forward(self, network, batch):
        return network(batch.audio, batch.visual)

    def batches(self, clips):
        """The Batch objects of ``clips`` (indices) in order, of the size for inference."""
        size = self.args.infer_batch_size
        return self.data.batches([clips[start : start + size] for start in range(0, len(clips), size)])

    def take_lessons(self, task):
        """Ask the teacher once about every clip that the epochs of ``task`` use."""
        clips = np.union1d(self.training_clips(task), self.exemplars())
        self.lessons = ask(self.lesson, clips, self.batches(clips), self.device)

    def taught(self, batch):
        """The rows of ``lesson`` for the clips of ``batch``."""
        return self.lessons(batch.clip)

    def begin_task(self, task):
        if task.index == 0:
            self.network = self.new_network(task.stop)
            return
        if self.has_teacher:
            self.teacher = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.grow_head(task)
        self.sizes.append(task.num_new)

    def fit_task(self, task, log):
        """Train for ``max_epochs``; the network ends as it was after the best one (the first, among equals)."""
        args = self.args
        clips = self.training_clips(task), self.exemplars(), self.data.clips("val", task.seen)
        self.data.place(np.concatenate(clips))
        if self.has_teacher and task.index > 0:
            self.take_lessons(task)
        fit = Fit(self, torch.optim.Adam(self.trainable(), args.lr, weight_decay=args.weight_decay, fused=True), args)
        fit.load(log.resume())
        for epoch in log.epochs(args.max_epochs):
            fit.set_lr(epoch)
            terms = self.train_epoch(task, fit.optimiser, epoch)
            self.prepare_scores(task)
            val_accuracy = accuracy(self, "val", task.seen)
            log.epoch(epoch, terms, val_accuracy, fit.lr)
            fit.keep_if_best(val_accuracy)
            log.save(epoch, fit.state)
        self.load_fitted(fit.best)
        if fit.best_accuracy <= 1 / task.stop:
            warn(f"step {task.index}: no epoch did better on validation than guessing; see --lr and --max_epochs")

    def trainable(self):
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]

    def train_epoch(self, task, optimiser, epoch):
        """One pass over the training clips. Returns the mean of each loss term over the batches."""
        self.network.train()
        plan, found = self.epoch_plan(task), []
        for batch in self.data.batches(plan):
            terms = self.losses(batch, task)
            optimiser.zero_grad(set_to_none=True)
            sum(terms.values()).backward()
            optimiser.step()
            found.append(torch.stack([term.detach() for term in terms.values()]))
        values = torch.stack(found).double().cpu()
        self.check_finite(values, list(terms), plan, f"step {task.index}, epoch {epoch}")
        return dict(zip(terms, values.mean(0).tolist(), strict=True))

    def check_finite(self, values, names, plan, where):
        """InputError naming the first batch (a row of ``values``) in which a loss term is not finite."""
        bad = (~values.isfinite()).any(1).nonzero()
        if len(bad):
            number = int(bad[0])
            clips = [self.data.ids[clip] for clip in plan[number][0][:5]]
            terms = ", ".join(f"{name} {value:g}" for name, value in zip(names, values[number].tolist(), strict=True))
            raise InputError(
                f"{where}, batch {number}: the loss is not finite ({terms}; clips {', '.join(clips)}, ...); lower --lr"
            )

    def epoch_plan(self, task):
        args, clips = self.args, self.training_clips(task)
        if self.replay == "paired" and task.index > 0:
            reshuffle = args.variant == "corrected"
            return paired_pass(clips, args.train_batch_size, self.exemplars(), args.exemplar_batch_size, reshuffle)
        return shuffled_pass(clips, args.train_batch_size)

    def exemplars(self):
        """Indices of the clips in memory, class by class."""
        return self.data.indices(self.memory.ids())

    def kept_clips(self, task):
        return self.exemplars()

    def end_task(self, task):
        if self.replay != "none":
            self.memory.update(task, self.choose_exemplars)

    def fitted(self):
        """What an epoch changes, and the best one is kept of."""
        return {"network": self.network.state_dict()}

    def load_fitted(self, state):
        self.network.load_state_dict(state["network"])

    def state(self):
        return self.fitted() | {"sizes": self.sizes, "memory": dict(self.memory.clips)}

    def load_state(self, state):
        """Restore the network, as wide as it was, and the memory."""
        self.network = self.new_network(state["sizes"][0])
        for size in state["sizes"][1:]:
            self.network.classifier.grow(size)
        self.sizes = list(state["sizes"])
        self.load_fitted(state)
        self.memory.clips = dict(state["memory"])


class Fit:
    """``learner`` is trained by ``optimiser``; ``args`` hold its learning rate, milestones and decay."""

    def __init__(self, learner, optimiser, args):
        self.learner, self.optimiser, self.args = learner, optimiser, args
        self.best_accuracy, self.best = -1.0, None

    def set_lr(self, epoch):
        """The learning rate of ``epoch``: decayed once at each milestone passed."""
        self.lr = self.args.lr
        for milestone in self.args.milestones:
            self.lr *= self.args.lr_decay if epoch >= milestone else 1
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr

    def keep_if_best(self, accuracy):
        """Keep what the learner is now if no earlier epoch was as good on validation."""
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.best = accuracy, copy.deepcopy(self.learner.fitted())

    def state(self):
        """All of it as tensors and plain values."""
        names = ("best_accuracy", "best")
        kept = {name: getattr(self, name) for name in names}
        return kept | {"now": self.learner.fitted(), "optimiser": self.optimiser.state_dict()}

    def load(self, state):
        """Take over what ``state()`` returned; nothing if that is None."""
        if state is not None:
            self.best_accuracy, self.best = state["best_accuracy"], state["best"]
            self.learner.load_fitted(state["now"])
            self.optimiser.load_state_dict(state["optimiser"])


class Lessons:
    """``lessons(clips)`` gives the rows of each of ``values``, a dict of tensors with one row per clip of ``clips``."""

    def __init__(self, clips, values, device):
        self.values, self.device = values, device
        self.row_of = np.full(max(clips, default=-1) + 1, -1)
        self.row_of[clips] = np.arange(len(clips))

    def __call__(self, clips):
        rows = torch.from_numpy(self.row_of[clips]).to(self.device)
        return {name: values[rows] for name, values in self.values.items()}


@torch.no_grad()
def ask(teacher, clips, batches, device):
    """Lessons on ``clips`` from ``teacher(batch)``, a dict of tensors with a row per clip; ``batches`` bring them."""
    parts = [teacher(batch) for batch in batches]
    return Lessons(clips, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, device)
