"""What a run says while it works: printed lines, also in ``log.txt``; rows per epoch; a progress bar on a terminal."""

import logging
import os
import sys

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger("avcil")


def log_to(path):
    """Print every line of the log, and write it to the file ``path`` as well."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in log.handlers:
        handler.close()
    log.handlers[:] = [logging.StreamHandler(sys.stdout), logging.FileHandler(path, mode="w", encoding="utf-8")]


class StepLog:
    """Reports the epochs of one step."""

    def __init__(self, task, num_tasks, folder):
        self.task, self.num_tasks, self.folder = task, num_tasks, folder
        self.rows = []

    def epochs(self, count):
        """Iterate over ``count`` epochs under a progress bar."""
        title = f"Step {self.task.index + 1}/{self.num_tasks}"
        with logging_redirect_tqdm([log]), tqdm(range(count), title, unit="epoch", disable=None, leave=False) as bar:
            self.bar = bar
            yield from bar

    def epoch(self, epoch, terms, val_accuracy, lr):
        """Report one epoch: the mean of each loss term (a dict), the validation accuracy and the learning rate."""
        loss = sum(terms.values())
        self.rows.append({"epoch": epoch, "train_loss": loss, "val_res": val_accuracy, "terms": terms})
        named = " ".join(f"{name}:{value:.6f}" for name, value in terms.items()) if len(terms) > 1 else ""
        log.info(f"Epoch:{epoch} train_loss:{loss:.6f} val_res:{val_accuracy:.6f} {named}".rstrip())
        self.bar.set_postfix(loss=f"{loss:.4f}", val=f"{val_accuracy:.4f}")
        values = {"train_loss": loss, "val_res": val_accuracy, "lr": lr, **terms}
        rows = [f"{self.task.index},{epoch},{name},{value!r}" for name, value in values.items()]
        self.folder.add_lines("epochs.csv", rows)

    @property
    def best_epoch(self):
        """The first epoch with the highest validation accuracy; None for a method without epochs."""
        return max(self.rows, key=lambda row: row["val_res"])["epoch"] if self.rows else None
