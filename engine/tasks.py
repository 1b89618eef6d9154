"""The tasks of a run: which classes each step brings."""

from dataclasses import dataclass

from utils.errors import InputError


@dataclass(frozen=True)
class Task:
    """Step ``index`` brings classes ``start`` to ``stop``; ``past`` are the class slices of earlier tasks, in order."""

    index: int
    start: int
    stop: int
    past: tuple[slice, ...]

    @property
    def new(self) -> slice:
        """Classes of this task."""
        return slice(self.start, self.stop)

    @property
    def old(self) -> slice:
        """Classes of all earlier tasks."""
        return slice(0, self.start)

    @property
    def seen(self) -> slice:
        """Classes of this task and all earlier ones."""
        return slice(0, self.stop)

    @property
    def num_new(self) -> int:
        return self.stop - self.start


def make_tasks(num_classes: int, classes_per_step: list[int], last_step_remainder: bool = False) -> list[Task]:
    """Cut ``num_classes`` into tasks. ``classes_per_step`` is one number for all steps, or one for each step."""
    tasks, start, past = [], 0, ()
    for index, size in enumerate(_sizes(num_classes, classes_per_step, last_step_remainder)):
        tasks.append(Task(index, start, start + size, past))
        past += (tasks[-1].new,)
        start += size
    return tasks


def _sizes(num_classes, classes_per_step, last_step_remainder):
    option = "--classes_per_step " + " ".join(map(str, classes_per_step))
    if min(classes_per_step) < 1:
        raise InputError(f"{option}: each step needs at least one class")
    if sum(classes_per_step) > num_classes:
        raise InputError(f"{option}: more classes than the {num_classes} of the data")
    if len(classes_per_step) > 1:
        if sum(classes_per_step) != num_classes:
            raise InputError(
                f"{option}: {sum(classes_per_step)} classes in all, the data has {num_classes}; add steps, or pass"
                f" --num_classes {sum(classes_per_step)}"
            )
        return classes_per_step
    steps, rest = divmod(num_classes, classes_per_step[0])
    if rest and not last_step_remainder:
        raise InputError(
            f"{option}: {num_classes} classes leave a remainder of {rest}; pass --last_step_remainder to make it the"
            " last step, or name each step's number of classes"
        )
    return classes_per_step * steps + [rest] * bool(rest)
