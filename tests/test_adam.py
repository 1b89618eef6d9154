"""The optimiser gives the numbers of PyTorch's own, bit for bit, and loads no compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from engine.epoch_state import Adam
from tests.helpers.shared import REPO


def train(make_optimiser, steps=5):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    unused = nn.Parameter(torch.ones(2))  # has no gradient, ever
    optimiser = make_optimiser([*network.parameters(), unused])
    for step in range(steps):
        if step == 3:
            set_lr(optimiser, 0.003)
        optimiser.zero_grad()
        network(torch.randn(4, 7)).square().sum().backward()
        optimiser.step()
    return [*network.parameters(), unused], optimiser


def set_lr(optimiser, lr):
    if isinstance(optimiser, Adam):
        optimiser.lr = lr
    else:
        optimiser.param_groups[0]["lr"] = lr


@pytest.mark.parametrize("weight_decay", [0.0, 1e-4, 0.3])
def test_it_gives_the_numbers_of_torchs_own(weight_decay):
    ours, _ = train(lambda parameters: Adam(parameters, 0.01, weight_decay))
    theirs, _ = train(lambda parameters: torch.optim.Adam(parameters, 0.01, weight_decay=weight_decay, fused=True))
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_it_goes_on_from_its_state():
    parameters, optimiser = train(lambda parameters: Adam(parameters, 0.01, 1e-4), steps=2)
    copy = Adam(parameters, 0.01, 1e-4)
    copy.load_state_dict(optimiser.state_dict())
    for name, tensors in optimiser.state_dict().items():
        assert all(torch.equal(one, other) for one, other in zip(tensors, copy.state_dict()[name], strict=True))


def test_the_state_of_other_parameters_is_refused():
    _, optimiser = train(lambda parameters: Adam(parameters, 0.01, 1e-4), steps=1)
    other = Adam([nn.Parameter(torch.ones(3))], 0.01, 0.0)
    with pytest.raises(ValueError, match="other shapes"):
        other.load_state_dict(optimiser.state_dict())


def test_no_compiler_is_loaded():
    code = (
        "import sys, torch; from engine.epoch_state import Adam; p = torch.nn.Parameter(torch.ones(2));"
        "a = Adam([p], 0.1, 0.0); p.square().sum().backward(); a.step(); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False).returncode == 0
