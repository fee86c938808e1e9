"""Define a loss on which gradient descent follows the flow at one step size with Hg not 0."""

import math

import torch
from torch import Tensor

from corridor.proofs import Verdict
from corridor.surfaces.base import Domain, Surface, positive

ROOT = complex(2.088843015613044, 7.461489285654254)  # solves e^z = 1 + z


def _wave(factor: complex, rate: complex, t: Tensor) -> Tensor:
    """Return ``Re(factor exp(rate t))``."""
    angle = rate.imag * t
    turned = factor.real * torch.cos(angle) - factor.imag * torch.sin(angle)
    return torch.exp(rate.real * t) * turned


class FixedStep(Surface):
    """Compute a loss of one variable whose flow equals its Euler steps of size h (subtlety S5).

    With ``e^z = 1 + z``, the motion ``theta(t) = -b t + a Re e^(z t / h)`` equals its own Euler
    steps from every start. The loss is defined by ``g(theta(t)) = -theta'(t)`` for t in [0, t_end],
    and Hg is far from 0. Steps of h/2 leave the flow. A detector must therefore try two step sizes,
    or evaluate Hg.

    Args:
        step_size: h, positive, the step size that hides Hg. Default: 0.5.
        slope: b, positive, the mean of ``||g||``. Default: 1.
        amplitude: a, positive, so small that theta does not turn. Default: 1e-3.

    Example:
        >>> loss = FixedStep(0.5)
        >>> x = loss.at_time(torch.tensor([0.1], dtype=torch.float64)).requires_grad_()
        >>> (g,) = torch.autograd.grad(loss(x), x)
        >>> later = loss.at_time(torch.tensor([0.6], dtype=torch.float64))
        >>> bool((x - 0.5 * g - later).abs() < 1e-12)
        True
    """

    dimension = 1
    verdict = Verdict.WEAK

    def __init__(
        self, step_size: float = 0.5, *, slope: float = 1.0, amplitude: float = 1e-3
    ) -> None:
        self.step_size = positive(step_size, "step_size")
        self.slope, self.amplitude = positive(slope, "slope"), positive(amplitude, "amplitude")
        self.rate = ROOT / step_size
        # theta falls while b exceeds the largest speed of the oscillation.
        self.t_end = math.log(slope / (amplitude * abs(self.rate))) / self.rate.real
        if not self.t_end > step_size:
            raise ValueError(f"amplitude must let theta fall for one step, got {amplitude}")
        ends = self.at_time(torch.tensor([0.0, self.t_end], dtype=torch.float64))
        self.top, self.bottom = ends.tolist()
        self.f_star = float(self.value(ends[1:, None])[0])
        self.domain = Domain(
            f"{self.bottom:g} < theta < {self.top:g}",
            lambda x: torch.minimum(self.top - x[..., 0], x[..., 0] - self.bottom),
        )

    def at_time(self, t: Tensor) -> Tensor:
        """Return theta at times t of any shape, in [0, t_end]."""
        return -self.slope * t + self.amplitude * _wave(1.0, self.rate, t)

    def _time(self, x: Tensor) -> Tensor:
        """Return the time at which theta is x, with derivatives up to the third."""
        with torch.no_grad():
            # Newton's method alone fails where the oscillation is nearly as fast as the fall.
            low, high = torch.zeros_like(x), torch.full_like(x, self.t_end)
            for _ in range(60):
                middle = 0.5 * (low + high)
                above = self.at_time(middle) > x
                low, high = torch.where(above, middle, low), torch.where(above, high, middle)
            t = 0.5 * (low + high)
        # Each Newton step doubles the number of right derivatives.
        for _ in range(2):
            velocity = self.amplitude * _wave(self.rate, self.rate, t) - self.slope
            t = t - (self.at_time(t) - x) / velocity
        return t

    def value(self, x: Tensor) -> Tensor:
        """Return ``-int_0^t theta'(s)^2 ds`` up to the time of x; NaN outside the domain."""
        x, t = x[..., 0], self._time(x[..., 0])
        a, b, w = self.amplitude, self.slope, self.rate
        grown = _wave(1.0, w, t) - 1.0
        square = a * a * abs(w) ** 2 * torch.expm1(2.0 * w.real * t) / (4.0 * w.real)
        beat = 0.25 * a * a * (_wave(w, 2.0 * w, t) - w.real)
        lost = b * b * t - 2.0 * a * b * grown + square + beat
        return torch.where((x <= self.top) & (x >= self.bottom), -lost, torch.nan)
