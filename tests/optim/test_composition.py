"""An optimizer enters the code of its own parts, and no other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from corridor import CLR, CLRAdam
from corridor.optim import DAL, SPSMax


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
    "optim/base.py", "optim/_step.py", "optim/_loss.py", "optim/_limit.py", "optim/_motion.py",
    "optim/_bucket.py", "optim/_options.py", "optim/step_size.py", "corridor/_tree.py",
    "corridor/_reduce.py",
}  # fmt: skip
CURVATURE = {"optim/_curvature.py", "optim/_metric.py", "geometry/graph.py"}


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
    assert parts <= entered <= MACHINE | parts | ({"geometry/_gradient.py"} if parts else set())


def test_a_plain_step_never_enters_the_code_that_measures_curvature():
    assert not any("curvature" in name or "geometry" in name for name in files_entered(CLR))
