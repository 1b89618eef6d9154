"""The rows of ``epochs.csv``: what a run tells of each epoch, by name. No torch is needed."""

import math
import os

from engine.run_files import EPOCHS, EPOCHS_HEADER, HINT, is_there
from utils.errors import InputError
from utils.files import read_rows

NOT_LOSSES = ("val_res", "lr")
# What the names of values begin with that --probe_gradients adds; the name of a loss term follows.
GRADIENT_NORM, GRADIENT_COSINE = "gradient_norm/", "gradient_cosine/"


def read_losses(folder: str) -> dict[str, dict[tuple[int, int], float]]:
    """The loss terms among ``read_epochs(folder)``."""
    return {
        name: values
        for name, values in read_epochs(folder).items()
        if name not in NOT_LOSSES and not name.startswith((GRADIENT_NORM, GRADIENT_COSINE))
    }


def read_epochs(folder: str) -> dict[str, dict[tuple[int, int], float]]:
    """``{name: {(step, epoch): value}}`` from ``epochs.csv`` in ``folder``, names in order of appearance.

    Empty where there is no such file, or a method has no epochs. InputError if a line is not as a run writes it.
    """
    path = os.path.join(folder, EPOCHS)
    if not is_there(path):
        return {}
    values = {}
    rows = read_rows(path, "CSV file", HINT)
    if next(rows, (1, []))[1] != EPOCHS_HEADER.split(","):
        raise InputError(f"{path}: line 1 is not {EPOCHS_HEADER}; {HINT}")
    for number, row in rows:
        step, epoch, name, value = _epoch(path, number, row)
        values.setdefault(name, {})[step, epoch] = value
    return values


def _epoch(path, number, row):
    try:
        step, epoch, name, value = row
        parsed = int(step), int(epoch), name, float(value)
        if not (math.isfinite(parsed[3]) and 0 <= parsed[0] < 2**31 and 0 <= parsed[1] < 2**31):
            raise ValueError
    except ValueError:
        shown = ",".join(row)[:60]
        raise InputError(f"{path}: line {number} is {shown!r}, not {EPOCHS_HEADER}; {HINT}") from None
    return parsed
