"""Published numbers to stand beside one's own: plain data, and where they come from."""

SOURCE = (
    "Pian, Mo, Guo, Tian: Audio-Visual Class-Incremental Learning, ICCV 2023; released code and features,"
    " AVE, audio-visual, seed 42"
)
# Share of test clips cut from a video that training has clips of too, in the splits of the release. AVE's and
# Kinetics-Sounds' have none.
SHARED_IN_RELEASE = {"VGGSound_100": 0.325}
_PROTOCOL = {
    "num_classes": 28,
    "classes_per_step": [7],
    "class_order_seed": None,
    "lr": 0.001,
    "weight_decay": 0.0001,
    "lr_decay": 1.0,
    "train_batch_size": 256,
}
_AVCIL_WEIGHTS = {
    "lam_I": 0.5,
    "lam_C": 1.0,
    "lam": 0.5,
    "lam_KD": 1.0,
    "instance_contrastive_temperature": 0.05,
    "class_contrastive_temperature": 0.05,
}
# Without one of its terms it is another method, beside which the published number would mislead.
_AVCIL_TERMS = {
    "task_distil": True,
    "instance_contrastive": True,
    "class_contrastive": True,
    "attn_score_distil": True,
}
_WHERE = {"dataset": "AVE", "modality": "audio-visual", "variant": "released"}
# "run" tells which runs a number stands beside, "settings" how it was obtained. Numbers are in per cent, by the keys
# of results.json.
PUBLISHED = (
    {
        "run": {"method": "avcil", "classifier": "linear", **_WHERE},
        "terms": _AVCIL_TERMS,
        "settings": {
            **_PROTOCOL,
            **_AVCIL_WEIGHTS,
            "max_epochs": 200,
            "memory_size": 340,
            "exemplar_batch_size": 128,
        },
        "mean_accuracy": 74.04,
        "average_forgetting": 7.63,
    },
    {
        "run": {"method": "icarl", "classifier": "FC", **_WHERE},
        "settings": {**_PROTOCOL, "max_epochs": 150, "memory_size": 340},
        "mean_accuracy": 65.88,
        "average_forgetting": 26.08,
    },
    {
        "run": {"method": "upper_bound", "classifier": "linear", **_WHERE},
        "settings": {**_PROTOCOL, "max_epochs": 150},
        "mean_accuracy": 76.85,
        "average_forgetting": 4.54,
    },
)


def find_published(settings: dict[str, object]) -> dict | None:
    """The entry of PUBLISHED for a run with these options (those of ``runs.settings``), or None."""
    for entry in PUBLISHED:
        same = all(settings.get(name) == value for name, value in entry["run"].items())
        if same and all(settings.get(name, value) == value for name, value in entry.get("terms", {}).items()):
            return entry
    return None


def other_settings(entry: dict, settings: dict[str, object]) -> list[tuple[str, object, object]]:
    """The options, as (name, own value, published value), in which a run differs from the published one."""
    return [
        (name, settings.get(name), value) for name, value in entry["settings"].items() if settings.get(name) != value
    ]
