"""Methods and networks: each file of ``methods/`` and of ``model/networks/`` is one, found by its name."""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import TYPE_CHECKING, Any

from utils.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from engine.learner import Learner

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER, NETWORKS = os.path.join(PROJECT, "methods"), os.path.join(PROJECT, "model", "networks")


def method_names() -> list[str]:
    """Names of all methods: the files of the folder."""
    return sorted(module.name for module in pkgutil.iter_modules([FOLDER]))


def find_method(name: str) -> type[Learner]:
    """The Learner subclass that the file ``methods/<name>.py`` defines."""
    if name not in method_names():
        meant = did_you_mean(name, method_names())
        raise InputError(f"--method {name}: no such method{meant}; there are {', '.join(method_names())}")
    from engine.learner import Learner  # here, so that names are had without torch

    return _only_class(f"methods.{name}", "subclasses of Learner", lambda value: issubclass(value, Learner))


def network_names() -> list[str]:
    """Names of the networks beside the paper's: the files of ``model/networks/``."""
    return sorted(module.name for module in pkgutil.iter_modules([NETWORKS]))


def find_network(name: str | None) -> Any:
    """The class, with ``gives``, that ``model/networks/<name>.py`` defines; of None the network of the paper."""
    if name is None:
        from model.network import AudioVisualNet

        return AudioVisualNet
    if name not in network_names():
        meant = did_you_mean(name, network_names())
        raise InputError(
            f"--network {name}: no file model/networks/{name}.py{meant}; docs/extending.md says how to write it"
        )
    return _only_class(f"model.networks.{name}", "classes with gives", lambda value: "gives" in vars(value))


def _only_class(module_name, kind, fits):
    """The one class of a module for which ``fits`` holds; InputError if there are none or several."""
    module = importlib.import_module(module_name)
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    classes = [value for value in classes if value.__module__ == module.__name__ and fits(value)]
    if len(classes) != 1:
        raise InputError(f"{module.__file__}: defines {len(classes)} {kind}, expected one")
    return classes[0]
