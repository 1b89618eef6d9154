"""Where a report writes: targets that are checked before anything is drawn, figures and page in one pass.

The page is a single HTML file that loads nothing from anywhere (see page.html).
"""

import base64
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tqdm import tqdm

from reporting.classes import error_tables
from reporting.figure_set import FigureSpec
from reporting.figures import figures_of
from reporting.gradients import READING as READING_GRADIENTS
from reporting.gradients import gradients
from reporting.layouts import method_tables, option_tables, summary_tables
from reporting.modalities import READING as READING_MODALITIES
from reporting.modalities import analysed_tables
from reporting.provenance import Provenance, provenance
from reporting.representation import READING as READING_FEATURES
from reporting.representation import representations
from reporting.runs import Group
from reporting.style import FORMATS, figure_style, missing_glyphs, render, save
from reporting.table_formats import spans
from reporting.tables import Cell, Table, steps_table
from utils.errors import InputError
from utils.files import write_text

TEMPLATE = "page.html"
COUNTED = (
    "Test accuracy after a step is on the clips of all classes seen, among all classes seen. Forgetting of a task is"
    " its best earlier accuracy minus today's; average forgetting is the mean over earlier tasks, then over steps. With"
    " several seeds: mean and sample standard deviation. All in per cent."
)

READING = {
    "paired": "A difference counts where its interval leaves out 0: seeds alone hardly make one so large.",
    "summary": (
        "Where the task-aware accuracy is much above the last, clips are confused with other tasks; where it is low"
        " itself, their classes were forgotten."
    ),
    "errors": (
        "Errors within a task are of look-alikes, errors between tasks of forgetting; towards newest above 0: the"
        " classifier prefers the newest classes."
    ),
}


@dataclass(frozen=True)
class Section:
    """What stands under one heading; ``reading``: a sentence on how to read it; figures with their SVG."""

    heading: str
    tables: list[Table] = field(default_factory=list)
    figures: list[tuple[FigureSpec, bytes]] = field(default_factory=list)
    provenance: list[Provenance] = field(default_factory=list)
    reading: str = ""


def page(title: str, summary: str, sections: list[Section], notes: list[str]) -> str:
    """The page; ``notes`` are lines for its end. The template escapes all texts."""
    environment = Environment(
        loader=FileSystemLoader(os.path.dirname(__file__)), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"number": _number, "base64": lambda content: base64.b64encode(content).decode()}
    environment.globals["spans"] = spans
    template = environment.get_template(TEMPLATE)
    return template.render(title=title, summary=summary, sections=sections, notes=[COUNTED, *notes])


def check_targets(figures: str | None, html: str | None, style: str | None):
    """InputError, before the work, if folder ``figures`` or file ``html`` (None: not wanted) cannot be written.

    Or if there is no such style.
    """
    with figure_style(style):
        pass
    if figures is not None:
        _make_folder(figures)
    if html is not None:
        folder = os.path.dirname(html) or "."
        if os.path.isdir(html):
            raise InputError(f"--html {html}: is a folder; name a file, such as {os.path.join(html, 'report.html')}")
        if not os.path.isdir(folder):
            raise InputError(f"--html {html}: there is no folder {folder}; make it first, or choose another")
        _check_writable("--html", html, folder)


def write_report(
    groups: list[Group],
    summary: str,
    figures: str | None = None,
    html: str | None = None,
    style: str | None = None,
    comparison: Sequence[Table] = (),
) -> list[str]:
    """Write figures to the folder ``figures`` and a page to the file ``html``, where given. Returns lines on both.

    ``comparison``: tables of reporting.paired that the page has as well.
    """
    finished = [(name, [run for run in runs if run.finished]) for name, runs in groups]
    specs, drawn = figures_of([(name, runs) for name, runs in finished if runs]), []
    with figure_style(style), missing_glyphs() as glyphs:
        for spec in tqdm(specs.figures, "Drawing", unit="figure", disable=None, leave=False):
            if figures is None:
                files = render(spec.draw(), ["svg"])
            else:
                with _target("--figures", figures):
                    files = save(spec.draw(), os.path.join(figures, spec.stem))
            drawn.append((spec, files["svg"]))
    lines = specs.skipped_lines() + glyphs
    if html is not None:
        sections = _tables(groups, [group for group in finished if group[1]], comparison)
        for heading, pairs in groupby(drawn, key=lambda pair: pair[0].section):
            sections.append(Section(heading, figures=list(pairs)))
        sections.append(Section("Runs", provenance=provenance(groups)))
        with _target("--html", html):
            write_text(html, page(_title(groups), summary, sections, lines))
    if figures is not None:
        kinds = ", ".join(format.upper() for format in FORMATS)
        lines.append(f"wrote {len(drawn)} figures, each as {kinds}, to {figures}")
    if html is not None:
        lines.append(f"wrote {html}: tables and {len(drawn)} figures in one file")
    return lines


def _tables(groups, finished, comparison):
    """The Sections of tables that there are; ``finished``: those of ``groups`` with finished runs, and these alone."""
    sections = [
        Section("Methods", method_tables(groups)),
        Section("Compared in pairs", list(comparison), reading=READING["paired"]),
        Section("Accuracy, forgetting, cost", summary_tables(groups), reading=READING["summary"]),
        Section("Options of a method", option_tables(groups)),
        Section("Accuracy after each step", [steps_table(groups)]),
        Section("Errors and ages", error_tables(groups), reading=READING["errors"]),
        Section("What each modality is worth", analysed_tables(finished), reading=READING_MODALITIES),
        Section("Features of the network", representations(finished), reading=READING_FEATURES),
        Section("Gradients of loss terms", gradients(finished), reading=READING_GRADIENTS),
    ]
    return [section for section in sections if section.tables]


def _title(groups):
    names = dict.fromkeys(runs[0].arguments["dataset"] for _, runs in groups)
    return f"Class-incremental learning on {', '.join(names)}"


def _make_folder(path):
    with _target("--figures", path):
        os.makedirs(path, exist_ok=True)
    _check_writable("--figures", path, path)


def _check_writable(option, path, folder):
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option} {path}: cannot be written; choose another place")


@contextlib.contextmanager
def _target(option, path):
    """Turn an OSError into an InputError that names the file, or else ``path``."""
    try:
        yield
    except OSError as error:
        name = error.filename or path
        raise InputError(f"{option} {name}: cannot be written ({error.strerror}); choose another place") from None


def _number(each):
    """A cell of a table with a real minus sign."""
    return str(each).replace("-", "\N{MINUS SIGN}") if isinstance(each, Cell) and each.value else str(each)
