"""How every command ends on bad input: one line that names the file, the value and the cure."""

import difflib
import errno
import functools
import os
import signal
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable
from typing import TextIO

from utils.environment import end_interrupted

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What is wrong with the machine, whichever file is at hand.
OF_MACHINE = (*FULL, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.ENOMEM)
REPEATED_SECONDS = 1  # an interrupt so soon after one is the same
_CURES = {errno.EMFILE: "allow more (ulimit -n)", errno.EFBIG: "allow larger ones (ulimit -f)"}


class InputError(Exception):
    """Something the user gave cannot be used. The message is one line: what, where, and the cure."""


def command(main: Callable | None = None, *, after_interrupt: str = "") -> Callable:
    """Run ``main()`` as a command: errors of the user's making become one line on stderr.

    Exit codes: 0 done, 2 bad input or a file that cannot be read or written, 130 interrupted (``after_interrupt``,
    or the message of the KeyboardInterrupt, says what then).
    """
    if main is None:
        return functools.partial(command, after_interrupt=after_interrupt)

    @functools.wraps(main)
    def run(*args, **kwargs):
        sys.excepthook = sys.__excepthook__
        as_program = signal.getsignal(signal.SIGINT) is end_interrupted
        if as_program:
            signal.signal(signal.SIGINT, _interrupt())
        try:
            result = _printed(main, *args, **kwargs)
        except InputError as error:
            _fail(str(error), 2)
        except MemoryError as error:
            _say_no_more()
            _fail(f"not enough memory: {str(error) or 'the machine has no more to give'}", 2)
        except RuntimeError as error:
            if "can't start new thread" not in str(error):
                raise
            _fail(f"{error}: too little memory, or too many processes (ulimit -a)", 2)
        except BrokenPipeError:
            # The reader of our output (head, less) has gone: nobody is left to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except OSError as error:
            # Whoever writes a file names it (utils.files): what is full and has no name is where we print.
            name = error.filename or ("standard output" if error.errno in FULL else "")
            if error.errno == errno.EMFILE:
                _say_no_more()
            cure = _CURES.get(error.errno or 0, "")
            _fail(f"{error.strerror or error}" + (f": {name}" if name else "") + (f"; {cure}" if cure else ""), 2)
        except KeyboardInterrupt as error:
            _fail(f"interrupted{str(error) or after_interrupt}", 130)
        else:
            return result
        finally:
            if as_program:  # what libraries take down at the end of the program is not to be broken off
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return run


def _interrupt():
    """What SIGINT does: KeyboardInterrupt, but not again while that is answered. torchrun sends it once more."""
    last = -REPEATED_SECONDS

    def interrupt(number, frame):
        nonlocal last
        if time.monotonic() - last >= REPEATED_SECONDS:
            last = time.monotonic()
            raise KeyboardInterrupt

    return interrupt


def _say_no_more():
    """What could be made by half only complains once more when it is taken down."""
    sys.unraisablehook = lambda _: None


def _printed(main, *args, **kwargs):
    """What ``main`` returns, once all that it printed, help too, is written."""
    try:
        return main(*args, **kwargs)
    finally:
        if isinstance(sys.exc_info()[1], (SystemExit, type(None))):
            sys.stdout.flush()


def _flushes():
    """Whether standard output takes what was printed."""
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` for the one of ``known`` that ``word`` is most like, whatever its case; else nothing."""
    by_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_case, 1, 0.7)
    return f" (did you mean {by_case[close[0]]}?)" if close else ""


def is_of_machine(error: BaseException) -> bool:
    """Whether ``error`` says that disk, memory or open files are used up: the next clip would fare no better."""
    return isinstance(error, OSError) and error.errno in OF_MACHINE


def first_line(error: object, length: int = 100) -> str:
    """The first line of an error's message, or its type's name where it has none, cut to ``length`` signs."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:length]


def printable(text: str) -> str:
    """``text`` with what would steer a terminal (escapes, line breaks, turned directions) spelled out: ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(each if _is_printable(each) else ascii(each)[1:-1] for each in text)


def _is_printable(character):
    # Joiners shape the letters of some scripts, and emoji.
    return character in "\u200c\u200d" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _fail(message, code):
    if not _flushes():  # it would fail once more when the program ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    say_error(" ".join(message.split()))
    sys.exit(code)


def say(text: str, file: TextIO | None = None) -> None:
    """Print ``text``, one line or several, at once. Names from elsewhere that stand in it do not steer a terminal."""
    print("\n".join(map(printable, text.split("\n"))), file=file, flush=True)


def say_error(line: str) -> None:
    """Print ``line`` as an error's, at once: those of several processes do not run into one another."""
    sys.stderr.write(f"error: {printable(line)}\n")
    sys.stderr.flush()


class MediaError(Exception):
    """A clip gives no sound or no frames; the message is the reason, in words for ``failed.csv``."""
