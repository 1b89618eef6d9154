"""Processes of one run that wait for one another do so for a limited time, and end with what started them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import train_incremental
from tests.helpers import tiny
from tests.helpers.children import two_ranks
from tests.helpers.shared import REPO
from utils import devices

FLAGS = ["--max_epochs", "100000", "--checkpoint_every", "1"]
LONGEST = 120  # seconds after which a test gives up


@pytest.fixture
def started(tmp_path):
    """torchrun and the process ids of its two ranks, in the middle of training with a limit of six seconds."""
    tiny.make(tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [REPO / "train_incremental.py", *tiny.flags(tmp_path, "avcil", "--run_dir", str(tmp_path / "run"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    agent = subprocess.Popen(
        [*command, *FLAGS, "--rank_timeout", "0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    try:
        wait_for(lambda: (tmp_path / "run" / "checkpoints" / "unfinished.pt").exists() or agent.poll() is not None)
        assert agent.poll() is None, agent.stderr.read()
        yield agent, children(agent.pid)
    finally:
        for process in [agent.pid, *children(agent.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        agent.communicate()


def wait_for(condition):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < LONGEST
        time.sleep(0.05)


def children(parent):
    """Ids of the processes that ``parent`` started, by rank."""
    with contextlib.suppress(FileNotFoundError), open(f"/proc/{parent}/task/{parent}/children") as file:
        return [int(process) for process in file.read().split()]
    return []


def frames_of_ours(errors):
    """Lines of tracebacks, which torchrun also prints of itself, that lie in our code."""
    return [line for line in errors.splitlines() if 'File "' in line and str(REPO) in line and ".venv" not in line]


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stopped_rank_is_given_up_in_one_line(started):
    agent, (first, second) = started
    os.kill(second, signal.SIGSTOP)
    wait_for(lambda: not alive(first))
    os.kill(second, signal.SIGCONT)  # else torchrun waits for it for half a minute
    errors = agent.communicate(timeout=LONGEST)[1].decode()
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert any(re.search("did not answer for [1-9]\\d* seconds .*the same command goes on$", line) for line in lines)
    assert not frames_of_ours(errors)


def test_ranks_end_when_torchrun_is_killed(started):
    agent, ranks = started
    os.kill(agent.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(alive, ranks)))


def test_a_rank_that_is_stopped_ends_when_torchrun_is_killed(started):
    agent, (first, second) = started
    os.kill(second, signal.SIGSTOP)
    os.kill(agent.pid, signal.SIGKILL)
    wait_for(lambda: not alive(first) and not alive(second))


def test_an_interrupt_that_comes_twice_is_one_line_a_rank(started):
    """That of the terminal, and that of torchrun, which hears the terminal's as well."""
    agent, ranks = started
    for process in (*ranks, agent.pid):
        os.kill(process, signal.SIGINT)
    errors = agent.communicate(timeout=LONGEST)[1].decode()
    assert "Exception ignored" not in errors and not frames_of_ours(errors)
    assert errors.splitlines().count("error: interrupted; the same command goes on from here") == 2


def test_a_rank_that_dies_ends_the_others_without_a_traceback_of_ours(started):
    agent, (first, second) = started
    os.kill(second, signal.SIGKILL)
    wait_for(lambda: not alive(first))
    errors = agent.communicate(timeout=LONGEST)[1].decode()
    assert not frames_of_ours(errors)
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert not said or "has ended (" in said[0] and ".cc:" not in said[0] and "the same command goes on" in said[0]


LEFT_OVER = {
    "no rank": ({"WORLD_SIZE": "2"}, "RANK is not set"),
    "no number": ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
    "nothing": ({"WORLD_SIZE": ""}, "WORLD_SIZE is ''"),
    "below one": ({"WORLD_SIZE": "-3", "RANK": "0"}, "WORLD_SIZE is '-3'"),
    "a rank that is no number": ({"WORLD_SIZE": "2", "RANK": "1_0"}, "RANK is '1_0'"),
    "a rank of no process": ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is '2', not a number from 0 to 1"),
    "a rank alone, which would write nothing": ({"RANK": "1"}, "RANK is '1', not a number from 0 to 0"),
    "nobody to meet": ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "29500"}, "without MASTER_ADDR"),
    "no port": ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost"}, "MASTER_PORT is not set"),
    "no such port": ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "99999"}, "MASTER_PORT is '99999'"),
    "many on this machine": ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE is '0'"),
}


@pytest.mark.parametrize("case", LEFT_OVER)
def test_what_is_left_of_torchrun_in_the_environment_is_one_line(tmp_path, monkeypatch, case):
    variables, part = LEFT_OVER[case]
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tiny.make(tmp_path)
    assert part in tiny.refused(tmp_path)


def test_ranks_of_a_finished_run_leave_together(tmp_path, monkeypatch):
    """One that is through at once would end the connections that the other is still making."""
    tiny.make(tmp_path)
    flags = tiny.flags(tmp_path, "fine_tuning", "--run_dir", str(tmp_path / "run"), "--max_epochs", "1")
    train_incremental.main(flags)
    reported, came = train_incremental.report_run, tmp_path / "came"

    def report_late(args, results):
        if os.environ["RANK"] == "1":
            time.sleep(1)
            came.touch()
        reported(args, results)

    def work():
        train_incremental.main(flags)
        assert came.exists()

    monkeypatch.setattr(train_incremental, "report_run", report_late)
    for rank in two_ranks(work, tmp_path):
        assert rank.wait() == 0, rank.said()


def test_who_waits_says_so_and_then_gives_up(monkeypatch, capsys):
    """A watch whose clock runs as the test says."""
    now, ended = [0.0], []
    monkeypatch.setattr(devices.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(devices._Watch, "_end", lambda watch, reason: ended.append(reason))
    watch = devices._Watch.__new__(devices._Watch)
    watch.__dict__.update(rank=1, seconds=1800, parent=os.getppid(), waiting_since=None, left=0.0, longest=0.0)
    watch.noticed = False
    now[0] = 500.0
    watch.arrive()  # the longest work so far took 500 s
    for now[0], lines, ends in ((550.0, 0, 0), (561.0, 1, 0), (700.0, 1, 0), (2799.0, 1, 0), (2801.0, 1, 1)):
        watch.look()
        assert len(capsys.readouterr().err.splitlines()) == (lines if now[0] == 561.0 else 0)
        assert len(ended) == ends
    watch.leave()
    now[0] = 9000.0
    watch.look()
    assert len(ended) == 1 and "35 minutes" not in ended[0] and "38 minutes" in ended[0]
