"""Tables of results, as text or Markdown."""

from utils.results import mean_and_spread


def results_rows(groups):
    """Header and one row per (name, runs): accuracy after each step, mean accuracy, average forgetting, in per cent.

    Several runs, of several seeds, become mean and sample standard deviation.
    """
    steps = max(len(run["accuracy_per_step"]) for _, runs in groups for run in runs)
    rows = [["method", *(f"step {step}" for step in range(steps)), "mean acc.", "avg. forg."]]
    for name, runs in groups:
        cells = [_cell([_nth(run["accuracy_per_step"], step) for run in runs]) for step in range(steps)]
        cells += [_cell([run[figure] for run in runs]) for figure in ("mean_accuracy", "average_forgetting")]
        rows.append([name, *cells])
    return rows


def text_table(rows):
    """Align ``rows`` of strings: the first row is the header, the first column is flush left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown_table(rows):
    """The same as a Markdown table, numbers flush right."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" + "|---:" * (len(rows[0]) - 1) + "|")
    return "\n".join(lines)


def _nth(values, index):
    return values[index] if index < len(values) else None


def _cell(values):
    mean, spread = mean_and_spread(values)
    if mean is None:
        return "-"
    return f"{100 * mean:.2f}" if spread is None else f"{100 * mean:.2f} ± {100 * spread:.2f}"
