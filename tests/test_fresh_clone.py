"""Every command of the documents as written, in a clone without data: it works, or says in a line what to do."""

import json
import re
import shutil

import pytest

from tests.helpers.shared import REPO
from tests.helpers.warm import Warm
from tests.test_documents import COMMANDS, PYTHON

# What renders or downloads for minutes (tests of their own do so), and what measures.
ELSEWHERE = ("make_demo_clips.py", "download.py", "benchmarks/", "docs/", "tests/")


def started(words):
    """(script, its words) that a command of the documents starts; None if it starts none of ours, or several."""
    if words[0] == PYTHON and words[1].endswith(".py"):
        return words[1], words[2:]
    if words[0] != "sh" or not (REPO / words[1]).is_file():
        return None
    text = (REPO / words[1]).read_text(encoding="utf-8")
    launched = re.findall(r'launch (\S+\.py) "([\w ]*)" "\$@"(?: --method (\w+))?', text)
    if not launched:
        return None
    script, names, method = launched[0]
    more = ["--method", method] if method else []
    if words[2:] and not words[2].startswith("-"):
        for name, value in zip(names.split(), words[2:], strict=False):
            more += [f"--{name}", value]
        words = [*words[:2], *words[2 + len(names.split()) :]]
    return script, [*words[2:], *more]


def asked():
    """What is started, each once: (script, words)."""
    found = (started([word for word in words if word != "&&"]) for _, words in COMMANDS if "&&" not in words)
    kept = {json.dumps(each): each for each in found if each and not each[0].startswith(ELSEWHERE)}
    return list(kept.values())


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """How each command ended: (script, words, exit code, what it said as errors)."""
    folder = tmp_path_factory.mktemp("fresh") / "clone"
    ignored = shutil.ignore_patterns(".venv", ".git", "save", "data", "raw_data", "__pycache__", ".*_cache")
    shutil.copytree(REPO, folder, ignore=ignored)
    with Warm(folder) as warm:
        done = [(each, warm.run(each[0], *each[1])) for each in asked()]
    return [(*each, ended.returncode, ended.stderr) for each, ended in done]


def test_each_works_or_says_in_one_line_what_to_do(ended):
    assert len(ended) > 40
    bad = [
        f"{script} {' '.join(words)}: {code} {error}"
        for script, words, code, error in ended
        if not (code == 0 and not error or code == 2 and re.fullmatch(r"error: .+\n", error))
    ]
    assert not bad, "\n".join(bad)


def test_the_line_for_a_data_set_of_the_release_is_the_download(ended):
    trained = [
        (words, error)
        for script, words, _, error in ended
        if script == "train_incremental.py" and "AVE" in words and not {"--help", "calm", "average"} & set(words)
    ]
    assert trained
    for words, error in trained:
        assert "sh download.sh 'AVE'" in error, (words, error)
