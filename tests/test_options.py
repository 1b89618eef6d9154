"""No option of any command takes a value that is no value: one line, whatever is typed for a number or a name."""

import argparse

import pytest

from engine.options import build_parser
from engine.registry import find_method, method_names
from tests.helpers.options import COMMANDS, is_numeric, options, parsers, words
from utils.command_line import gigabytes, not_negative, positive
from utils.errors import InputError

NO_NUMBERS = [
    *(
        "nan",
        "NaN",
        "inf",
        "-inf",
        "Infinity",
        "1e400",
        "-1e400",
        "9" * 400,
        "-" + "9" * 400,
        "9" * 6000,
        "0." + "9e" * 9,
    ),
    *(
        "1_000",
        "\u0661\u0662",
        "\uff12",
        "\u00bd",
        "\u22121",
        "0x10",
        "1,5",
        "1.5.2",
        "1e",
        "five",
        "True",
        "5;",
        "--5",
    ),
    *(" 5", "5 ", "\n5", "\t", ".", "+"),
]
NO_WORDS = ["", " ", "\n", "\u00a0", "a\udcff", "\udc80"]


def all_options():
    for command in COMMANDS:
        for name, parser in parsers(command).items():
            for action in options(parser):
                yield f"{command} {name}", parser, action


def refused(parser, action, value):
    """The line with which ``value`` is refused, or None; an error of another kind is a failure."""
    try:
        parser.parse_args(words(parser, action, value))
    except InputError as error:
        return str(error)
    return None


def test_numbers_are_numbers():
    seen = set()
    for name, parser, action in all_options():
        if is_numeric(action):
            seen.add((name.split()[0], action.dest))
            for value in [*NO_NUMBERS, *NO_WORDS]:
                line = refused(parser, action, value)
                assert line and action.option_strings[0] in line and len(line) < 300, (name, action.dest, value[:50])
                assert "\n" not in line, (name, line)
    assert len(seen) > 50


def test_words_are_not_empty_and_can_be_written_down():
    for name, parser, action in all_options():
        for value in NO_WORDS:
            line = refused(parser, action, value)
            flag = action.option_strings[0] if action.option_strings else action.dest
            assert line and flag in line, (name, action.dest, value)


def test_what_is_left_of_an_unset_variable_is_no_default():
    """As in --run_dir "$FOLDER": the run would go elsewhere than meant."""
    parser = build_parser(find_method("avcil"))
    with pytest.raises(InputError, match="argument --run_dir: '' is empty; leave it out, or say what is meant"):
        parser.parse_args(["--dataset", "AVE", "--run_dir", ""])


@pytest.mark.parametrize("method", method_names())
def test_options_of_methods_are_checked_numbers(method):
    """A method's own option that reads text by int or float alone would take nan and a number of 400 digits."""
    for action in options(build_parser(find_method(method))):
        assert action.type not in (int, float), action.dest


def test_zero_has_no_sign():
    for kind, text in ((not_negative, "-0"), (find_type("weight_decay"), "-0.0"), (find_type("weight_decay"), "-0e5")):
        assert str(kind(text)) in ("0", "0.0")
    assert gigabytes("0.5") == "0.5" and positive("+7") == 7


def find_type(dest):
    return next(action.type for action in options(build_parser(find_method("lwf"))) if action.dest == dest)


def test_every_command_is_among_them():
    assert all(isinstance(parser, argparse.ArgumentParser) for name in COMMANDS for parser in parsers(name).values())
