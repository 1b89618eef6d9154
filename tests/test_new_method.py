"""A new method is one new file, and nothing else changes."""

import shutil

from tests.helpers import tiny
from tests.helpers.shared import REPO
from tests.helpers.warm import Warm

CODE = '''
"""Knows nothing: every class is as likely as any other."""

import torch

from engine.learner import Learner


class DoNothing(Learner):
    @classmethod
    def add_options(cls, group):
        group.add_argument("--favourite", type=int, default=0, help="the class to bet on")

    def begin_task(self, task):
        self.classes = task.stop

    def scores(self, batch):
        return torch.nn.functional.one_hot(torch.full((len(batch),), self.args.favourite), self.classes).float()
'''


def test_one_file_adds_a_method(tmp_path):
    copy = tmp_path / "copy of the project"
    ignored = shutil.ignore_patterns(".venv", ".git", "save", "data", "raw_data", "__pycache__", ".*_cache")
    shutil.copytree(REPO, copy, ignore=ignored)
    (copy / "methods" / "do_nothing.py").write_text(CODE)
    tiny.make(tmp_path / "data")

    with Warm(copy) as warm:
        done, refused = (
            warm.run("train_incremental.py", *tiny.flags(tmp_path / "data", method, "--favourite", "1"))
            for method in ("do_nothing", "fine_tuning")
        )
    assert done.returncode == 0, done.stderr
    assert "Incremental step 2 Testing res: 0.166667" in done.stdout
    assert "forgetting: 0.000000" in done.stdout
    assert refused.returncode == 2
    assert "--favourite" in refused.stderr
