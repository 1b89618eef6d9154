"""Every option of every command, as the command's own parser has it, so that none is forgotten."""

import argparse
import contextlib
import importlib
from unittest import mock

from engine.options import build_parser
from engine.registry import find_method, method_names
from utils.command_line import OneLineParser

COMMANDS = (
    *("download", "extract_audios_frames", "extract_pretrained_features", "features.convert", "splits.build"),
    *("train_incremental", "run_all", "report", "predict", "visualize_attention", "analyse_modalities"),
    "make_demo_clips",
)


class _Caught(BaseException):
    pass


def parsers(command: str) -> dict[str, OneLineParser]:
    """The parsers of ``command``, by name: that of each method, of each kind of source, or the only one."""
    if command == "train_incremental":
        return {method: build_parser(find_method(method)) for method in method_names()}
    caught = []

    def catch(parser, *_):
        caught.append(parser)
        raise _Caught

    with mock.patch.object(OneLineParser, "parse_known_args", catch), contextlib.suppress(_Caught):
        importlib.import_module(command).main([])
    (parser,) = caught
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {command: parser}


def options(parser: OneLineParser) -> list[argparse.Action]:
    """Those of a parser that take a value."""
    return [action for action in parser._actions if action.nargs != 0 and action.dest != "help"]


def is_numeric(action: argparse.Action) -> bool:
    """Whether an option's value is a number, or a number among other words."""
    return action.type is not None and action.type is not str and action.choices is None


def words(parser: OneLineParser, action: argparse.Action, value: str) -> list[str]:
    """A command line with ``value`` for one option, and what is needed beside it."""
    needed = []
    for other in options(parser):
        if other is not action and other.required and other.option_strings:
            needed += [other.option_strings[0], "x"]
        elif other is not action and not other.option_strings and other.nargs != "*":
            needed.append("x")
    # With an equals sign a value may begin with a hyphen.
    return [*needed, f"{action.option_strings[0]}={value}" if action.option_strings else value]
