"""Where a report writes: targets that are checked before anything is drawn, figures and page in one pass."""

import contextlib
import os
from itertools import groupby

from tqdm import tqdm

from reporting.figures import gallery
from reporting.layouts import method_tables, option_tables
from reporting.page import page
from reporting.style import FORMATS, figure_style, missing_letters, render
from reporting.tables import steps_table
from utils.errors import InputError
from utils.files import atomic_path, write_text


def check_targets(figures, html, style):
    """InputError, before the work, if folder ``figures`` or file ``html`` (None: not wanted) cannot be written.

    Or if there is no such style, or nothing to draw in it.
    """
    if style is not None and figures is None and html is None:
        raise InputError(f"--style {style}: nothing is drawn; give --figures or --html as well")
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


def write_report(groups, summary, figures=None, html=None, style=None):
    """Write figures to the folder ``figures`` and a page to the file ``html``, where given. Returns lines on both."""
    shown = gallery(groups)
    drawn = []
    with figure_style(style), missing_letters() as letters:
        for picture in tqdm(shown.pictures, "Drawing", unit="figure", disable=None, leave=False):
            files = render(picture.draw(), ["svg"] if figures is None else FORMATS)
            drawn.append((picture, files["svg"]))
            if figures is not None:
                _save(figures, picture.stem, files)
    lines = shown.left_out_lines() + letters
    if html is not None:
        sections = [(place, list(each)) for place, each in groupby(drawn, key=lambda pair: pair[0].section)]
        with _told("--html", html):
            write_text(html, page(_title(groups), summary, _tables(groups), sections, lines))
    if figures is not None:
        kinds = ", ".join(format.upper() for format in FORMATS)
        lines.append(f"wrote {len(drawn)} figures, each as {kinds}, to {figures}")
    if html is not None:
        lines.append(f"wrote {html}: tables and {len(drawn)} figures in one file")
    return lines


def _save(folder, stem, files):
    for format, content in files.items():
        path = os.path.join(folder, f"{stem}.{format}")
        with _told("--figures", path), atomic_path(path) as aside, open(aside, "wb") as file:
            file.write(content)


def _tables(groups):
    headed = [
        ("Methods", method_tables(groups)),
        ("Options of a method", option_tables(groups)),
        ("Accuracy after each step", [steps_table(groups)]),
    ]
    return [(heading, tables) for heading, tables in headed if tables]


def _title(groups):
    names = dict.fromkeys(runs[0]["arguments"]["dataset"] for _, runs in groups)
    return f"Class-incremental learning on {', '.join(names)}"


def _make_folder(path):
    with _told("--figures", path):
        os.makedirs(path, exist_ok=True)
    _check_writable("--figures", path, path)


def _check_writable(option, path, folder):
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option} {path}: cannot be written there; choose another place")


@contextlib.contextmanager
def _told(option, path):
    """Say of an error in writing what was to be written: not the name of the file aside."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be written ({error.strerror}); choose another place") from None
