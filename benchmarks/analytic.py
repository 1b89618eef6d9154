#!/usr/bin/env python3
"""Seconds of the closed form beside SciPy's and scikit-learn's ridge on the same matrices.

    python benchmarks/analytic.py --clips 3304 --expansion 8192

One side learns ``--steps`` parts one after another and solves for ``--penalties`` penalties after each; the others get
all clips of all steps so far anew each time, which is what they need. Also says how far the weights are apart.
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np
import scipy.linalg
import torch
from sklearn.linear_model import Ridge

from model.ridge import LeastSquares


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--clips", type=int, default=3304, help="of AVE: 3304")
    parser.add_argument("--classes", type=int, default=28)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--expansion", type=int, default=8192)
    parser.add_argument("--penalties", type=int, default=2)
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    phi = torch.randn(args.clips, args.expansion, generator=generator, dtype=torch.float64).relu()
    label = torch.arange(args.clips) * args.classes // args.clips
    sides = {"ours": ours, "SciPy": scipys, "scikit-learn": sklearns}
    gammas = [10.0 * 10**power for power in range(args.penalties)]
    print(f"{args.clips} clips, {args.expansion} features, {args.steps} steps, {torch.get_num_threads()} threads")
    weights = {}
    for name, side in sides.items():
        started = time.perf_counter()
        weights[name] = side(phi, label, args, gammas)
        elapsed = time.perf_counter() - started
        apart = np.abs(weights[name] - weights["ours"]).max() / np.abs(weights["ours"]).max()
        print(f"{name:14}{elapsed:8.1f} s   weights apart from ours: {apart:.1e}", flush=True)


def parts(label, args):
    return torch.arange(len(label)).tensor_split(args.steps)


def ours(phi, label, args, gammas):
    sums = LeastSquares(args.expansion)
    sums.grow(args.classes)
    for rows in parts(label, args):
        sums.add(phi[rows], label[rows])
        solve = sums.solver()
        for gamma in gammas:
            weights = solve(gamma)
    return weights.numpy()


def so_far(phi, label, args):
    """All clips up to each step, and their one-hot classes."""
    one_hot = torch.nn.functional.one_hot(label, args.classes).double().numpy()
    for rows in parts(label, args):
        stop = int(rows[-1]) + 1
        yield phi[:stop].numpy(), one_hot[:stop]


def scipys(phi, label, args, gammas):
    for x, y in so_far(phi, label, args):
        gram, cross = x.T @ x, x.T @ y
        for gamma in gammas:
            weights = scipy.linalg.solve(gram + gamma * np.eye(len(gram)), cross, assume_a="pos")
    return weights


def sklearns(phi, label, args, gammas):
    for x, y in so_far(phi, label, args):
        for gamma in gammas:
            weights = Ridge(alpha=gamma, fit_intercept=False, solver="cholesky").fit(x, y).coef_.T
    return weights


if __name__ == "__main__":
    main()
