"""The loss terms that a run wrote, epoch by epoch, to ``epochs.csv``."""

import csv
import math
import os

from utils.errors import InputError

HEADER = ["step", "epoch", "name", "value"]
NOT_LOSSES = ("val_res", "lr")


def read_losses(folder):
    """``{term: {(step, epoch): value}}`` from ``epochs.csv`` in ``folder``, terms in order of appearance.

    Empty where there is no such file, or a method has no epochs. InputError if a line is not as a run writes it.
    """
    path = os.path.join(folder, "epochs.csv")
    if not os.path.exists(path):
        return {}
    losses = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as CSV ({error}); run the training again") from None
    if not rows or rows[0] != HEADER:
        raise InputError(f"{path}: line 1 is not {','.join(HEADER)}; run the training again")
    for number, row in enumerate(rows[1:], 2):
        step, epoch, name, value = _parse(path, number, row)
        if name not in NOT_LOSSES:
            losses.setdefault(name, {})[step, epoch] = value
    return losses


def _parse(path, number, row):
    try:
        step, epoch, name, value = row
        parsed = int(step), int(epoch), name, float(value)
    except ValueError:
        parsed = None
    if parsed is None or not math.isfinite(parsed[3]) or min(parsed[:2]) < 0:
        shown = ",".join(row)[:60]
        raise InputError(f"{path}: line {number} is {shown!r}, not step,epoch,name,value; run the training again")
    return parsed
