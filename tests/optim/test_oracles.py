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
# step before the first. What differs by design is left at nothing:
# their weight decay is proximal or coupled, their averages start uncorrected by default.
PAIRS = {
    "Momo": (
        lambda p: MoMo(p, max_lr=0.7),
        lambda p: momo.Momo(p, lr=0.7, bias_correction=True),
    ),
    "Momo with its lower bound estimated": (
        lambda p: MoMo(p, max_lr=0.7, f_star=-0.3, estimate_f_star=True),
        lambda p: momo.Momo(p, lr=0.7, lb=-0.3, bias_correction=True, use_fstar=True),
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
