"""The settings that a run takes where no flag gives them: of its data set's preset (presets/), else usual ones."""

from utils.datasets import find_dataset

DEFAULT_EPOCHS = 200
EXEMPLARS_PER_CLASS = 15
# Options of methods whose value is up to the data set, where its preset says nothing.
METHOD_OPTIONS = {"avcil": {"lam_I": 0.5}}


def preset(dataset: str, method: str, modality: str, num_classes: int) -> dict:
    """Values for the options that the user did not give, by option name."""
    known = find_dataset(dataset)
    return {
        "max_epochs": known.max_epochs.get(method, {}).get(modality, DEFAULT_EPOCHS),
        "memory_size": known.memory_size or EXEMPLARS_PER_CLASS * num_classes,
        "classes_per_step": [known.classes_per_step or _even_steps(num_classes)],
        **METHOD_OPTIONS.get(method, {}),
        **known.options.get(method, {}),
    }


def _even_steps(num_classes):
    """Classes per step for a user's own data: five equal steps, or the nearest lower number of steps that is equal."""
    steps = next(steps for steps in (5, 4, 3, 2, 1) if num_classes % steps == 0)
    return num_classes // steps
