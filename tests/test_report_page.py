"""The page of a report: whole, escaped, and shown by a browser without complaints or requests."""

import json
import os
import re
import shutil
import warnings

import pytest

from tests.helpers import report_runs, tiny

NASTY = '<script>alert("x")</script>&\'"'


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with figures and the page, of runs whose names try to be HTML."""
    root = tmp_path_factory.mktemp("report")
    for seed in (1, 2):
        report_runs.make(
            root / "runs" / str(seed), seed, dataset=NASTY, names=[f"{NASTY} {label}" for label in range(6)]
        )
    report_runs.make(root / "runs" / "old", method="lwf", dataset=NASTY, confusion=False)
    return root, report_runs.printed(root / "runs", "--figures", root / "figures", "--html", root / "page.html")[0]


def test_what_is_said_and_what_is_there(written):
    root, said = written
    files = sorted(path.name for path in (root / "figures").iterdir())
    stems = {name.rsplit(".", 1)[0] for name in files}
    assert len(files) == 3 * len(stems) == 3 * 8
    assert {name.rsplit(".", 1)[1] for name in files} == {"svg", "pdf", "png"}
    lines = said.splitlines()[-3:]
    assert lines[0].startswith("left out: confusion of LwF: results.json has no confusion")
    assert lines[1] == f"wrote 8 figures, each as SVG, PDF, PNG, to {root / 'figures'}"
    assert lines[2] == f"wrote {root / 'page.html'}: tables and 8 figures in one file"
    assert sorted(path.name for path in root.iterdir()) == ["figures", "page.html", "runs"]


def test_texts_are_escaped_and_nothing_is_loaded(written):
    html = (written[0] / "page.html").read_text()
    assert "<script" not in html and "&lt;script&gt;" in html
    assert re.findall(r'(?:src|href)="(?!data:|#)', html) == []
    assert "url(" not in html and "@import" not in html
    alts = re.findall(r'<img [^>]*alt="([^"]*)"', html)
    assert len(alts) == 8 and all(len(alt) > 20 for alt in alts)


def test_the_page_says_where_numbers_come_from(tmp_path):
    for seed in (3, 5):
        results = report_runs.make(tmp_path / str(seed), seed, memory_size=77)
        results |= {"versions": {"torch": "2.99"}}
        results["arguments"]["command"] = f"train_incremental.py --seed {seed}"
        (tmp_path / str(seed) / "results.json").write_text(json.dumps(results))
        (tmp_path / str(seed) / "data.json").write_text(json.dumps({"sha256": "abcdef"}))
        os.utime(tmp_path / str(seed) / "results.json", (0, 86400 * seed))
    report_runs.printed(tmp_path, "--html", tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    details = re.sub("<[^>]*>", " ", html[html.index("<details>") : html.index("</details>")])
    said = " ".join(details.split())
    assert said.startswith("AV-CIL: seeds 3, 5, 1970-01-06 Seeds 3, 5 Settings classes_per_step 2, ")
    for part in (
        "memory_size 77",
        "torch 2.99",
        "abcdef",
        "Command python train_incremental.py --seed 3 Command python train_incremental.py --seed 5",
        str(tmp_path / "5"),
    ):
        assert part in said
    assert said.endswith("Written 1970-01-04 00:00 UTC to 1970-01-06 00:00 UTC")


def test_the_page_is_the_same_again(written):
    root = written[0]
    report_runs.printed(root / "runs", "--html", root / "runs" / "again.html")
    assert (root / "runs" / "again.html").read_bytes() == (root / "page.html").read_bytes()


def test_a_trained_run_has_all_that_a_report_shows(tmp_path):
    tiny.make(tmp_path)
    tiny.train(tmp_path, "fine_tuning")
    said = report_runs.printed(tmp_path / "run", "--html", tmp_path / "page.html")[0]
    assert "left out" not in said and "6 figures" in said


def test_names_in_any_script(tmp_path):
    names = ["$x^$", "a $5 b $6", "猫", "Katze", "_", "\\frac"]
    report_runs.make(tmp_path / "run", classes=2, names=names[:2])
    report_runs.make(tmp_path / "run_2", method="lwf", names=names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = report_runs.printed(tmp_path, "--html", tmp_path / "page.html")[0]
    assert said.count("some characters are boxes") == 1


# A browser that asks for nothing by itself.
QUIET = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as running:
        try:
            chromium = running.chromium.launch(executable_path=path, args=["--no-sandbox", *QUIET])
        except playwright.Error:
            pytest.skip("no browser is installed: playwright install chromium, or the package chromium")
        yield chromium
        chromium.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_page(written, browser, scheme):
    page = browser.new_page(color_scheme=scheme, viewport={"width": 700, "height": 900})
    page.set_default_timeout(180_000)  # milliseconds; the machine may be busy
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    address = (written[0] / "page.html").as_uri()
    page.goto(address)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 100)") == [True] * 8
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert NASTY in page.inner_text("h1")
    # On a phone the names of rows stay while the numbers scroll.
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    left, scrolled = page.evaluate(
        """() => {
            const overflow = each => each.scrollWidth - each.clientWidth;
            const wide = [...document.querySelectorAll(".wide")].sort((a, b) => overflow(b) - overflow(a))[0];
            const name = wide.querySelector("tbody th"), before = name.getBoundingClientRect().left;
            wide.scrollLeft = 1000;
            return [name.getBoundingClientRect().left - before, wide.scrollLeft];
        }"""
    )
    assert left == 0 and scrolled > 50
    text, ground = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    assert text == ("rgb(0, 0, 0)" if scheme == "light" else "rgb(255, 255, 255)") and ground == "rgba(0, 0, 0, 0)"
    page.close()
