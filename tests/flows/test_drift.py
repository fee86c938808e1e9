"""Test the distance between paths at equal times against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from corridor.flows import clr_descent, drift, gradient_descent, gradient_flow
from corridor.surfaces import Cone, Helicoid, Quadratic

START = torch.tensor([3.0, 4.0], dtype=torch.float64)


def test_drift_is_the_distance_at_equal_times():
    path = gradient_descent(Quadratic(), START, 0.1, 10)
    found = drift(path, Quadratic())
    n = torch.arange(11, dtype=torch.float64)
    expected = 5.0 * (torch.exp(-0.1 * n) - 0.9**n)
    torch.testing.assert_close(found.distance, expected, rtol=0, atol=1e-8)
    assert found.gradients > 0
    flow = gradient_flow(Quadratic(), START, 1.0, at=path.times)
    torch.testing.assert_close(drift(path, flow).distance, expected, rtol=0, atol=1e-8)
    assert float(drift(clr_descent(Cone(), START, 1), Cone()).distance[-1]) < 1e-12


def test_the_relative_distance_is_zero_at_the_start():
    found = drift(gradient_descent(Quadratic(), START, 0.1, 2), Quadratic())
    assert float(found.relative[0]) == 0.0
    # One step of length 0.5 leaves the flow of length 5 (1 - e^-0.1) by 5 (e^-0.1 - 0.9).
    assert float(found.relative[1]) == pytest.approx(0.0241869 / 0.4758129, rel=1e-4)


def test_a_path_without_a_step_is_one_line():
    with pytest.raises(ValueError, match="path must have a length, got 1 point"):
        drift(gradient_descent(Cone(), START, 0.1, 0), Cone())


def test_the_relative_distance_divides_by_the_arc_of_the_flow():
    """Two points of a circle have a short chord."""
    x = torch.tensor([math.cos(3.1), math.sin(3.1)], dtype=torch.float64)
    found = drift(gradient_descent(Helicoid(), x, 6.2, 1), Helicoid())
    assert float(found.relative[-1]) == pytest.approx(float(found.distance[-1]) / 6.2, rel=1e-4)
    x = x * torch.tensor([1.0, -1.0])
    back = drift(gradient_flow(Helicoid(), x, -6.2, at=[-3.1, -6.2]), Helicoid(), tolerance=1e-6)
    torch.testing.assert_close(back.times, torch.tensor([0.0, -3.1, -6.2], dtype=torch.float64))


def test_the_length_of_a_path_without_density_is_that_of_its_chords():
    x = torch.tensor([1.0, 0.0], dtype=torch.float64)
    fine = gradient_descent(Helicoid(), x, 0.1, 10)
    found = drift(gradient_descent(Helicoid(), x, 0.5, 2), fine)
    lengths = (fine.points[1:] - fine.points[:-1]).norm(dim=1).cumsum(0)[[4, 9]]
    torch.testing.assert_close(found.distance[1:] / found.relative[1:], lengths)
