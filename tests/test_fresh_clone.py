"""Every command of the documents as written, in a clone without data: it works, or says in a line what to do."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.helpers.shared import REPO
from tests.test_documents import COMMANDS, PYTHON

# What renders or downloads for minutes (tests of their own do so), and what measures.
ELSEWHERE = ("make_demo_clips.py", "download.py", "benchmarks/", "docs/", "tests/")
# Runs commands one after another, each in a process of its own that has loaded the packages already.
DRIVER = """
import importlib, json, os, signal, sys
import torch, h5py, sklearn
torch.set_num_threads(1)
sys.path.insert(0, os.getcwd())
for number, (script, words) in enumerate(json.load(open("commands.json"))):
    if (child := os.fork()) == 0:
        signal.alarm(120)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
        sys.argv = [script, *words]
        code = 0
        try:
            importlib.import_module(script.removesuffix(".py").replace("/", ".")).main(words)
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


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
    (folder / "commands.json").write_text(json.dumps(asked()))
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", DRIVER], cwd=folder, env=environment, capture_output=True, text=True)
    codes = [int(line) for line in done.stdout.split()]
    assert len(codes) == len(asked()), done.stderr
    return [
        (*each, code, (folder / f"{n}.err").read_text())
        for n, (each, code) in enumerate(zip(asked(), codes, strict=True))
    ]


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
