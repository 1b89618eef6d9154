"""Commands in forked children of the tests: a process of their own without the seconds that loading packages takes."""

import contextlib
import os
import signal
import socket
import sys
import traceback


class Child:
    """A process that does ``work()`` and ends with its exit code; a context manager that leaves none behind.

    What it prints goes to the files ``out`` and ``err`` in ``folder``. It hears interrupts, whatever its parent does.
    """

    def __init__(self, work, folder):
        self.folder, self.code = folder, None
        for stream in ("out", "err"):
            (folder / stream).touch()
        self.id = os.fork()
        if self.id == 0:
            _do(work, folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.code is None:
            os.kill(self.id, signal.SIGKILL)
            self.wait()

    def send(self, number):
        os.kill(self.id, number)

    def runs(self):
        if self.code is None:
            ended, status = os.waitpid(self.id, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if ended else None
        return self.code is None

    def wait(self):
        """Wait for its end; its exit code, negative if a signal ended it."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.id, 0)[1])
        return self.code

    def said(self, stream="err"):
        return (self.folder / stream).read_text(encoding="utf-8")


def two_ranks(work, folder):
    """Two of them that meet as under torchrun; what each says goes to ``folder / "rank 0"`` and ``"rank 1"``."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}

    def meet(rank):
        os.environ.update(meeting, RANK=str(rank))
        work()

    ranks = []
    for rank in range(2):
        (folder / f"rank {rank}").mkdir()
        ranks.append(Child(lambda rank=rank: meet(rank), folder / f"rank {rank}"))
    return ranks


def _do(work, folder):
    code = 1
    try:
        for descriptor, name, stream in ((1, "out", "stdout"), (2, "err", "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_TRUNC), descriptor)
            setattr(sys, stream, os.fdopen(descriptor, "w", 1, encoding="utf-8", closefd=False))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        work()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
