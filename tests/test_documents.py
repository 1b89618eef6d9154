"""What README and docs tell people to type exists: scripts, flags, files, links, and the messages they quote."""

import contextlib
import importlib
import io
import re
import shlex

import pytest
from sklearn.datasets import load_digits

from engine.registry import method_names
from make_demo_clips import NAMES, choose, clip_id
from tests.helpers.shared import REPO

SKIP = {".venv", "save", "data", "raw_data", "node_modules"}
DOCUMENTS = sorted(path for path in REPO.rglob("*.md") if not SKIP & set(path.relative_to(REPO).parts[:-1]))
PYTHON = ".venv/bin/python"
# Programs of the shell that commands may begin with; their flags are not ours to check.
SHELL = {"git", "cat", "cd", "diff", "apt", "pip", "sbatch", "for", "do", "done", "pre-commit", "unshare", "ip"}


def fenced(text):
    """Lines of commands in ```sh blocks, continued lines joined, comments and loops taken off."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and (words[0] in ("do", "then") or re.fullmatch(r"\w+=.*", words[0])):
                words = words[1:]
            if words:
                yield words


def inline(text):
    """Commands in `code`: whatever begins as one of ours does."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    for code in re.findall(r"`([^`\n]+)`", prose):
        if re.match(rf"(\w+=\S+ )*(sh \S+\.sh|({re.escape(PYTHON)}|python3?|\S*torchrun) \S)", code):
            yield [word for word in shlex.split(code) if not re.fullmatch(r"[A-Z_]+=.*", word)]


def commands(path):
    text = path.read_text(encoding="utf-8")
    return [*fenced(text), *inline(text)]


# Files that the documents tell to write.
EXAMPLES = {"methods/calm.py", "model/networks/average.py", "reporting/measures/first_task.py"}
EXAMPLES |= {"model/encoders/brightness.py"}

COMMANDS = [(path, words) for path in DOCUMENTS for words in commands(path)]


def label(value):
    return str(value.relative_to(REPO)) if hasattr(value, "relative_to") else " ".join(value)[:60]


def help_of(module, *before):
    """The flags in the help of a command of the project, given as a module."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main([*before, "--help"])
    assert ended.value.code == 0
    return set(re.findall(r"--[\w-]+", printed.getvalue()))


def check_python(script, words):
    """That ``script`` exists, and knows each flag of ``words``."""
    assert (REPO / script).is_file(), f"no {script}"
    if script.startswith("benchmarks/"):
        check_flags(words, flags_in_source(script) | {"--help"})
        return
    before = []
    if script in ("train_incremental.py", "run_all.py"):
        method = words[words.index("--method") + 1] if "--method" in words else "avcil"
        before = ["--method", method] if script == "train_incremental.py" and method in method_names() else []
    elif script == "splits/build.py":
        before = [word for word in words[:1] if not word.startswith("-")]
    known = help_of(script.removesuffix(".py").replace("/", "."), *before)
    if script == "run_all.py":
        known |= help_of("train_incremental")
    check_flags(words, known)


def flags_in_source(path):
    return set(re.findall(r'"(--[\w-]+)"', (REPO / path).read_text(encoding="utf-8")))


def check_flags(words, known):
    for word in words:
        if word.startswith("--") and word != "--":
            assert word.partition("=")[0] in known, f"no flag {word}"


def check_launcher(script, words):
    """That a launcher exists, is given its positional words, and that what it starts knows each flag."""
    assert (REPO / script).is_file(), f"no {script}"
    text = (REPO / script).read_text(encoding="utf-8")
    launches = re.findall(r'launch (\S+\.py) "([\w ]*)" "\$@"(?: --method (\w+))?', text)
    if not launches:
        check_flags(words, set(re.findall(r"--[\w-]+", text)))
        return
    target, names, method = launches[0]
    positional = [word for word in words[: len(names.split())] if not word.startswith("-")]
    assert len(positional) == len(names.split()) or words in ([], ["--help"]), f"{script} takes {names}"
    check_python(target, [*words[len(positional) :], *(["--method", method] if method else [])])


@pytest.mark.parametrize(("path", "words"), COMMANDS, ids=label)
def test_a_command_exists_with_its_flags(path, words):
    if words[0] == "sh":
        check_launcher(words[1], words[2:])
    elif words[0] == PYTHON and words[1] == "-m":
        if words[2].startswith("tests."):
            check_flags(words, flags_in_source(words[2].replace(".", "/") + ".py"))
    elif words[0] == PYTHON:
        check_python(words[1], words[2:])
    elif words[0] == ".venv/bin/torchrun":
        script = next(word for word in words if word.endswith(".py"))
        check_python(script, words[words.index(script) + 1 :])
    else:
        assert words[0] in SHELL, f"{' '.join(words)}: say which Python, or which shell script"


def test_documents_have_commands():
    assert len(COMMANDS) > 40
    assert sum(path.name == "README.md" and path.parent == REPO for path, _ in COMMANDS) > 15


def headings(path):
    """The anchors of a document's headings, as hosts make them."""
    lines = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("path", DOCUMENTS, ids=label)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{target} does not exist"
        assert not anchor or anchor in headings(file), f"{target}: no such heading"


@pytest.mark.parametrize("path", DOCUMENTS, ids=label)
def test_files_that_are_named_exist(path):
    rooms = {folder.name for folder in REPO.iterdir() if folder.is_dir()} - SKIP
    for code in re.findall(r"`([\w./-]+\.(?:py|sh|md|svg))`", path.read_text(encoding="utf-8")):
        if "/" in code and code.partition("/")[0] in rooms and code not in EXAMPLES:
            assert (REPO / code).exists(), f"{code} does not exist"


@pytest.mark.parametrize("room", [path.parent for path in DOCUMENTS if path.name == "README.md"], ids=label)
def test_the_readme_of_a_room_names_files_that_are_in_it(room):
    for name in re.findall(r"`(\w+\.py)`", (room / "README.md").read_text(encoding="utf-8")):
        assert [*room.rglob(name)] or (REPO / name).exists(), f"{name} is neither in {room.name} nor a script"


def test_the_readme_is_short_and_quotes_messages_that_exist():
    text = (REPO / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 250
    rows = text.partition("## Troubleshooting")[2].partition("\n## ")[0]
    quoted = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\|([^|]*)\|", rows, re.M)))
    source = "".join(path.read_text(encoding="utf-8") for path in [*REPO.glob("*/*.py"), *REPO.glob("*.sh")])
    source += (REPO / "setup.sh").read_text(encoding="utf-8").replace("$python", "python3")
    foreign = {"No module named torch", "CUDA out of memory"}
    for message in set(quoted) - foreign:
        assert message.removesuffix("...") in source, f"no message says {message!r}"


def test_the_table_of_promises_names_tests_that_exist():
    table = (REPO / "tests" / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", table)
    for file, test in named:
        text = (REPO / "tests" / file).read_text(encoding="utf-8")
        assert not test or f"\ndef {test}(" in text, f"{file} has no {test}"
    assert len(named) > 40


def test_clips_of_the_demonstration_that_are_named_are_test_clips_of_it():
    named = {clip for path in DOCUMENTS for clip in re.findall(rf"\b(?:{'|'.join(NAMES)})_\d{{4}}\b", path.read_text())}
    clips = choose(load_digits().target, {"train": 50, "val": 12, "test": 30}, seed=0)
    assert named and named <= {clip_id(*clip) for clip in clips["test"]}
