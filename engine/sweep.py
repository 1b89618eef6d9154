"""Many runs side by side: each a process of its own, that ends when the sweep does. No torch is needed."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from tqdm import tqdm

from engine.run_files import LOCK, RESULTS, STEPS, read_results
from utils.errors import InputError, printable
from utils.files import file_lock

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 30  # for a run that is told to end, before it is killed
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(eq=False)
class Run:
    """One command of a sweep. ``command``: its words; ``folder``: where its results go; ``name``: for people.

    ``waits``: for another process that writes to its folder. ``left_out``: flags that it has no use for, with reasons.
    """

    name: str
    command: list[str]
    folder: str
    finished: bool = False
    waits: bool = False
    left_out: dict[str, str] = field(default_factory=dict)

    def state(self) -> str:
        """Finished, running (here or in another process), stopped after so many steps, or not begun."""
        if self.finished:
            return f"finished: last accuracy {self.last_accuracy():.4f}"
        steps = _count_lines(os.path.join(self.folder, STEPS))
        if self.is_running():
            return f"running, {steps} steps done"
        return f"stopped after {steps} steps" if os.path.isdir(self.folder) else "not begun"

    def is_running(self) -> bool:
        """Whether a process, of this sweep or not, writes to the folder."""
        path = os.path.join(self.folder, LOCK)
        if os.path.islink(path) or not os.path.isfile(path):
            return False
        try:
            with file_lock(path, "this run"):
                return False
        except InputError:
            return True
        except OSError:
            return False  # the run itself says what is wrong with its folder

    def last_accuracy(self) -> float:
        accuracy = read_results(os.path.join(self.folder, RESULTS)).last_accuracy
        assert accuracy is not None  # the results of a finished run have it
        return accuracy


@dataclass(eq=False)
class _Started:
    run: Run
    slot: dict[str, str]
    errors: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def __post_init__(self):
        self.process = subprocess.Popen(
            self.run.command,
            env=os.environ | self.slot,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            # The terminal's interrupt does not reach it; the sweep ends it.
            start_new_session=True,
            preexec_fn=_end_with_parent(),
        )

    def reason(self) -> str | None:
        """Why it failed, once it has ended; None if it did not."""
        code = self.process.returncode
        if code < 0:
            return f"killed by signal {-code}"
        self.errors.seek(max(0, os.fstat(self.errors.fileno()).st_size - 4096))
        lines = self.errors.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        return last.removeprefix("error: ") if code else None


def run_side_by_side(runs: list[Run], slots: list[dict[str, str]]) -> list[tuple[Run, str]]:
    """Run all of ``runs``, one at a time in each of ``slots`` (environment variables); those that failed, and why.

    A run to whose folder another process writes waits for its end. The runs end with this process, however that ends:
    they can go on from there.
    """
    waiting, free, started, failed = list(runs), list(slots), [], []
    with tqdm(total=len(runs), desc="Runs", unit="run", disable=None) as bar, _interrupts():
        try:
            while waiting or started:
                _start(waiting, free, started, bar)
                time.sleep(POLL_SECONDS)
                for each in [each for each in started if each.process.poll() is not None]:
                    started.remove(each)
                    free.append(each.slot)
                    reason = each.reason()
                    if reason and each.run.is_running():  # another process was a moment before it
                        waiting.append(each.run)
                        continue
                    failed += [(each.run, reason)] if reason else []
                    bar.update()
                    result = f"failed ({reason})" if reason else f"last accuracy {each.run.last_accuracy():.4f}"
                    done = len(runs) - len(waiting) - len(started) - len(failed)
                    state = f"{done} finished, {len(started)} running, {len(failed)} failed, {len(waiting)} waiting"
                    bar.write(printable(f"[{state}] {each.run.name}: {result}"))
        except BaseException:
            _end([each.process for each in started])
            raise
    return failed


def _start(waiting, free, started, bar):
    """Start runs while there are free slots; those that another process is at stay waiting."""
    for run in [*waiting]:
        if not free:
            return
        if run.is_running():
            if not run.waits:
                bar.write(f"{run.name}: another process is at it; waiting for its end")
            run.waits = True
            continue
        waiting.remove(run)
        started.append(_Started(run, free.pop(0)))


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Take requests to end, such as a closed terminal, as an interrupt; those that are ignored stay so."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(processes):
    """Tell ``processes`` to end, and see that they do; a second interrupt does not leave some behind."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    for process in processes:
        process.terminate()
    latest = time.monotonic() + PATIENCE_SECONDS
    for process in processes:
        try:
            process.wait(max(0, latest - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent():
    """What a new process does so that it ends when this one does, even by SIGKILL; None where the system cannot."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent, death_signal = ctypes.CDLL(None).prctl, os.getpid(), 1

    def prepare():
        prctl(death_signal, signal.SIGKILL)  # what is stopped hears no other
        if os.getppid() != parent:  # it has ended meanwhile
            os._exit(1)

    return prepare


def _count_lines(path):
    if not os.path.isfile(path):
        return 0
    with open(path, "rb") as file:
        return sum(1 for _ in file)
