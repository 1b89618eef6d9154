"""The methods: each file in this folder is one, found by its name."""

import importlib
import pkgutil

from engine.learner import Learner
from utils.errors import InputError


def method_names():
    """Names of all methods: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find_method(name):
    """The Learner subclass that the file ``methods/<name>.py`` defines."""
    if name not in method_names():
        raise InputError(f"--method {name}: no such method; there are {', '.join(method_names())}")
    module = importlib.import_module(f"methods.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Learner) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise InputError(f"{module.__file__}: defines {len(found)} subclasses of Learner, expected one")
    return found[0]
