"""One page of a report: tables and figures in a single HTML file that loads nothing from anywhere (see page.html)."""

import base64
import os
from dataclasses import dataclass, field

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reporting.figures import FigureSpec
from reporting.provenance import Provenance
from reporting.table_formats import spans
from reporting.tables import Cell, Table

TEMPLATE = "page.html"
COUNTED = (
    "Test accuracy after a step is on the clips of all classes seen, among all classes seen. Forgetting of a task is"
    " its best earlier accuracy minus today's; average forgetting is the mean over earlier tasks, then over steps. With"
    " several seeds: mean and sample standard deviation. All in per cent."
)


@dataclass(frozen=True)
class Section:
    """What stands under one heading; figures with their SVG."""

    heading: str
    tables: list[Table] = field(default_factory=list)
    figures: list[tuple[FigureSpec, bytes]] = field(default_factory=list)
    provenance: list[Provenance] = field(default_factory=list)


def page(title: str, summary: str, sections: list[Section], notes: list[str]) -> str:
    """The page; ``notes`` are lines for its end. The template escapes all texts."""
    environment = Environment(
        loader=FileSystemLoader(os.path.dirname(__file__)), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"number": _number, "base64": lambda content: base64.b64encode(content).decode()}
    environment.globals["spans"] = spans
    template = environment.get_template(TEMPLATE)
    return template.render(title=title, summary=summary, sections=sections, notes=[COUNTED, *notes])


def _number(each):
    """A cell of a table with a real minus sign."""
    return str(each).replace("-", "\N{MINUS SIGN}") if isinstance(each, Cell) and each.value else str(each)
