"""A loss on which one step size of gradient descent follows the flow, though it is no corridor."""

from __future__ import annotations

import cmath
import math

import torch
from torch import Tensor

from corridor.surfaces.base import Domain, Surface, Verdict

ROOT = complex(2.08884301561304, 7.46148928565425)  # of e^z = 1 + z, to be polished


def _polished(z: complex) -> complex:
    for _ in range(4):
        z -= (cmath.exp(z) - 1.0 - z) / (cmath.exp(z) - 1.0)
    return z


class FixedStep(Surface):
    """A loss of one variable whose flow is its own Euler step for one step size h (subtlety S5).

    ``theta(t + h) = theta(t) - h g(theta(t))`` from every start, with Hg far from 0. With ``e^z = 1
    + z`` the motion ``theta(t) = -b t + a Re e^(z t / h)`` equals its own Euler steps of size h.
    The loss is defined by ``g(theta(t)) = -theta'(t)`` for t in [0, t_end]; steps of h/2 leave the
    flow, which is why a detector tries two step sizes or looks at Hg.

    Args:
        step_size: h, the one step size that fails to tell.
        drift: b.
        amplitude: a.

    Example:
        >>> import torch
        >>> loss = FixedStep(0.5)
        >>> x = loss.at_time(torch.tensor([0.1], dtype=torch.float64)).requires_grad_()
        >>> (g,) = torch.autograd.grad(loss(x), x)
        >>> later = loss.at_time(torch.tensor([0.6], dtype=torch.float64))
        >>> bool((x - 0.5 * g - later).abs() < 1e-12)
        True
    """

    dimension = 1
    verdict = Verdict.WEAK

    def __init__(self, step_size: float = 0.5, drift: float = 1.0, amplitude: float = 1e-3) -> None:
        if not (step_size > 0.0 and drift > 0.0 and amplitude > 0.0):
            raise ValueError("step_size, drift and amplitude must be positive")
        self.step_size, self.drift, self.amplitude = step_size, drift, amplitude
        self.rate = _polished(ROOT) / step_size
        # theta falls while b exceeds the largest speed of the oscillation.
        self.t_end = math.log(drift / (amplitude * abs(self.rate))) / self.rate.real
        if not self.t_end > step_size:
            raise ValueError("amplitude is too large: theta would turn within one step")
        ends = self.at_time(torch.tensor([0.0, self.t_end], dtype=torch.float64))
        self.top, self.bottom = ends.tolist()
        self.f_star = float(self.value(ends[1:, None])[0])
        self.domain = Domain(
            f"{self.bottom:g} < theta < {self.top:g}",
            lambda x: torch.minimum(self.top - x[..., 0], x[..., 0] - self.bottom),
        )

    def at_time(self, t: Tensor) -> Tensor:
        """Where theta is at times t, any shape."""
        return -self.drift * t + self.amplitude * self._wave(1.0, self.rate, t)

    def _velocity(self, t: Tensor) -> Tensor:
        return -self.drift + self.amplitude * self._wave(self.rate, self.rate, t)

    @staticmethod
    def _wave(factor: complex, rate: complex, t: Tensor) -> Tensor:
        """``Re(factor exp(rate t))``."""
        angle = rate.imag * t
        turned = complex(factor).real * torch.cos(angle) - complex(factor).imag * torch.sin(angle)
        return torch.exp(rate.real * t) * turned

    def _time(self, x: Tensor) -> Tensor:
        """When theta is x, with derivatives up to the third by two steps of Newton's method.

        Bisection is safe where the oscillation is nearly as fast as the drift.
        """
        with torch.no_grad():
            low, high = torch.zeros_like(x), torch.full_like(x, self.t_end)
            for _ in range(60):
                middle = 0.5 * (low + high)
                above = self.at_time(middle) > x
                low, high = torch.where(above, middle, low), torch.where(above, high, middle)
            t = 0.5 * (low + high)
        for _ in range(2):
            t = t - (self.at_time(t) - x) / self._velocity(t)
        return t

    def value(self, x: Tensor) -> Tensor:
        """``-int_0^t theta'(s)^2 ds`` at the time t when theta is x; NaN outside the domain."""
        x = x[..., 0]
        t = self._time(x)
        a, b, w = self.amplitude, self.drift, self.rate
        grown = self._wave(1.0, w, t) - 1.0
        square = a * a * abs(w) ** 2 * torch.expm1(2.0 * w.real * t) / (4.0 * w.real)
        beat = 0.25 * a * a * (self._wave(w, 2.0 * w, t) - w.real)
        lost = b * b * t - 2.0 * a * b * grown + square + beat
        inside = (x <= self.top) & (x >= self.bottom)
        return torch.where(inside, -lost, torch.full_like(lost, torch.nan))
