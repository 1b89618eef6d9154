"""Text tables of results."""


def results_table(named_results):
    """One row per (name, results): accuracy after each step, mean accuracy and average forgetting, in per cent."""
    steps = max(len(results["accuracy_per_step"]) for _, results in named_results)
    header = ["method", *(f"step {step}" for step in range(steps)), "mean acc.", "avg. forg."]
    rows = [header]
    for name, results in named_results:
        accuracy = [_percent(value) for value in results["accuracy_per_step"]]
        accuracy += [""] * (steps - len(accuracy))
        rows.append([name, *accuracy, _percent(results["mean_accuracy"]), _percent(results["average_forgetting"])])
    return text_table(rows)


def text_table(rows):
    """Align ``rows`` of strings: the first row is the header, the first column is flush left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _percent(value):
    return "-" if value is None else f"{100 * value:.2f}"
