"""Short names for runs: the method, and of its options those that tell it from the others."""

import json

# Named by their value alone, and only where they are not the same for all.
PLACES = ("dataset", "modality", "variant")
PEERS = ("method", "classifier", "dataset", "modality")


def name_settings(settings):
    """A name for each of ``settings``, dicts of options. Names differ where the settings do.

    An option is named where its value is not that of most runs of the same method, classifier, data set and modality:
    in a table of ablations the whole method has its plain name, and each other row the term it lacks.
    """
    return [_name(mine, settings) for mine in settings]


def differing(settings):
    """The options, sorted, that do not have the same value in all of ``settings``."""
    options = sorted(set().union(*settings))
    return [option for option in options if len({json.dumps(each.get(option)) for each in settings}) > 1]


def show_value(value):
    """The value of an option as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "unset" if value is None else str(value)


def _name(mine, settings):
    words = [mine["method"]] + ([] if mine["classifier"] == "linear" else [mine["classifier"]])
    words += [mine[place] for place in PLACES if place in mine and place in differing(settings)]
    peers = [other for other in settings if all(other.get(key) == mine.get(key) for key in PEERS)]
    told = [option for option in differing(peers) if option not in PLACES]
    return " ".join(words + [_show(option, mine.get(option)) for option in told if not _is_usual(option, mine, peers)])


def _is_usual(option, mine, peers):
    return sum(other.get(option) == mine.get(option) for other in peers) > len(peers) / 2


def _show(option, value):
    if isinstance(value, bool):
        return option if value else f"no {option}"
    return f"{option}={show_value(value)}"
