"""An optimizer enters the code of its own parts, and no other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from corridor import CLR, CLRAdam
from corridor._tree import squared_norm
from corridor.optim import DAL, SPSMax
from corridor.optim._limit import NORM, Limit


def files_entered(make, steps: int = 2) -> set[str]:
    """Names of corridor's files in which a function ran, from watch to the end of the step."""
    x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    opt = make([x])
    entered: set[str] = set()

    def trace(frame, event, argument):
        if frame.f_code.co_name != "<module>":
            entered.add(frame.f_code.co_filename)

    for _ in range(steps):
        opt.zero_grad()
        loss = 0.5 * x.square().sum()
        sys.settrace(trace)
        try:
            opt.watch(loss).backward()
            opt.step()
        finally:
            sys.settrace(None)
    paths = [Path(name).parts for name in entered if "corridor" in Path(name).parts]
    return {"/".join(parts[-2:]) for parts in paths}


MACHINE = {
    "optim/base.py", "optim/_step.py", "optim/_loss.py", "optim/_trace.py", "optim/_limit.py",
    "optim/_motion.py", "optim/_bucket.py", "optim/_health.py", "optim/_options.py",
    "optim/step_size.py", "corridor/_tree.py", "corridor/_reduce.py",
}  # fmt: skip
CURVATURE = {
    "optim/_curvature.py", "optim/_metric.py", "geometry/graph.py", "geometry/_kernels.py",
    "corridor/_torch.py",
}  # fmt: skip
GEOMETRY = {"geometry/_gradient.py", "geometry/_inputs.py", "geometry/_nodes.py"}


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (CLR, set()),
        (lambda p: CLR(p, momentum=0.9), {"optim/_metric.py"}),
        (SPSMax, {"optim/sps.py"}),
        (lambda p: CLR(p, drift=1.0), CURVATURE),
        (CLRAdam, CURVATURE),
        (DAL, CURVATURE | {"optim/family.py"}),
    ],
    ids=["CLR", "CLR, momentum", "SPSMax", "CLR, drift", "CLRAdam", "DAL"],
)
def test_a_step_enters_the_files_of_its_parts_alone(make, parts: set[str]):
    entered = files_entered(make)
    assert parts <= entered <= MACHINE | parts | (GEOMETRY if parts else set())


def test_a_plain_step_never_enters_the_code_that_measures_curvature():
    assert not any("curvature" in name or "geometry" in name for name in files_entered(CLR))


class Trust(Limit):
    """No step is longer than a tenth of the way from the start, or of 1."""

    sums = ("distance_sq",)
    buffers = ("start",)

    def measure(self, bucket, now):
        starts = bucket.buffers["start"]
        for index in bucket.fresh.get("start", []):
            starts[index].copy_(bucket.params[index])
        moved = [p - start for p, start in zip(bucket.params, starts, strict=True)]
        return [squared_norm(moved, now.dtype)]

    def bound(self, loss, sums, now):
        way = sums.total("distance_sq").sqrt().clamp(min=1.0)
        return 0.1 * way / sums.total(NORM).sqrt()


class Trusting(CLR):
    LIMITS = (*CLR.LIMITS, Trust())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_limit_may_measure_sums_and_keep_buffers_of_its_own(momentum: float):
    x = torch.nn.Parameter(torch.tensor([30.0, 40.0], dtype=torch.float64))
    start = x.detach().clone()
    opt = Trusting([x], max_lr=float("inf"), momentum=momentum)
    for _ in range(40):
        way = float((x.detach() - start).norm())
        before = x.detach().clone()
        opt.zero_grad()
        opt.watch(x.norm()).backward()
        opt.step()
        assert float((x.detach() - before).norm()) == pytest.approx(0.1 * max(way, 1.0), rel=1e-9)
    assert torch.equal(opt.state[x]["start"], start)
    assert ("gradient_average" in opt.state[x]) == (momentum > 0.0)
