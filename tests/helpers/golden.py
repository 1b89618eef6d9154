"""Learners with parameters filled by rule, as the golden numbers were made (README of the goldens)."""

import math
import zlib
from types import SimpleNamespace

import numpy as np
import torch

from dataloader import Batch
from engine.gradient import TeacherCache
from engine.options import build_parser, resolve
from engine.registry import find_method
from engine.tasks import make_tasks
from features.tokens import Tokens
from methods.avcil import TeacherAttention

CLASSES, PER_STEP, STEP = 21, 7, 2
TASK = make_tasks(CLASSES, [PER_STEP])[STEP]
LABELS = [14, 20, 15, 16, 14, 17, 18, 19, 20, 14, 0, 13, 7, 3, 0, 9]
NEW, REPLAYED = 10, 6


def z(name, shape):
    """Standard normal numbers that depend on the name alone."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape)


def filled(name, shape):
    """The value of a parameter by the goldens' rule."""
    if shape == ():
        return torch.ones((), dtype=torch.float64)
    values = z(name, shape)
    return torch.from_numpy(values / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1 * values)


def fill(network, prefix):
    """Fill a network in place; our names are those of the goldens but for the proxies."""
    renamed = {"classifier.old": "classifier.fc1.weight", "classifier.new": "classifier.fc2.weight"}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(filled(prefix + renamed.get(name, name), tuple(parameter.shape)))


def batch(dtype, num_new=NEW, num_replayed=REPLAYED):
    """The goldens' 16 clips, or the first of them."""
    count = num_new + num_replayed
    audio = torch.from_numpy(z("input/audio", (16, 768))[:count]).to(dtype)
    visual = torch.from_numpy(z("input/visual", (16, 32, 768))[:count]).to(dtype)
    label = torch.tensor(LABELS[:count])
    return Batch(np.arange(count), label, audio, Tokens.of(visual.unflatten(1, (8, 4))), num_replayed)


def learner(method, modality, dtype, *flags):
    """The learner of a method at step 2, student and teacher filled by rule."""
    cls = find_method(method)
    args = build_parser(cls).parse_args(["--method", method, "--dataset", "AVE", "--modality", modality, *flags])
    args.classifier = args.classifier or cls.classifiers[0]
    data = SimpleNamespace(audio_dim=768, visual_dim=768, ids=list(range(len(LABELS))))
    made = cls(resolve(args, CLASSES), data, "cpu")
    head_of_teacher = CLASSES if method == "afc" else TASK.start
    made.network = network(made, CLASSES, "").to(dtype)
    made.teacher = network(made, head_of_teacher, "old/").to(dtype).requires_grad_(False)
    clips = np.arange(len(LABELS))
    made.teacher_cache = TeacherCache.compute(made.teacher_outputs, clips, [batch(dtype)], "cpu")
    made.teacher_attention = TeacherAttention(made.teacher)
    return made


def network(made, num_classes, prefix):
    """A network filled by rule; a proxy head has its new classes apart."""
    if made.head.__name__ == "ProxyHead":
        built = made.new_network(TASK.start)
        built.classifier.grow(num_classes - TASK.start)
    else:
        built = made.new_network(num_classes)
    fill(built, prefix)
    return built
