"""One page of a report: tables and figures in a single HTML file that loads nothing from anywhere."""

import base64
from html import escape

from reporting.table_formats import spans
from reporting.tables import Cell

CSS = """
:root { color-scheme: light dark; --line: #8888; --faint: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; font-weight: bold; padding: .3rem 0; }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
thead th[colspan] { text-align: center; }
tbody tr:hover { background: var(--faint); }
.notes { font-size: .85rem; margin: .3rem 0; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: 0; max-width: 100%; }
figure img { display: block; max-width: 100%; height: auto; background: white; border: 1px solid var(--line); }
figcaption { font-size: .85rem; max-width: 40rem; }
@media print {
  body { max-width: none; font-size: 10pt; }
  nav { display: none; }
  .wide { overflow: visible; }
  table { font-size: 7pt; }
  th, td { padding: .1rem .3rem; white-space: normal; }
  figure img { max-height: 24cm; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""
COUNTED = (
    "Test accuracy after a step is on the clips of all classes seen, among all classes seen. Forgetting of a task is"
    " its best earlier accuracy minus today's; average forgetting is the mean over earlier tasks, then over steps. With"
    " several seeds: mean and sample standard deviation. All in per cent."
)


def page(title, summary, tables, figures, notes):
    """The page as a string.

    tables: a list of (heading, list of Tables). figures: a list of (heading, list of (Picture, svg bytes)). notes:
    lines for the end. All texts are escaped here.
    """
    sections = [(heading, "".join(map(_table, each))) for heading, each in tables]
    sections += [(heading, f'<div class="figures">{"".join(map(_figure, each))}</div>') for heading, each in figures]
    links = "".join(f'<li><a href="#s{n}">{escape(heading)}</a></li>' for n, (heading, _) in enumerate(sections))
    body = "".join(
        f'<section id="s{n}"><h2>{escape(heading)}</h2>{html}</section>\n' for n, (heading, html) in enumerate(sections)
    )
    foot = "".join(f"<p class=notes>{escape(line)}</p>" for line in (COUNTED, *notes))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{escape(summary)}</p>
<nav aria-label="Contents"><ul>{links}</ul></nav>
<main>
{body}</main>
<footer>{foot}</footer>
</body>
</html>
"""


def _table(table):
    caption = f"<caption>{escape(table.title)}</caption>" if table.title else ""
    heads = "".join(f'<th scope="col">{escape(column.name)}</th>' for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, range(len(row)), row))}</tr>\n" for row in table.rows)
    notes = "".join(f"<p class=notes>{escape(line)}</p>" for line in table.notes)
    return (
        f'<div class="wide"><table>{caption}<thead>{_groups(table.columns)}<tr>{heads}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>{notes}\n"
    )


def _groups(columns):
    if not any(column.group for column in columns):
        return ""
    heads = (
        f'<th scope="colgroup" colspan="{count}">{escape(group)}</th>' if group else "<td></td>" * count
        for group, count in spans(columns)
    )
    return f"<tr>{''.join(heads)}</tr>"


def _cell(index, each):
    text = escape(str(each).replace("-", "\N{MINUS SIGN}") if isinstance(each, Cell) and each.value else str(each))
    if index == 0:
        return f'<th scope="row">{text}</th>'
    return f"<td>{f'<strong>{text}</strong>' if isinstance(each, Cell) and each.best else text}</td>"


def _figure(drawn):
    picture, svg = drawn
    data = base64.b64encode(svg).decode()
    return (
        f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{escape(picture.alt)}">'
        f"<figcaption>{escape(picture.title)}</figcaption></figure>\n"
    )
