#!/usr/bin/env python3
"""Small made-up data sets that differ in where the evidence of a class lies.

    python benchmarks/feature_sets.py --kind motion --root /tmp/sets --seed 0
    python benchmarks/feature_sets.py --half development --root /tmp/sets

writes features and splits as ``<root>/<kind>/``, ready for ``train_incremental.py --data_root ROOT --dataset KIND``.
Choices are made on the development half; the other half is for the final table alone (docs/closed_form.md).
"""

import argparse
import csv
import os
from dataclasses import dataclass, replace

import numpy as np

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Kind:
    """What a set is like. Amplitudes are lengths of a class's vector, against noise of deviation 1 in each dimension.

    ``evidence``: where the visual part of a class lies, a function of this module. ``audio`` and ``visual``: amplitude
    in each modality; ``by_class`` gives a third of the classes to sound, a third to sight, and the rest to both.
    ``modes``: how many vectors a class has in each modality, one of which a clip shows. ``tail``: the last class's
    share of the first one's clips; sizes between fall geometrically. ``product``: sound and sight each bear a code, and
    only the pair of codes is the class.
    """

    evidence: str = "everywhere"
    half: str = "development"
    classes: int = 20
    per_step: int = 4
    train: int = 30
    val: int = 8
    test: int = 20
    frames: int = 8
    positions: int = 4
    width: int = 64
    audio: float = 4.0
    visual: float = 4.0
    modes: int = 2
    by_class: bool = False
    product: bool = False
    tail: float = 1.0


KINDS = {
    "few_tokens": Kind("few_tokens", audio=3.0, visual=9.0),
    "motion": Kind("motion", positions=8, audio=3.0, visual=8.0),
    "sound_alone": Kind(audio=5.0, visual=0.0),
    "uneven": Kind("one_position", audio=4.0, visual=4.0, train=60, tail=0.1),
    "product": Kind(classes=16, per_step=4, train=60, audio=9.0, visual=4.0, modes=1, product=True),
    "sound_mostly": Kind(classes=50, per_step=5, train=24, val=4, test=10, audio=6.0, visual=1.5, modes=3),
    "positions_196": Kind("patch", positions=196, width=16, classes=12, per_step=3, audio=2.5, visual=2.5),
    "sound_in_clutter": Kind("few_tokens", classes=50, per_step=5, train=24, val=4, test=10, visual=3.0, modes=3),
    "sight_in_noise": Kind("one_position", classes=30, per_step=5, train=24, val=6, test=15, audio=0.0, visual=5.0),
    "sight_in_motion": Kind("motion", classes=24, per_step=4, positions=8, audio=0.0, visual=9.0),
    "one_frame": Kind("one_frame", "held out", audio=3.0, visual=5.0),
    "sight_alone": Kind("few_tokens", "held out", audio=0.0, visual=9.0),
    "layout": Kind("layout", "held out", audio=3.0, visual=4.0),
    "order": Kind("order", "held out", audio=3.0, visual=4.0),
    "classes_300": Kind(half="held out", classes=300, per_step=30, train=8, val=2, test=4, audio=7.0, visual=2.0),
    "by_class": Kind("few_tokens", "held out", audio=5.0, visual=10.0, modes=3, by_class=True),
}


