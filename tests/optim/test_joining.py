"""Momentum with parameters that join late or miss steps, and with an f_star that changes."""

from __future__ import annotations

import math

import pytest
import torch
from tests.optim.conftest import step_sizes
from tests.optim.reference import ReferenceCLR
from torch import Tensor, nn

from corridor import CLR, CLRAdam
from corridor.optim import MoMo, MoMoAdam

BOTH, FIRST, SECOND, NONE = (True, True), (True, False), (False, True), (False, False)
PATTERNS = {
    "joins late": [FIRST] * 8 + [BOTH] * 4,
    "unfrozen alone": [FIRST] * 8 + [SECOND] * 4,
    "alternates": [FIRST, SECOND] * 6,
    "alternates slowly": ([FIRST] * 3 + [SECOND] * 3) * 3,
    "drops out": [BOTH] * 3 + [FIRST] * 5 + [BOTH] * 4,
    "once, then late": [BOTH] + [FIRST] * 8 + [BOTH] * 3,
    "a step without any": [BOTH, NONE, FIRST, NONE, BOTH, BOTH],
}


class Pausing(ReferenceCLR):
    """Fill the gradients of missed steps: by the average, before the first step by that gradient.

    A vector of NaN stands for no gradient. Such a vector does not move, and it is not in ``||d||``.
    """

    def step(self, E: float, g: list[Tensor]) -> None:
        """Fill the history, then step as the twin does."""
        self.present = [not bool(x.isnan().any()) for x in g]
        known = self._known() if self.gradients else [None] * len(g)
        for i, here in enumerate(self.present):
            if here and known[i] is None:
                for past in self.gradients:
                    past[i] = g[i].clone()
            elif not here:
                g[i] = torch.zeros_like(g[i]) if known[i] is None else known[i]
        super().step(E, g)
        self.seen = [a or b for a, b in zip(self.seen, self.present, strict=True)]

    def _known(self) -> list[Tensor | None]:
        rho = sum(self._weights())
        averages = super()._average()
        return [d / rho if seen else None for d, seen in zip(averages, self.seen, strict=True)]

    def _average(self) -> list[Tensor]:
        return [
            d if here else torch.zeros_like(d)
            for d, here in zip(super()._average(), self.present, strict=True)
        ]

    seen: list[bool]
    present: list[bool]


def loss_of(x: list[Tensor]) -> Tensor:
    scales = torch.tensor([1.0, 3.0], dtype=torch.float64)
    return (scales * x[0].square()).sum() + (x[0] * x[1]).sum() + 2.0 * x[1].square().sum() + 3.0


@pytest.mark.parametrize("caps", [(math.inf, math.inf), (0.03, 0.01)], ids=str)
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_steps_agree_with_a_twin_that_fills_the_missing_gradients(pattern, caps):
    params = [nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in ([2.0, -1.0], [0.5, 3.0])]
    groups = [{"params": [p], "lr": cap} for p, cap in zip(params, caps, strict=True)]
    fast = CLR(groups, momentum=0.9, scale=0.5)
    slow = Pausing([p.detach() for p in params], list(caps), beta=0.9, scale=0.5)
    slow.seen = [False, False]
    for present in pattern:
        fast.zero_grad()
        loss = loss_of(params)
        loss.backward()
        grads = [p.grad.clone() for p in params]
        for i, here in enumerate(present):
            if not here:
                params[i].grad, grads[i] = None, torch.full_like(grads[i], math.nan)
        fast.step(loss=loss)
        slow.step(loss.item(), grads)
        if any(present):
            assert step_sizes(fast) == pytest.approx(slow.h, rel=1e-9)
        for p, theta in zip(params, slow.theta, strict=True):
            torch.testing.assert_close(p.detach(), theta, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("make", [CLR, MoMo, MoMoAdam], ids=lambda kind: kind.__name__)
def test_a_corridor_is_solved_in_one_step_whoever_takes_it(make, pattern):
    """After any pattern of capped steps, the step of the parameters that are there arrives."""
    p, q = (nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (30.0, 20.0))
    opt = make([p, q], max_lr=1e-2, momentum=0.9)
    for present in pattern:
        opt.zero_grad()
        loss = 2.0 * p.sum() + 3.0 * q.sum()
        loss.backward()
        for x, here in zip((p, q), present, strict=True):
            if not here:
                x.grad = None
        opt.step(loss=loss)
    opt.zero_grad()
    opt.param_groups[0]["lr"] = math.inf
    p.requires_grad_(False)
    loss = 2.0 * p.sum() + 3.0 * q.sum()
    loss.backward()
    before = loss.item()
    opt.step(loss=loss)
    assert abs(float(2.0 * p.detach() + 3.0 * q.detach())) < 1e-9 * before


@pytest.mark.parametrize("make", [CLR, MoMoAdam, CLRAdam], ids=lambda kind: kind.__name__)
def test_a_parameter_that_rests_is_saved_as_such(make):
    """Interrupted while a parameter rests, the run goes on bit for bit."""
    ends = []
    for interrupted in (False, True):
        p, q = (nn.Parameter(torch.tensor([v, 1.0], dtype=torch.float64)) for v in (2.0, -1.0))
        opt = make([p, q], momentum=0.9)
        for k, present in enumerate(PATTERNS["alternates slowly"]):
            if k == 5 and interrupted:
                saved = opt.state_dict()
                opt = make([p, q], momentum=0.9)
                opt.load_state_dict(saved)
            opt.zero_grad()
            p.requires_grad_(present[0])
            q.requires_grad_(present[1])
            opt.watch(loss_of([p, q])).backward()
            opt.step()
        ends.append([p.detach(), q.detach()])
    assert all(map(torch.equal, *ends))


def test_a_bad_first_gradient_does_not_stay(parameter):
    p, q = parameter([1.0], [1.0]), parameter([0.0, 0.0])
    opt = CLR([p, q], momentum=0.9)
    opt.step(loss=1.0)
    for bad in (math.nan, math.inf, 1.0):
        q.grad = torch.tensor([bad, 1.0], dtype=torch.float64)
        opt.step(loss=1.0)
    assert bool(q.isfinite().all())
    assert step_sizes(opt)[0] > 0.0


@pytest.mark.parametrize("make", [CLR, MoMo, MoMoAdam], ids=lambda kind: kind.__name__)
def test_losses_are_averaged_with_the_f_star_of_their_batches(make):
    """A constant added to a batch's loss and to its f_star changes no step."""
    ends = []
    for shifts in ([0.0] * 6, [0.0, 5.0, -3.0, 100.0, 0.5, 0.0]):
        x = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
        opt = make([x], max_lr=math.inf, momentum=0.9, f_star=shifts[0])
        for shift in shifts:
            opt.param_groups[0]["f_star"] = shift
            opt.zero_grad()
            loss = (torch.tensor([1.0, 3.0]).double() * x.square()).sum() + 1.0 + shift
            loss.backward()
            opt.step(loss=loss)
        ends.append(x.detach())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-11, atol=1e-11)
