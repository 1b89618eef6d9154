"""The settings behind the paper's tables, as data: data set x method x modality. Flags override them."""

from utils.datasets import find_dataset

# Epochs on AVE, ksounds and VGGSound_100.
EPOCHS = {
    ("avcil", "audio-visual"): (200, 200, 200),
    ("fine_tuning", "audio"): (300, 300, 300),
    ("fine_tuning", "visual"): (200, 150, 200),
    ("fine_tuning", "audio-visual"): (150, 150, 200),
    ("upper_bound", "audio"): (300, 200, 300),
    ("upper_bound", "visual"): (200, 100, 200),
    ("upper_bound", "audio-visual"): (150, 100, 200),
    ("lwf", "audio"): (300, 200, 300),
    ("lwf", "visual"): (200, 200, 200),
    ("lwf", "audio-visual"): (200, 100, 200),
    ("icarl", "audio"): (300, 200, 300),
    ("icarl", "visual"): (200, 100, 200),
    ("icarl", "audio-visual"): (150, 100, 200),
    ("ssil", "audio"): (300, 300, 300),
    ("ssil", "visual"): (200, 100, 200),
    ("ssil", "audio-visual"): (200, 100, 200),
    ("afc", "audio"): (300, 300, 300),
    ("afc", "visual"): (200, 100, 200),
    ("afc", "audio-visual"): (150, 100, 200),
}
COLUMNS = ("AVE", "ksounds", "VGGSound_100")
DEFAULT_EPOCHS = 200

# Options of methods that depend on the data set.
METHOD_OPTIONS = {
    ("avcil", "AVE"): {"lam_I": 0.5},
    ("avcil", "ksounds"): {"lam_I": 0.1},
    ("avcil", "VGGSound_100"): {"lam_I": 0.1},
    ("avcil", None): {"lam_I": 0.5},
}
EXEMPLARS_PER_CLASS = 15


def preset(dataset: str, method: str, modality: str, num_classes: int) -> dict:
    """Values for the options that the user did not give, by option name."""
    known = find_dataset(dataset)
    epochs = EPOCHS.get((method, modality))
    options = METHOD_OPTIONS.get((method, dataset)) or METHOD_OPTIONS.get((method, None)) or {}
    return {
        "max_epochs": epochs[COLUMNS.index(dataset)] if epochs and dataset in COLUMNS else DEFAULT_EPOCHS,
        "memory_size": known.memory_size or EXEMPLARS_PER_CLASS * num_classes,
        "classes_per_step": [known.classes_per_step or _even_steps(num_classes)],
        **options,
    }


def _even_steps(num_classes):
    """Classes per step for a user's own data: five equal steps, or the nearest lower number of steps that is equal."""
    steps = next(steps for steps in (5, 4, 3, 2, 1) if num_classes % steps == 0)
    return num_classes // steps
