#!/usr/bin/env python3
"""Print tables of finished runs; draw figures of them; make one page of everything.

    python report.py save/AVE
    python report.py save/AVE --layout methods --format latex
    python report.py save/AVE --figures figures --html report.html

    python report.py save/AVE --layout summary --pool class_order_seed

Runs that differ in the seed alone are one row, with mean and sample standard deviation.
"""

if __name__ == "__main__":
    from utils.environment import enter_environment

    enter_environment()

import argparse
import sys

from reporting.layouts import (
    find_measures,
    method_tables,
    notes_on_splits,
    option_tables,
    sort_rows,
    step_tables,
    summary_tables,
)
from reporting.provenance import data_digests
from reporting.runs import DISPLAY_NAMES, Group, find_runs, group_seeds, pool
from reporting.table_formats import FORMATS
from utils.command_line import OneLineParser
from utils.errors import InputError, command, printable, say

LAYOUTS = {
    "steps": step_tables,
    "summary": summary_tables,
    "methods": method_tables,
    "options": option_tables,
}


@command
def main(arguments: list[str] | None = None):
    args = parse(arguments)
    drawing = args.figures is not None or args.html is not None
    if drawing:
        # Imported where something is drawn: matplotlib takes longer to load than tables to print.
        from reporting.write import check_targets, write_report

        check_targets(args.figures, args.html, args.style)
    elif args.style is not None:
        raise InputError(f"--style {args.style}: nothing is drawn; give --figures or --html as well")
    names = {} if args.format == "csv" and not args.names else parse_names(args.names)
    groups = sort_rows(group_seeds(pool(find_runs(args.folders, args.unfinished, names), args.pool)))
    tables = tables_of(args, groups)
    if not tables:
        raise InputError(f"{' '.join(args.folders)}: no two runs of a method differ in an option; use --layout methods")
    show(FORMATS[args.format](tables).split("\n"))
    # What is not part of the table stays out of a file made with > table.csv.
    aside = sys.stderr if args.format in ("csv", "latex") else sys.stdout
    show(["", summary(groups), *notes_on_splits(groups), *notes_on_data(groups)], aside)
    if drawing:
        against = tables if args.layout == "paired" else []
        show(write_report(groups, summary(groups), args.figures, args.html, args.style, against), aside)


def tables_of(args, groups):
    """The tables of the layout. What needs NumPy and SciPy is imported where it is asked for."""
    if args.layout == "paired":
        from reporting.paired import paired_tables

        return paired_tables(groups, args.against)
    if args.layout == "classes":
        from reporting.classes import class_tables

        return class_tables(groups)
    if args.layout == "modalities":
        from reporting.modalities import modality_tables

        return modality_tables(groups)
    if args.layout == "representation":
        from reporting.representation import representation_tables

        return representation_tables(groups)
    if args.layout == "gradients":
        from reporting.gradients import gradient_tables

        return gradient_tables(groups)
    return LAYOUTS[args.layout](groups, find_measures(args.measures))


def show(lines, file=None):
    """Print ``lines``; names that come with runs do not steer the terminal."""
    for line in lines:
        say(printable(line), file=file)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(description="Print tables of finished runs, and draw them; seeds are averaged.")
    parser.add_argument("folders", nargs="+", help="run folders, or folders with runs somewhere under them")
    parser.add_argument(
        "--layout",
        choices=[*LAYOUTS, "classes", "paired", "modalities", "representation", "gradients"],
        default="steps",
        help="steps: accuracy after each step; summary: accuracy, forgetting, seconds, MB kept; methods: methods x"
        " modalities, beside published numbers; options: runs of a method by the options that differ (ablations, memory"
        " sizes); classes: errors by kind, classes by age, and each class, the most forgotten first; paired: each row"
        " less that of --against, over pairs of one seed and class order; modalities: accuracy with one replaced"
        " (analyse_modalities.py); representation: features of the test clips"
        " (--save_features), step by step; gradients: of the loss terms (--probe_gradients); default: steps",
    )
    parser.add_argument("--against", metavar="ROW", help="for --layout paired: a method, or the name of a row")
    parser.add_argument(
        "--pool",
        nargs="+",
        default=[],
        metavar="OPTION",
        help="runs that differ in these options are repetitions of one another too, such as class_order_seed",
    )
    parser.add_argument("--unfinished", action="store_true", help="show what unfinished runs have reached so far, too")
    parser.add_argument(
        "--names",
        nargs="+",
        default=[],
        metavar="METHOD=NAME",
        help="what methods are called, such as avcil='AV-CIL (ours)'; csv has the names of the files otherwise",
    )
    parser.add_argument(
        "--measures", nargs="+", default=[], metavar="NAME", help="further columns: files of reporting/measures/"
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument("--figures", metavar="FOLDER", help="draw figures into this folder, as SVG, PDF and PNG")
    parser.add_argument("--html", metavar="FILE", help="write one page with all tables and figures inside")
    parser.add_argument("--style", help="how figures look: a style of matplotlib, or a style file")
    args = parser.parse_args(arguments)
    if (args.layout == "paired") != (args.against is not None):
        raise InputError("--layout paired and --against ROW: give both, or neither")
    if args.measures and args.layout not in LAYOUTS:
        raise InputError(f"--measures: for the layouts {', '.join(LAYOUTS)}; leave it out, or choose one of these")
    return args


def parse_names(pairs):
    """DISPLAY_NAMES with those of ``pairs``, METHOD=NAME; InputError if a pair is not one, or a name is there twice."""
    names = dict(DISPLAY_NAMES)
    for pair in pairs:
        method, _, name = pair.partition("=")
        if not method or not name.strip():
            raise InputError(f"--names {pair}: not METHOD=NAME, such as avcil='AV-CIL (ours)'")
        names[method] = name.strip()
    for name in names.values():
        if [*names.values()].count(name) > 1:
            raise InputError(f"--names: two methods are called {name}; rows could not be told apart")
    return names


def notes_on_data(groups):
    """A line for each row whose runs learned from different data, so that their mean is of no one data set."""
    for name, runs in groups:
        if len(set(data_digests(runs))) > 1 and not any(run.pooled for run in runs):
            yield f"{name}: its runs learned from different data (sha256 in their data.json); train them again on one"


def summary(groups: list[Group]) -> str:
    """One line: how many runs, seeds and the unit."""
    unit = "runs" if any(run.pooled for _, runs in groups for run in runs) else "seeds"
    sizes = [len(runs) for _, runs in groups]
    low, high = min(sizes), max(sizes)
    number = f"{low}" if low == high else f"{low} to {high}"
    seeds = "one seed each" if high == 1 else f"mean and standard deviation of {number} {unit}"
    runs = "1 run" if sum(sizes) == 1 else f"{sum(sizes)} runs"
    left = sum(not run.finished for _, members in groups for run in members)
    runs += f" ({left} unfinished: in no mean accuracy or forgetting)" if left else ""
    return f"{runs}, {seeds}; per cent"


if __name__ == "__main__":
    main()
