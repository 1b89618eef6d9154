"""Commands of a copy of the project, each in a child of one process that has loaded the packages but nothing of ours.

What they do and how they end is what users get, without the seconds that each process takes to load PyTorch.
"""

import json
import os
import subprocess
import sys

SERVER = """
import importlib, json, os, signal, sys
import h5py, matplotlib.figure, scipy.linalg, sklearn.linear_model, torch
torch.set_num_threads(1)
sys.path.insert(0, os.getcwd())
for line in sys.stdin:
    script, *words = json.loads(line)
    if (child := os.fork()) == 0:
        signal.alarm(120)
        for descriptor, name in ((0, os.devnull), (1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.argv = [script, *words]
        code = 0
        try:
            importlib.import_module(script.removesuffix(".py").replace("/", ".")).main(words)
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Warm:
    """Runs commands in ``folder``, a copy of the project. A context manager."""

    def __init__(self, folder):
        self.folder = folder
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        command, pipes = [sys.executable, "-c", SERVER], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()

    def run(self, script, *words):
        """``python script words``, as subprocess.run returns it."""
        print(json.dumps([script, *map(str, words)]), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        out, errors = ((self.folder / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess([script, *words], code, out, errors)
