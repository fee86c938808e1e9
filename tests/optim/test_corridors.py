"""What the theory says of one step: exact in corridors, ((p - 1) / p)^p on power norms."""

from __future__ import annotations

import pytest
import torch

from corridor import CLR

UNCAPPED = float("inf")


def one_step(loss_fn, start, **options) -> tuple[float, float]:
    x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    opt = CLR([x], **{"max_lr": UNCAPPED, **options})
    before = loss_fn(x)
    before.backward()
    opt.step(loss=before)
    return before.item(), loss_fn(x).item()


def half_plane(x):
    return (1.0 - x @ torch.tensor([1.0, -2.0, 0.5, 0.0]).to(x)).relu()


# A loss, and a start from which the straight line reaches zero inside one corridor.
CORRIDORS = {
    "cone": (lambda x: x.norm(), [1.5, -0.7, 0.9, 0.4]),
    "l1 norm": (lambda x: x.abs().sum(), [0.8, -0.8, 0.8, 0.8]),
    "block norms": (lambda x: 2.0 * x[:2].norm() + 3.0 * x[2:].norm(), [1.2, 1.6, 1.8, 2.4]),
    "spectral norm": (lambda x: torch.linalg.svdvals(x.reshape(2, 2))[0], [1.0, 2.0, 2.0, 4.0]),
    "distance to a sphere": (lambda x: (x.norm() - 1.0).abs(), [1.5, -0.7, 0.9, 0.4]),
    "hinge": (half_plane, [-1.5, 0.7, 0.9, 0.4]),
}


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", CORRIDORS)
def test_a_corridor_that_ends_at_zero_is_solved_in_one_step(name: str, beta: float):
    loss_fn, start = CORRIDORS[name]
    before, after = one_step(loss_fn, start, momentum=beta)
    assert before > 0.5
    assert after <= 1e-13 * before


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_power_norms_fall_by_the_closed_form(p: float):
    before, after = one_step(lambda x: x.norm() ** p, [0.3, -1.2, 0.8])
    assert after / before == pytest.approx(((p - 1) / p) ** p, abs=1e-12)


def test_an_overshoot_by_degree_two_solves_the_quadratic():
    """CLR times the homogeneity degree is exact on a power law."""
    _, after = one_step(lambda x: x.square().sum(), [0.3, -1.2], scale=2.0)
    assert after <= 1e-28


@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_momentum_takes_the_cap_along_the_average_of_equal_gradients(beta: float):
    """On a linear loss capped steps are those of plain descent, whatever beta."""
    x = torch.nn.Parameter(torch.tensor([5.0, 0.0], dtype=torch.float64))
    opt = CLR([x], max_lr=0.25, momentum=beta)
    for k in range(1, 5):
        opt.zero_grad()
        loss = x @ torch.tensor([1.0, 2.0]).to(x) + 10.0
        loss.backward()
        opt.step(loss=loss)
        expected = torch.tensor([5.0 - 0.25 * k, -0.5 * k], dtype=torch.float64)
        torch.testing.assert_close(x.detach(), expected, rtol=0, atol=1e-12)
