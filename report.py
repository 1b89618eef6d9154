#!/usr/bin/env python3
"""Print a table of finished runs.

    python report.py save/AVE

Every run in or under the folders given is a row; runs that differ in the seed alone are one row, with mean and sample
standard deviation.
"""

from utils.command_line import OneLineParser
from utils.errors import command
from utils.results import find_runs, group_seeds
from utils.tables import markdown_table, results_rows, text_table

FORMATS = {"text": text_table, "markdown": markdown_table}


@command
def main(arguments=None):
    parser = OneLineParser(description="Print a table of finished runs; seeds are averaged.")
    parser.add_argument("folders", nargs="+", help="run folders, or folders with runs somewhere under them")
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    args = parser.parse_args(arguments)
    groups = group_seeds(find_runs(args.folders))
    sizes = [len(runs) for _, runs in groups]
    print(FORMATS[args.format](results_rows(groups)))
    low, high = min(sizes), max(sizes)
    seeds = "one seed each" if high == 1 else f"mean and standard deviation of {low} to {high} seeds"
    print(f"\n{sum(sizes)} runs, {seeds}; per cent")


if __name__ == "__main__":
    main()
