#!/usr/bin/env python3
"""Draw docs/method.svg, the picture of AV-CIL in the README: python docs/draw_method.py"""

import pathlib

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

# Okabe and Ito's colours, light enough to write on in black.
AUDIO, VISUAL, BOTH, LOSS, OLD = "#9fd0f0", "#f6c78e", "#d9d9d9", "#f7e7a6", "#e3c6de"
BOXES = {
    # name: (x, y, width, height, colour, text)
    "audio": (-0.1, 1.0, 2.2, 0.9, AUDIO, "audio feature $a$"),
    "visual": (-0.1, 4.2, 2.2, 0.9, VISUAL, "visual: tokens $v$\nframes x positions"),
    "attention": (
        3.1,
        3.7,
        2.5,
        1.9,
        VISUAL,
        "audio-guided attention\nspatial: where to look\ntemporal: when to look",
    ),
    "audio_proj": (6.7, 1.0, 1.7, 0.9, AUDIO, "project $f_a$"),
    "visual_proj": (6.7, 4.2, 1.7, 0.9, VISUAL, "project $f_v$"),
    "sum": (9.6, 2.65, 1.1, 0.8, BOTH, "$f_a + f_v$"),
    "head": (11.6, 2.5, 2.1, 1.1, BOTH, "classifier\n+ rows for each\nnew class"),
    "contrastive": (6.3, 2.5, 2.5, 1.1, LOSS, "I-AVSC, C-AVSC\na clip's audio and visual\nstay alike; a class's too"),
    "vad": (3.1, 6.5, 2.5, 1.0, LOSS, "VAD\nlook at exemplars\nas the old network did"),
    "ce": (14.6, 1.5, 2.8, 1.1, LOSS, "separated cross-entropy\nnew clips: new classes\nexemplars: old classes"),
    "kd": (14.6, 3.6, 2.8, 1.1, LOSS, "distillation\nwithin the classes\nof each earlier task"),
    "teacher": (7.6, 6.5, 4.4, 1.0, OLD, "network of the step before, frozen"),
    "memory": (-0.1, 6.5, 2.2, 1.0, OLD, "exemplar memory\nclips of old classes\n(audio and visual)"),
}
ARROWS = [
    # from (x, y), to (x, y), dashed, bend
    ((2.1, 4.65), (3.1, 4.65), False, 0),
    ((2.1, 1.7), (3.7, 3.7), False, 0),
    ((2.1, 1.45), (6.7, 1.45), False, 0),
    ((5.6, 4.65), (6.7, 4.65), False, 0),
    ((8.4, 4.55), (10.0, 3.45), False, 0),
    ((8.4, 1.6), (10.0, 2.65), False, 0),
    ((10.7, 3.05), (11.6, 3.05), False, 0),
    ((13.7, 3.3), (14.6, 3.9), False, 0),
    ((13.7, 2.8), (14.6, 2.2), False, 0),
    ((7.55, 4.2), (7.55, 3.6), False, 0),
    ((7.55, 1.9), (7.55, 2.5), False, 0),
    ((4.35, 5.6), (4.35, 6.5), False, 0),
    ((7.6, 7.0), (5.6, 7.0), True, 0),
    ((12.0, 7.0), (16.0, 4.7), True, -0.25),
    ((1.0, 6.5), (1.0, 5.1), True, 0),
]


def main():
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "method", "font.size": 9})
    figure = Figure(figsize=(11, 5.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.4, 17.7), ylim=(0.4, 8.3))
    axes.axis("off")
    for x, y, width, height, colour, text in BOXES.values():
        style = "round,pad=0.02,rounding_size=0.15"
        axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colour, edgecolor="black"))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", linespacing=1.25)
    for start, end, dashed, bend in ARROWS:
        line = {"linestyle": "--" if dashed else "-", "connectionstyle": f"arc3,rad={bend}"}
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, color="black", **line))
    axes.text(9.0, 7.95, "Step t of AV-CIL. Yellow: losses. Dashed: only from the second step on.", ha="center")
    figure.savefig(pathlib.Path(__file__).with_name("method.svg"), metadata={"Date": None})
    return figure


if __name__ == "__main__":
    main()
