"""What the command lines share: errors in one line, defaults in the help, checked numbers."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from utils.datasets import MODALITIES
from utils.errors import InputError, did_you_mean

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA_ROOT = os.path.join(PROJECT, "data")
RAW_ROOT = os.path.join(PROJECT, "raw_data")

Number = TypeVar("Number", int, float)


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage. Options cannot be abbreviated."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)

    def _print_message(self, message, file=None):
        # argparse's own says nothing where help cannot be written.
        if message:
            (file or sys.stderr).write(message)

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride] (of its overloads the one that is used)
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's; InputError as well for a word that is empty, or holds bytes that are not UTF-8."""
        values, further = super().parse_known_args(args, namespace or argparse.Namespace())
        for name, value in vars(values).items():
            for word in value if isinstance(value, list) else [value]:
                if isinstance(word, str):
                    self._check_word(name, word)
        for word in further:
            self._check_word(word.partition("=")[0], word)
        return values, further

    def _check_word(self, name, word):
        flag = next((flag for flag, action in self._option_string_actions.items() if action.dest == name), name)
        if not word.strip():
            self.error(f"argument {flag}: {word!r} is empty; leave it out, or say what is meant")
        if any("\udc80" <= character <= "\udcff" for character in word):  # as Python has them
            self.error(
                f"argument {flag}: {word!r} holds bytes that are not UTF-8; give that file or folder another name"
            )

    def given(self, words: list[str]) -> dict[str, str]:
        """The flags among ``words``, which were parsed: destination -> the flag as it was typed."""
        flags = (word.partition("=")[0] for word in words)
        return {self._option_string_actions[flag].dest: flag for flag in flags if flag in self._option_string_actions}

    def error(self, message):
        if match := re.match(r"unrecognized arguments:.*?(--[\w-]+)", message):
            message += did_you_mean(match[1], self._option_string_actions)
        elif match := re.search(r"invalid choice: '?([^\s']+)'? \(choose from (.+)\)", message):
            message += did_you_mean(match[1], re.findall(r"[\w-]+", match[2]))
        raise InputError(f"{message} (see {self.prog} --help)")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        hidden = action.default in (None, False, argparse.SUPPRESS) or "default:" in (action.help or "")
        return action.help if hidden else super()._get_help_string(action)


def number(kind: type[Number], expected: str, holds: Callable[[float], bool]) -> Callable[[str], Number]:
    """A type for argparse: numbers of ``kind`` for which ``holds`` is true; others are not ``expected``.

    They are written with ASCII digits, a point and an exponent alone; -0 is 0.
    """

    def convert(text):
        try:
            value = kind(text) + kind(0) if _NUMBER.fullmatch(text) else None
        except ValueError:
            value = None
        if value is None or not holds(value):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not {expected}")
        return value

    return convert


_NUMBER = re.compile(r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")


def heading(docstring: str | None) -> str:
    """The first line of a docstring; of none, as under ``python -OO``, nothing."""
    return (docstring or "").partition("\n")[0]


# Libraries count in 32 or 64 bits; nothing that is counted is as many.
positive = number(int, "a whole number of 1 or more (below 2^31)", lambda value: 1 <= value < 2**31)
not_negative = number(int, "a whole number of 0 or more (below 2^31)", lambda value: 0 <= value < 2**31)
seed = number(int, "a whole number from 0 to 4294967295", lambda value: 0 <= value < 2**32)  # of torch and numpy
positive_number = number(float, "a number above 0", lambda value: 0 < value < float("inf"))
not_negative_number = number(float, "a number of 0 or more", lambda value: 0 <= value < float("inf"))
decay = number(float, "a factor above 0, of 1 at most", lambda value: 0 < value <= 1)
fraction = number(float, "a number from 0 to 1", lambda value: 0 <= value <= 1)
# No wait is longer, and timers count it in 32 bits of milliseconds.
duration = number(float, "a number above 0, of 1000000 at most", lambda value: 0 < value <= 1e6)
# Each is a thread or a process, or more.
workers = number(int, "a whole number from 1 to 1024", lambda value: 1 <= value <= 1024)
workers_or_none = number(int, "a whole number from 0 to 1024", lambda value: 0 <= value <= 1024)
# What sound and pictures can have.
hertz = number(int, "a whole number from 1 to 768000", lambda value: 1 <= value <= 768_000)
frames_a_second = number(int, "a whole number from 1 to 1000", lambda value: 1 <= value <= 1000)
pixels = number(int, "a whole number from 0 to 16384", lambda value: 0 <= value <= 16384)
share = number(float, "a share from 0 up to 1, such as 0.1", lambda value: 0 <= value < 1)


def every(text: str) -> int | str:
    """``auto``, or an integer of 1 or more, for argparse."""
    return text if text == "auto" else positive(text)


_memory = number(float, "a number of GB from 0 to 1000000, nor auto", lambda value: 0 <= value <= 1e6)


def gigabytes(text: str) -> str:
    """``auto``, or a number of GB, as it was typed, for argparse."""
    return text if text == "auto" or _memory(text) >= 0 else ""


def add_data_options(group: argparse._ArgumentGroup) -> None:
    """Options that say which clips to work on, the same in both extraction steps."""
    group.add_argument("--dataset", required=True, help="AVE, ksounds, VGGSound_100, or a name of your own")
    group.add_argument("--data_root", default=DATA_ROOT, help="folder of splits and features, a folder per data set")
    group.add_argument("--raw_root", default=RAW_ROOT, help="folder of videos, sound and frames, a folder per data set")
    group.add_argument("--id_file", help="work on the ids in this text file only, one a line")
    group.add_argument("--all", action="store_true", help="every clip there is, not only those of the splits")
    group.add_argument("--modality", choices=MODALITIES, default="audio-visual", help="what to extract")


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
