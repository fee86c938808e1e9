"""The relatives against published packages, stepped side by side on the problem table."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.problems import PROBLEMS, Problem

from corridor import CLR
from corridor.optim import MoMo, MoMoAdam, Polyak, SPSMax, SPSSafe

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import momo
    import momsps
    import sps_safe

# Ours and theirs with options that make both the same rule; MomSPS_smooth counts 1 - beta into the
# step before the first. What differs by design is left at nothing: their weight decay is proximal
# or coupled, their averages start uncorrected by default, and an estimate that is too high falls to
# half of a loss, not half of the way to its bound.
PAIRS = {
    "Momo": (
        lambda p: MoMo(p, max_lr=0.7),
        lambda p: momo.Momo(p, lr=0.7, bias_correction=True),
    ),
    "Momo with its lower bound estimated": (
        lambda p: MoMo(p, max_lr=0.7, estimate_f_star=True),
        lambda p: momo.Momo(p, lr=0.7, bias_correction=True, use_fstar=True),
    ),
    "Momo, which CLR with momentum is": (
        lambda p: CLR(p, momentum=0.5, max_lr=math.inf, f_star=0.01),
        lambda p: momo.Momo(p, lr=math.inf, beta=0.5, lb=0.01, bias_correction=True),
    ),
    "MomoAdam": (
        lambda p: MoMoAdam(p, max_lr=0.05, beta2=0.99),
        lambda p: momo.MomoAdam(p, lr=0.05, betas=(0.9, 0.99)),
    ),
    "MomoAdam with its lower bound estimated": (
        lambda p: MoMoAdam(p, max_lr=0.05, f_star=-1.0, estimate_f_star=True),
        lambda p: momo.MomoAdam(p, lr=0.05, lb=-1.0, use_fstar=True),
    ),
    "SPS_safe": (
        lambda p: SPSSafe(p, f_star=0.02, floor=0.3),
        lambda p: sps_safe.SPS_safe(p, ell_star=0.02, M=0.3),
    ),
    "SPS_safe with weight decay": (
        lambda p: SPSSafe(p, weight_decay=0.1),
        lambda p: sps_safe.SPS_safe(p, weight_decay=0.1),
    ),
    "MomSPS": (
        lambda p: SPSMax(p, max_lr=0.5, c=0.8, momentum=0.9),
        lambda p: momsps.MomSPS(p, c=0.8, gamma_max=0.5, beta=0.9),
    ),
    "MomSPS_smooth": (
        lambda p: SPSMax(p, max_lr=math.inf, c=1.0, growth=2**0.25, momentum=0.6, first=0.25),
        lambda p: momsps.MomSPS_smooth(
            p, n_batches_per_epoch=4, init_step_size=0.1, c=1.0, beta=0.6
        ),
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
@pytest.mark.parametrize("name", PAIRS)
def test_every_step_is_that_of_the_package(name: str, problem: Problem):
    """In float64, over 15 steps of one run, each optimizer with its own memory.

    The momo package keeps its inner products in float32, hence 1e-4: the roundings of a dozen
    products, amplified by differences of losses.
    """
    make_ours, make_theirs = PAIRS[name]
    tolerance = 1e-4 if "omo" in name else 1e-10
    ours, theirs = (_parameters(problem) for _ in range(2))
    runs = [(ours, make_ours(ours)), (theirs, make_theirs(theirs))]
    for _ in range(15):
        values = []
        for params, opt in runs:
            opt.zero_grad()
            loss = problem.loss(params)
            loss.backward()
            values.append(loss.item())
            opt.step(loss=loss.detach())
        if min(values) < 1e-3:  # past here rounding errors are divided by small numbers
            break
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)
            with torch.no_grad():  # go on from the same point, so that errors do not add up
                p.copy_(q)


@pytest.mark.slow
def test_polyak_is_optaxs_polyak_sgd(tmp_path):
    """In float32, JAX's default: one step from each point of a run on each problem.

    JAX starts threads, beside which no later test could fork, so that it gets its own process.
    """
    f_star = 0.05
    points: dict[str, np.ndarray] = {}
    moved: dict[str, torch.Tensor] = {}
    for problem in PROBLEMS:
        params = _parameters(problem)
        opt = Polyak(params, f_star=f_star, max_lr=0.8)
        for k in range(10):
            opt.zero_grad()
            loss = problem.loss(params)
            if loss.item() - f_star < 1e-4:
                break
            loss.backward()
            before = [p.detach().clone() for p in params]
            opt.step(loss=loss)
            for i, p in enumerate(params):
                points[f"{problem.name}/{k}/{i}"] = p.grad.numpy()
                moved[f"{problem.name}/{k}/{i}"] = p.detach() - before[i]
            points[f"{problem.name}/{k}/loss"] = np.array(loss.item())
    assert len(moved) > 40
    np.savez(tmp_path / "points.npz", **points)
    script = Path(__file__).parent / "optax_steps.py"
    subprocess.run([sys.executable, script, tmp_path, str(f_star)], check=True, timeout=120)
    with np.load(tmp_path / "updates.npz") as updates:
        for name, ours in moved.items():
            theirs = torch.from_numpy(updates[name]).double()
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def _parameters(problem: Problem) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(t) for t in problem.start()]


def rosenbrock(x: torch.Tensor) -> torch.Tensor:
    return (1.0 - x[0]).square() + 100.0 * (x[1] - x[0].square()).square()


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"momentum": 0.5}, 1e-3),
        ({"momentum": 0.5, "max_lr": math.inf}, 1e-3),
        ({"momentum": 0.0}, 1e-12),
        ({"momentum": 0.9, "max_lr": 0.01}, 1e-8),
    ],
)
def test_an_estimate_that_has_met_the_loss_falls_and_the_run_goes_on(options, theirs: float):
    """On a full batch the package leaves this state by rounding errors alone, and we without."""
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    opt = MoMo([x], estimate_f_star=True, **options)
    least = math.inf
    for _ in range(3000):
        opt.zero_grad()
        loss = opt.watch(rosenbrock(x))
        loss.backward()
        opt.step()
        least = min(least, loss.item())
    assert least < theirs
    assert float(opt.param_groups[0]["lower_bound"]) <= loss.item()


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("shift", [-3.0, 0.7])
def test_an_estimate_does_not_depend_on_where_losses_begin(momentum: float, shift: float):
    """A constant added to the loss and to f_star changes nothing; a negative minimum is found."""
    ends = []
    for constant in (0.0, shift):
        x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
        opt = MoMo([x], f_star=constant - 8.0, momentum=momentum, estimate_f_star=True, max_lr=0.05)
        for k in range(400):
            opt.zero_grad()
            loss = 0.5 * (x[0].square() + 10.0 * x[1].square()) + constant
            opt.watch(loss).backward()
            opt.step()
            if k == 5:
                ends.append(x.detach().clone())
        assert loss.item() - constant < 1e-2
        assert float(opt.param_groups[0]["lower_bound"]) == pytest.approx(constant, abs=0.1)
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)
