"""Define ruled surfaces over the plane (example 2.5), and smooth losses with known geometry."""

import math

import torch
from torch import Tensor

from corridor.proofs import Verdict
from corridor.surfaces.base import Domain, Surface, nonzero, positive

ROOT = complex(2.088843015613044, 7.461489285654254)  # solves e^z = 1 + z


def _off_the_cut(x: Tensor) -> Tensor:
    """Return the distance of points in the plane to the half-line at the angle pi."""
    return torch.where(x[..., 0] < 0.0, x[..., 1].abs(), x.norm(dim=-1))


class DevelopableHelicoid(Surface):
    """Compute the surface of the tangents to a helix, of slope 1: ruled, and a corridor.

    Over the plane outside a circle of radius a, in polar coordinates r and phi,

        E = sqrt(r^2 - a^2) - a arccos(a / r) + a phi

    has ``E_r = sqrt(r^2 - a^2) / r`` and ``E_phi / r = a / r``, and so ``||g|| = 1``. The flow
    lines are the tangents of the circle. phi jumps at the angle pi. Inside, E is NaN.

    Args:
        radius: a, positive, of the circle that the flow lines touch and end on. Default: 1.
    """

    verdict = Verdict.CORRIDOR
    speed = 1.0
    dimension = 2

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = positive(radius, "radius")
        self.f_star = -torch.pi * radius
        self.domain = Domain(
            "outside the circle, off the cut at angle pi",
            lambda x: torch.minimum(x.norm(dim=-1) - self.radius, _off_the_cut(x)),
        )
        a = repr(float(radius))
        root = f"sqrt(x**2 + y**2 - {a}**2)"
        self.expression = f"{root} - {a}*atan({root}/{a}) + {a}*atan2(y, x)"

    def value(self, x: Tensor) -> Tensor:
        a = self.radius
        root = (x.square().sum(-1) - a * a).sqrt()
        # arccos(a / r) as an arctangent keeps its derivatives accurate near the circle.
        return root - a * torch.atan(root / a) + a * torch.atan2(x[..., 1], x[..., 0])


class Helicoid(Surface):
    """Compute ``E = pitch * phi``, phi the polar angle: ruled, with circles as flow lines.

    Args:
        pitch: rise per radian, not 0. Default: 1.
    """

    dimension = 2

    def __init__(self, pitch: float = 1.0) -> None:
        self.pitch = nonzero(pitch, "pitch")
        self.f_star = -torch.pi * abs(pitch)
        self.domain = Domain("off the cut at angle pi", _off_the_cut)
        self.expression = f"{float(pitch)!r}*atan2(y, x)"


class Saddle(Surface):
    """Compute ``E = x y``: ruled by lines, which are not lines of steepest descent."""

    dimension = 2
    f_star = -float("inf")
    expression = "x*y"


class Trough(Surface):
    """Compute ``E = 1/2 k x^2``, constant in y: developable, but its generators are level lines.

    Args:
        curvature: k, positive. Default: 1.
    """

    dimension = 2
    verdict = Verdict.WEAK

    def __init__(self, curvature: float = 1.0) -> None:
        self.curvature = positive(curvature, "curvature")
        self.expression = f"{float(0.5 * curvature)!r}*x**2"


class ExponentialTail(Surface):
    """Compute ``E = exp(-x)``: corridor number 1/2 everywhere; one CLR step multiplies E by 1/e."""

    dimension = 1
    verdict = Verdict.WEAK
    expression = "exp(-x)"


class LogisticTail(Surface):
    """Compute ``E = ln(1 + exp(-x))``: the loss of one example with the margin x.

    It tends to a corridor for x to -inf, and to an exponential tail for x to +inf. Its corridor
    number is `corridor.theory.beyond.logistic_rho`.
    """

    dimension = 1
    verdict = Verdict.WEAK
    expression = "log(1 + exp(-x))"

    def value(self, x: Tensor) -> Tensor:
        # torch is linear above its default threshold, where Hg would be 0.
        return torch.nn.functional.softplus(-x[..., 0], threshold=float("inf"))


class LogDistance(Surface):
    """Compute ``E = ln(1 + ||theta||^2)``: straight flow lines of changing speed (subtlety S1)."""

    verdict = Verdict.WEAK
    expression = "log(1 + x**2 + y**2)"

    def value(self, x: Tensor) -> Tensor:
        return torch.log1p(x.square().sum(-1))


class Huber(Surface):
    """Compute a cone of slope c with a tip of curvature L instead of the kink (subtlety S10).

    With ``r = ||theta||``, the loss is ``1/2 L r^2`` for r below c / L, and ``c r - c^2 / (2 L)``
    above. Its corridor ends at ``c^2 / (2 L)``, the smallest end for an L-smooth loss.

    Args:
        slope: c, positive. Default: 1.
        smoothness: L, positive. Default: 1.
    """

    verdict = Verdict.WEAK

    def __init__(self, slope: float = 1.0, smoothness: float = 1.0) -> None:
        self.slope, self.smoothness = positive(slope, "slope"), positive(smoothness, "smoothness")
        self.radius = slope / smoothness
        self.domain = Domain(
            "off the circle around the rounded tip", lambda x: (x.norm(dim=-1) - self.radius).abs()
        )

    def value(self, x: Tensor) -> Tensor:
        squared = x.square().sum(-1)
        inside = squared < self.radius**2
        # The root of 0 has no derivative, which would spoil the other branch.
        r = torch.where(inside, 1.0, squared).sqrt()
        outer = self.slope * r - 0.5 * self.slope * self.radius
        return torch.where(inside, 0.5 * self.smoothness * squared, outer)


class LogSumExp(Surface):
    """Compute ``E = ln sum exp(theta_i)``: smooth, convex, no corridor."""

    f_star = -float("inf")
    expression = "log(exp(x) + exp(y))"

    def value(self, x: Tensor) -> Tensor:
        return torch.logsumexp(x, dim=-1)


class Rosenbrock(Surface):
    """Compute ``E = (1 - x)^2 + b (y - x^2)^2``: a curved valley, no corridor.

    Args:
        steepness: b, positive. Default: 10.
    """

    dimension = 2

    def __init__(self, steepness: float = 10.0) -> None:
        self.steepness = positive(steepness, "steepness")
        self.expression = f"(1 - x)**2 + {float(steepness)!r}*(y - x**2)**2"


class RiverValley(Surface):
    """Compute ``E = y + 1/2 (2 + tanh(y)) x^2``, a valley whose river x = 0 is a corridor (S6)."""

    dimension = 2
    f_star = -float("inf")
    expression = "y + (2 + tanh(y))*x**2/2"


def _wave(factor: complex, rate: complex, t: Tensor) -> Tensor:
    """Return ``Re(factor exp(rate t))``."""
    angle = rate.imag * t
    turned = factor.real * torch.cos(angle) - factor.imag * torch.sin(angle)
    return torch.exp(rate.real * t) * turned


class FixedStep(Surface):
    """Compute a loss of one variable whose flow equals its Euler steps of size h (subtlety S5).

    With ``e^z = 1 + z``, the motion ``theta(t) = -b t + a Re e^(z t / h)`` equals its own Euler
    steps from every start. The loss is defined by ``g(theta(t)) = -theta'(t)`` for t in [0, t_end],
    and Hg is far from 0. Steps of h/2 leave the flow: a detector needs two step sizes, or Hg.

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
