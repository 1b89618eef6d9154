"""How the numbers of a row came about: settings, seeds, data, versions, commands and dates of its runs."""

import datetime
import json
import os
from dataclasses import dataclass

from engine.run_files import DATA, RESULTS, RunResults
from reporting.runs import Group, settings, show_value
from utils.files import read_json


@dataclass(frozen=True)
class Provenance:
    """Of one row: its name, the most needed in a line, and all there is as (what, value)."""

    name: str
    summary: str
    entries: list[tuple[str, str]]


def provenance(groups: list[Group]) -> list[Provenance]:
    """What is known of the runs of each row; what they do not agree in is listed value by value."""
    return [_of_row(name, runs) for name, runs in groups]


def _of_row(name, runs):
    seeds = ", ".join(_distinct(str(run.arguments["seed"]) for run in runs))
    dates = _distinct(date for run in runs if (date := _finished(run)))
    unused = runs[0].arguments.get("without_effect") or ()
    shown = {option: value for option, value in sorted(settings(runs[0]).items()) if option not in unused}
    options = ", ".join(f"{option} {show_value(value)}" for option, value in shown.items())
    versions = _distinct(json.dumps(run.versions, sort_keys=True) for run in runs)
    entries = [("Seeds", seeds), ("Settings", options)]
    entries += [("Versions", _versions(json.loads(each))) for each in versions if each != "{}"]
    entries += [("Data (sha256)", digest) for digest in _distinct(data_digests(runs))]
    entries += [("Command", f"python {command}") for run in runs if (command := run.arguments.get("command"))]
    entries += [("Folder", run.folder) for run in runs]
    entries += [("Written", " to ".join(_ends(dates)))] if dates else []
    last = f", {_ends(dates)[-1][:10]}" if dates else ""
    return Provenance(name, f"{'seed' if len(runs) == 1 else 'seeds'} {seeds}{last}", entries)


def data_digests(runs: list[RunResults]) -> list[str]:
    """The digests of the data that ``runs`` learned from, as far as their folders tell."""
    digests = []
    for run in runs:
        path = os.path.join(run.folder, DATA)
        content = read_json(path, "description of data", "run the training again") if os.path.isfile(path) else None
        if isinstance(content, dict) and isinstance(content.get("sha256"), str):
            digests.append(content["sha256"])
    return digests


def _versions(versions):
    return ", ".join(f"{name} {value}" for name, value in versions.items() if value is not None)


def _finished(run):
    """When the results were written, in UTC; None if they are not there yet."""
    path = os.path.join(run.folder, RESULTS)
    if not os.path.isfile(path):
        return None
    moment = datetime.datetime.fromtimestamp(os.stat(path).st_mtime, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _ends(dates):
    return list(dict.fromkeys([min(dates), max(dates)]))


def _distinct(values):
    return list(dict.fromkeys(values))
