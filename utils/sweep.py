"""Many runs of the training command, side by side: one line of progress for all, and none stops the others."""

import os
import queue
import shlex
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from tqdm import tqdm

from utils.files import write_text


@dataclass
class Run:
    """``command``: a list of words; ``folder``: its engine.run_folder.RunFolder; ``name``: for people."""

    name: str
    command: list
    folder: object


def run_side_by_side(runs, slots):
    """Run all of ``runs``, one at a time in each of ``slots`` (environment variables); [(run, reason)] of failed ones.

    An interrupt ends all of them in a way that they can go on from.
    """
    free, processes, failed = queue.SimpleQueue(), {}, []
    for slot in slots:
        free.put(slot)

    def work(run):
        slot = free.get()
        try:
            # Not the terminal's interrupt but ours reaches it, once.
            process = processes[id(run)] = subprocess.Popen(
                run.command,
                env=os.environ | slot,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            _, errors = process.communicate()
            return process.returncode, errors
        finally:
            free.put(slot)

    pool = ThreadPoolExecutor(len(slots))
    bar = tqdm(total=len(runs), desc="Runs", unit="run", disable=None)
    try:
        futures = {pool.submit(work, run): run for run in runs}
        for done in as_completed(futures):
            run, (code, errors) = futures[done], done.result()
            bar.update()
            if code:
                failed.append((run, _reason(code, errors)))
            said = f"failed ({failed[-1][1]})" if code else f"last accuracy {_last(run):.4f}"
            bar.write(f"[{len(failed)} failed] {run.name}: {said}")
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in processes.values():
            process.wait()
        raise
    finally:
        bar.close()
    return failed


def write_slurm(path, runs, dataset):
    """Write a batch file whose task n is run n; the shell sees every word quoted."""
    cases = "\n".join(f"{number}) exec {shlex.join(run.command)} ;;" for number, run in enumerate(runs))
    write_text(
        path,
        f"""#!/bin/bash
#SBATCH --job-name={shlex.quote(f"avcil-{dataset}")}
#SBATCH --array=0-{max(0, len(runs) - 1)}
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
case $SLURM_ARRAY_TASK_ID in
{cases}
esac
""",
    )


def _last(run):
    return run.folder.finished()["last_accuracy"]


def _reason(code, errors):
    lines = [line for line in errors.splitlines() if line.strip()]
    told = lines[-1].removeprefix("error: ") if lines else "it said nothing"
    return told if code > 0 else f"killed by signal {-code}"
