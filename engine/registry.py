"""The methods: each file of the folder ``methods/`` is one, found by its name."""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import TYPE_CHECKING

from utils.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from engine.learner import Learner

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "methods")


def method_names() -> list[str]:
    """Names of all methods: the files of the folder."""
    return sorted(module.name for module in pkgutil.iter_modules([FOLDER]))


def find_method(name: str) -> type[Learner]:
    """The Learner subclass that the file ``methods/<name>.py`` defines."""
    if name not in method_names():
        meant = did_you_mean(name, method_names())
        raise InputError(f"--method {name}: no such method{meant}; there are {', '.join(method_names())}")
    from engine.learner import Learner  # here, so that names are had without torch

    module = importlib.import_module(f"methods.{name}")
    learners = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Learner) and value.__module__ == module.__name__
    ]
    if len(learners) != 1:
        raise InputError(f"{module.__file__}: defines {len(learners)} subclasses of Learner, expected one")
    return learners[0]
