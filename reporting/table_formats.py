"""Tables written out: text, Markdown, LaTeX, CSV. Each takes a list of Tables and gives one string."""

import re
from itertools import groupby

from reporting.tables import Cell, Column, Table, text_table
from utils.files import csv_text

# What has a meaning of its own in LaTeX; a pattern that looks at each character once.
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}
# Underscores within a word, as in names of methods, are plain in Markdown.
_MARKDOWN = re.compile(r"([\\`*\[\]<>|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def as_text(tables: list[Table]) -> str:
    """Aligned columns; the groups of columns in a line of their own; * at the best."""
    return "\n\n".join(_text(table) for table in tables)


def as_markdown(tables: list[Table]) -> str:
    """Tables of GitHub's Markdown, the best in bold."""
    return "\n\n".join(_markdown(table) for table in tables)


def as_latex(tables: list[Table]) -> str:
    """Floating tables for booktabs, the best in bold."""
    return "\n\n".join(_latex(table) for table in tables)


def as_csv(tables: list[Table]) -> str:
    """One sheet: numbers in per cent as they are, unrounded, their spreads in columns of their own ending in "sd"."""
    sheets = [row for table in tables for row in _records(table)]
    header = list(dict.fromkeys(name for row in sheets for name in row))
    return csv_text([header, *([row.get(name) for name in header] for row in sheets)]).rstrip("\n")


FORMATS = {"text": as_text, "markdown": as_markdown, "latex": as_latex, "csv": as_csv}


def spans(columns: list[Column]) -> list[tuple[str, int]]:
    """The groups of ``columns`` in order, each with its number of columns."""
    return [(group, len(list(members))) for group, members in groupby(columns, key=lambda column: column.group)]


def _text(table):
    starred = [any(isinstance(each, Cell) and each.best for each in column) for column in zip(*table.rows, strict=True)]
    rows = [[column.name for column in table.columns]]
    for row in table.rows:
        rows.append([_with_star(each) if marked else str(each) for each, marked in zip(row, starred, strict=True)])
    lines = [*text_table(rows).split("\n"), *_notes(table)]
    if any(column.group for column in table.columns):
        lines.insert(0, _group_line(table.columns, rows))
    return "\n".join(_title(table) + lines)


def _with_star(each):
    return f"{each}{'*' if isinstance(each, Cell) and each.best else ' '}"


def _group_line(columns, rows):
    """The names of groups, each centred over its columns as ``text_table`` lays them out."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    parts, start = [], 0
    for group, count in spans(columns):
        parts.append(group.center(sum(widths[start : start + count]) + 2 * (count - 1)))
        start += count
    return "  ".join(parts).rstrip()


def _markdown(table):
    lines = [[f"{column.group} {column.name}".strip() for column in table.columns]]
    lines.append(["---", *["---:"] * (len(table.columns) - 1)])
    lines += [[_bold(each, _plain_markdown(each), "**{}**") for each in row] for row in table.rows]
    title = [f"**{_plain_markdown(line)}**" if line else "" for line in _title(table)]
    rows = ["| " + " | ".join(row) + " |" for row in lines]
    return "\n".join(title + rows + _notes(table))


def _latex(table):
    count = len(table.columns)
    lines = ["% Needs \\usepackage{booktabs}.", r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{_tex(line)}}}" for line in _title(table)[:1]]
    lines += [rf"\begin{{tabular}}{{l{'r' * (count - 1)}}}", r"\toprule", *_latex_groups(table.columns)]
    lines += [" & ".join(_tex(column.name) for column in table.columns) + r" \\", r"\midrule"]
    lines += [" & ".join(_bold(each, _tex(each), r"\textbf{{{}}}") for each in row) + r" \\" for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines + [f"% {line}" for line in _notes(table) if line])


def _latex_groups(columns):
    """The line of group names, and the rules under them."""
    if not any(column.group for column in columns):
        return []
    heads, rules, start = [], [], 1
    for group, count in spans(columns):
        heads.append(rf"\multicolumn{{{count}}}{{c}}{{{_tex(group)}}}")
        rules += [rf"\cmidrule(lr){{{start}-{start + count - 1}}}"] if group else []
        start += count
    return [" & ".join(heads) + r" \\", "".join(rules)]


def _records(table):
    """The rows as dicts from column name to value, for a sheet that may hold several tables."""
    for row in table.rows:
        record = {"table": table.title} if table.title else {}
        for column, each in zip(table.columns, row, strict=True):
            name = f"{column.group} {column.name}".strip()
            if isinstance(each, Cell):
                record |= {name: each.value} | (
                    {} if (each.signed and each.spread is None) or "published" in name else {f"{name} sd": each.spread}
                )
            else:
                record[name] = each
        yield record


def _title(table):
    return [table.title, ""] if table.title else []


def _notes(table):
    return ["", *table.notes] if table.notes else []


def _bold(each, text, pattern):
    return pattern.format(text) if isinstance(each, Cell) and each.best else text


def _plain_markdown(each):
    return _MARKDOWN.sub(r"\\\1", _one_line(each))


def _tex(each):
    text = _one_line(each)
    if isinstance(each, Cell):
        text = "--" if each.value is None else text.replace("-", "$-$")
        return text.replace("±", r"$\pm$")
    return "".join(_LATEX.get(character, character) for character in text)


def _one_line(each):
    return " ".join(str(each).split())