class World:
    """The fixed vectors of a set, drawn from ``seed``."""

    def __init__(self, kind, seed):
        rng = np.random.default_rng([seed, 1])
        self.kind = kind
        codes = kind.classes
        self.audio = directions(rng, codes, kind.modes, kind.width)
        self.visual = directions(rng, codes, kind.modes, kind.width)
        self.objects = directions(rng, 4, kind.width)
        self.background = rng.standard_normal((kind.frames, kind.positions, kind.width))
        self.mean = 2 * rng.standard_normal(kind.width)
        # Two classes share an object and differ in how it moves, lies or when it comes.
        self.places = np.array([rng.permutation(kind.positions) for _ in range(codes)])
        self.strides = 1 + np.arange(codes) // len(self.objects) % max(1, kind.positions - 1)

    def clip(self, rng, label):
        """Audio (width,) and tokens (frames, positions, width) of a clip of class ``label``."""
        kind = self.kind
        heard, seen = self._codes(rng, label)
        mode = rng.integers(kind.modes)
        audio_share, visual_share = self._shares(label)
        jitter = rng.uniform(0.7, 1.3, 2)
        audio = self.mean + kind.audio * audio_share * jitter[0] * self.audio[heard, mode]
        tokens = self.mean + self.background + rng.standard_normal(self.background.shape)
        tokens += kind.visual * visual_share * jitter[1] * EVIDENCE[kind.evidence](self, rng, seen, mode)
        return (audio + rng.standard_normal(kind.width)).astype(np.float32), tokens.astype(np.float32)

    def _codes(self, rng, label):
        if not self.kind.product:
            return label, label
        side = round(self.kind.classes**0.5)
        # Each code is as frequent in every class: a modality alone says nothing.
        heard = rng.integers(side)
        seen = (label + heard) % side
        return heard + side * (label // side), seen + side * (label // side)

    def _shares(self, label):
        return ((1, 0), (0, 1), (0.7, 0.7))[label % 3] if self.kind.by_class else (1, 1)


def directions(rng, *shape):
    """Random vectors of length 1 along the last axis."""
    values = rng.standard_normal(shape)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def everywhere(world, rng, code, mode):
    return np.broadcast_to(world.visual[code, mode], world.background.shape)


def few_tokens(world, rng, code, mode):
    """Two tokens bear the class; four others something as strong that says nothing."""
    out = np.zeros_like(world.background)
    flat = out.reshape(-1, world.kind.width)
    chosen = rng.permutation(len(flat))[:6]
    flat[chosen[:2]] = world.visual[code, mode]
    flat[chosen[2:]] = directions(rng, 4, world.kind.width)
    return out


def one_position(world, rng, code, mode):
    out = np.zeros_like(world.background)
    out[:, rng.integers(world.kind.positions)] = world.visual[code, mode]
    return out


def one_frame(world, rng, code, mode):
    out = np.zeros_like(world.background)
    out[rng.integers(world.kind.frames)] = world.visual[code, mode]
    return out


def patch(world, rng, code, mode):
    """A square of a fifth of the side, at one place in all frames."""
    side = round(world.kind.positions**0.5)
    size = max(1, side // 5)
    top, left = rng.integers(side - size + 1, size=2)
    out = np.zeros((world.kind.frames, side, side, world.kind.width))
    out[:, top : top + size, left : left + size] = world.visual[code, mode]
    return out.reshape(world.background.shape)


def motion(world, rng, code, mode):
    """An object goes round the positions by the class's stride, from anywhere: a frame alone tells the object only."""
    out = np.zeros_like(world.background)
    place, thing = rng.integers(world.kind.positions), world.objects[code % len(world.objects)]
    for frame in range(world.kind.frames):
        out[frame, place] = thing
        place = (place + world.strides[code]) % world.kind.positions
    return out


def layout(world, rng, code, mode):
    """The same objects for every class; which position bears which is the class."""
    out = np.zeros_like(world.background)
    for thing, place in zip(world.objects, world.places[code], strict=False):
        out[:, place] = thing
    return out


def order(world, rng, code, mode):
    """Two objects, one after the other: the classes of a pair differ in which comes first."""
    out = np.zeros_like(world.background)
    pair = world.visual[code // 2 * 2, 0], world.visual[code // 2 * 2 + 1, 0]
    cut = rng.integers(2, world.kind.frames - 1)
    out[:cut], out[cut:] = pair if code % 2 else pair[::-1]
    return out


EVIDENCE = {
    each.__name__: each for each in (everywhere, few_tokens, one_position, one_frame, patch, motion, layout, order)
}


def sizes(kind, split):
    """Clips of each class in ``split``."""
    whole = getattr(kind, split)
    share = kind.tail ** (np.arange(kind.classes) / max(1, kind.classes - 1)) if split == "train" else 1.0
    return np.maximum(1, np.round(whole * share * np.ones(kind.classes))).astype(int)


def names(kind):
    """The number of each split, each class of it, and (id, class, split) of the clips of both, in turn."""
    for number, split in enumerate(SPLITS):
        for label, size in enumerate(sizes(kind, split)):
            yield (
                number,
                label,
                [(f"{split}_{label:03d}_{clip:03d}", f"class {label:03d}", split) for clip in range(size)],
            )


def clips(kind, seed):
    """All clips in turn: (id, class, split), audio (width,) and tokens (frames, positions, width)."""
    world = World(kind, seed)
    for number, label, rows in names(kind):
        rng = np.random.default_rng([seed, 2, number, label])
        yield from ((row, *world.clip(rng, label)) for row in rows)


def make(kind, seed):
    """All clips: ``(rows, audio, visual)``, rows (id, class, split), and features by id."""
    rows, audio, visual = [], {}, {}
    for row, heard, seen in clips(kind, seed):
        rows.append(row)
        audio[row[0]], visual[row[0]] = heard, seen
    return rows, audio, visual


def write(folder, rows, audio, visual):
    """Write features and splits in the forms that training reads."""
    for modality, features in (("audio", audio), ("visual", visual)):
        place = os.path.join(folder, f"{modality}_pretrained_feature")
        os.makedirs(place, exist_ok=True)
        np.save(os.path.join(place, f"{modality}_pretrained_feature_dict.npy"), features)
    write_splits(folder, rows)


def write_splits(folder, rows):
    with open(os.path.join(folder, "splits.csv"), "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("video_id", "label", "split"), *rows])


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--kind", choices=KINDS, nargs="+", help="default: all of --half")
    parser.add_argument("--half", choices=("development", "held out"), default="development")
    parser.add_argument("--root", required=True, help="folder of the sets' folders")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, help="training clips of a class, instead of the kind's own")
    parser.add_argument("--test", type=int, help="test clips of a class, likewise: more of them are less noise")
    args = parser.parse_args()
    given = {name: getattr(args, name) for name in ("train", "test") if getattr(args, name) is not None}
    for name in args.kind or [name for name, kind in KINDS.items() if kind.half == args.half]:
        kind = replace(KINDS[name], **given)
        write(os.path.join(args.root, name), *make(kind, args.seed))
        print(f"{args.root}/{name}: {kind.classes} classes, --classes_per_step {kind.per_step}, {kind.half}")


if __name__ == "__main__":
    main()
