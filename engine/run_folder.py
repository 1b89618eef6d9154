"""The folder of a run: named by what defines the run, holding everything that came out of it."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
from collections.abc import Callable, Iterator

from engine.checkpoints import Checkpoints
from engine.learner import Learner
from engine.run_files import (
    ARGUMENTS,
    DATA,
    ENVIRONMENT,
    EPOCHS,
    EPOCHS_HEADER,
    LOCK,
    RESULTS,
    WRITTEN,
    RunResults,
    is_there,
    read_results,
)
from engine.run_identity import changed_code, code_digests, defining, difference, environment, run_path
from engine.step_log import logger
from utils.errors import InputError
from utils.files import TEMPORARY, check_regular, file_lock, read_json, remove, write_json, write_text

START_ANEW = "start anew with --overwrite, or choose another --run_dir"


class RunFolder:
    """Where a run writes. ``results.json`` appears when the run is complete, and never before.

    Of several processes only the one that ``is_main`` writes; all of them read. Nothing is removed but what a run
    writes (engine.run_files.WRITTEN), and no link is followed.
    """

    def __init__(self, args: argparse.Namespace, method: type[Learner], is_main: bool = True):
        self.args, self.is_main = args, is_main
        self.path = args.run_dir or run_path(args, method)
        self.code = {}  # digests of the files that compute, as they were loaded
        self.checkpoints = Checkpoints(self.file("checkpoints"), args, is_main)

    def finished(self) -> RunResults | None:
        """The results of this very run if it is complete, else None. InputError if the folder is of something else."""
        if os.path.isdir(self.path):
            self._refuse_links()
            self._refuse_others()
        path = self.file(RESULTS)
        return read_results(path) if is_there(path) and not self.args.overwrite else None

    def check_still_holds(self, results: RunResults, data_state: dict) -> bool:
        """Whether finished ``results`` are known to be those of today's data: ``data_state``, see dataloader.

        False where only a comparison of the features can tell. Changed code is said; InputError if splits have changed.
        """
        changed = changed_code(results.code)
        if changed:
            logger.warning(f"the code has changed since this run ({', '.join(changed[:5])}); --overwrite runs it anew")
        known = self._read(DATA)
        if known.get("splits", data_state["splits"]) != data_state["splits"]:
            raise InputError(f"{self.path}: the splits have changed since this run; {START_ANEW}")
        if not all(data_state["files"].values()):
            logger.warning("the features of this run are not there, and could not be compared")
            return True
        return known.get("files") in (None, data_state["files"])

    def note_files(self, data_state: dict) -> None:
        """Let today's files, whose content was found to be that of the run, be known as its files from now on."""
        if self.is_main:
            # Where that cannot be written they are compared once more the next time.
            with contextlib.suppress(OSError, InputError), file_lock(self.file(LOCK), "this run"):
                write_json(self.file(DATA), self._read(DATA) | {"files": data_state["files"]})

    def check_same_data(self, data: dict) -> None:
        """InputError if ``data`` (IncrementalData.description) is not what the run was made, or begun, with."""
        known = self._read(DATA)
        if known and known.get("sha256") != data["sha256"]:
            raise InputError(f"{self.path}: the data is not what the run began with; put it back, {START_ANEW}")

    @contextlib.contextmanager
    def opened(self, data: dict) -> Iterator[RunFolder]:
        """Make the folder, or go on in it, while other processes keep out.

        ``data`` describes the data (IncrementalData.description): InputError if they are not what the run began with.
        """
        if not self.is_main:
            yield self
            return
        os.makedirs(self.path, exist_ok=True)
        self._refuse_links()
        with file_lock(self.file(LOCK), "this run"):
            self._refuse_others()
            self._remove_written([f"{TEMPORARY}*"])
            if self.args.overwrite:
                self._remove_all()
            self._describe(data)
            yield self

    def _describe(self, data):
        """Write down what is run, where, and on which data."""
        self.code = code_digests()
        self.check_same_data(data)
        begun = self._read(ENVIRONMENT)
        changed = changed_code(begun.get("code") or {})
        if changed and self.checkpoints.any():
            files = ", ".join(changed[:5])
            logger.warning(f"the code has changed since this run began ({files}); it goes on with today's")
        today = environment()
        if begun.get("tf32", today["tf32"]) != today["tf32"] and self.checkpoints.any():
            formats = ("float32", "TF32")[:: 1 if today["tf32"] else -1]
            logger.warning("this run began with products in {}, and goes on in {}; see --precision".format(*formats))
        # First of all, so that the folder is known as that of a run.
        write_json(self.file(ARGUMENTS), vars(self.args))
        write_json(self.file(DATA), data)
        write_json(self.file(ENVIRONMENT), today | {"code": self.code})
        for name in ("figures", "checkpoints"):
            os.makedirs(self.file(name), exist_ok=True)

    def file(self, *names: str) -> str:
        """The path of a file of the run."""
        return os.path.join(self.path, *names)

    def finish(self, results: dict, data: dict, draw: Callable[[RunResults], None]) -> RunResults:
        """Draw the pictures, then write ``results.json``: where it stands, the run is complete.

        ``data``: IncrementalData.description.
        """
        rests_on = {"versions": environment(), "data": data["digests"], "code": self.code}
        content = results | {"arguments": vars(self.args), **rests_on}
        whole = RunResults.from_json(content, self.file(RESULTS))
        if self.is_main:
            draw(whole)
            write_json(self.file(RESULTS), content)
        return whole

    def write_lines(self, name: str, lines: list[str]) -> None:
        """Let one of the run's row files hold ``lines`` and nothing else."""
        if self.is_main:
            header = [EPOCHS_HEADER] if name == EPOCHS else []
            write_text(self.file(name), "".join(f"{line}\n" for line in [*header, *lines]))

    def add_lines(self, name: str, lines: list[str]) -> None:
        """Append to one of the run's row files."""
        if self.is_main:
            try:
                with open(self.file(name), "a", encoding="utf-8") as file:
                    file.write("".join(f"{line}\n" for line in lines))
            except OSError as error:
                error.filename = self.file(name)
                raise

    def _remove_written(self, patterns):
        """Remove files of the run's folders whose names fit one of ``patterns``."""
        for folder in WRITTEN:
            for name in _names(self.file(folder)):
                if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                    remove(self.file(folder, name))

    def _remove_all(self):
        """Remove all that a run writes, its arguments last, which make the folder that of a run."""
        for folder, patterns in reversed(WRITTEN.items()):
            for pattern in patterns:
                for name in fnmatch.filter(_names(self.file(folder)), pattern):
                    remove(self.file(folder, name))
            if folder:
                with contextlib.suppress(OSError):  # not there, or it holds what is not ours
                    os.rmdir(self.file(folder))

    def _refuse_links(self):
        """InputError if a name that a run writes is a link, whose target is not ours, or a pipe, which waits."""
        for path in (self.file(name) for name in [LOCK, *WRITTEN, *WRITTEN[""]] if name):
            if os.path.islink(path):
                raise InputError(f"{path}: a symbolic link within a run's folder; remove it")
            if os.path.exists(path) and not os.path.isdir(path):
                check_regular(path)

    def _refuse_others(self):
        """InputError if the folder holds something else than this run, begun or complete."""
        path = self.file(ARGUMENTS)
        if not is_there(path):
            others = [name for name in _names(self.path) if name != LOCK and not name.startswith(TEMPORARY)]
            if others:
                raise InputError(
                    f"{self.path}: holds {', '.join(sorted(others)[:3])} and is not the folder of a run;"
                    " choose another --run_dir"
                )
            return
        if self.args.overwrite:
            return
        differs = difference(defining(self._read(ARGUMENTS)), json.loads(json.dumps(defining(self.args))))
        if differs:
            raise InputError(f"{self.path}: holds another run ({differs}); choose another --run_dir, or --overwrite")

    def _read(self, name):
        """The dict in a file of the run, empty where there is none; InputError if it is damaged."""
        path = self.file(name)
        try:
            value = read_json(path, "file of a run", START_ANEW)
        except FileNotFoundError:
            return {}
        if not isinstance(value, dict) or not isinstance(value.get("code", {}), dict):
            raise InputError(f"{path}: damaged; {START_ANEW}")
        return value


def _names(folder):
    return os.listdir(folder) if is_there(folder) else []
