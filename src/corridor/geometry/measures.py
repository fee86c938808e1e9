"""Scale-free corridor measures from a loss, its gradient g and Hg: pure functions and a record.

"Invariant" below is meant for the loss ``a E`` with a > 0 (its lower bound scaled along) and for
the loss seen from moved parameters, ``theta -> s Q theta + b`` with Q orthogonal. None is invariant
under rescaling coordinates one by one, and those with the loss E in them need its lower bound
`f_star`: ``E`` stands for ``(loss - f_star)_+``. At a critical point, g = 0, whatever divides by
``||g||`` is undefined, and NaN: there Hg = 0 says nothing about a corridor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from corridor import _reduce, _tree
from corridor._types import Tensors

NUMBERS = (
    "loss",
    "grad_norm",
    "hg_norm",
    "ghg",
    "rho",
    "rho_parallel",
    "rho_perp",
    "cosine",
    "curvature",
    "sharpness_along_grad",
    "clr",
    "dal",
    "horizon",
    "degree",
)


@dataclass(frozen=True)
class Measures:
    """How close the landscape is to a corridor at a point; every number is a 0-dim tensor.

    Attributes:
        loss: E. In the loss's unit, [loss].
        grad_norm: ``||g||``, [loss / length].
        hg_norm: ``||Hg||``, [loss^2 / length^3]; 0 in a corridor.
        ghg: ``g^T H g``, [loss^3 / length^4].
        hg_perp_norm: ``||Hg - (g^T H g / ||g||^2) g||``, the part of Hg that turns g.
        f_star: lower bound of the loss.
        engine: what gave Hg, and why.
        secant: the same at the scale of a step, where one was given.
    """

    loss: Tensor
    grad_norm: Tensor
    hg_norm: Tensor
    ghg: Tensor
    hg_perp_norm: Tensor
    f_star: float = 0.0
    engine: Any = None
    secant: SecantMeasures | None = field(default=None, repr=False)

    @property
    def gap(self) -> Tensor:
        """``E = (loss - f_star)_+``, [loss], at least 0."""
        return (self.loss - self.f_star).clamp(min=0.0)

    @property
    def rho(self) -> Tensor:
        """Corridor number ``E ||Hg|| / (2 ||g||^3)``, at least `rho_parallel`'s size. Invariant.

        To leading order the distance of gradient flow and one CLR step over that step's length;
        ``2 rho`` is the relative change of g over it. 0: corridor. Quadratics: at least 1/4.
        """
        return self.drift(self.gap / self.grad_norm / self.grad_norm)

    @property
    def rho_parallel(self) -> Tensor:
        """``E g^T H g / (2 ||g||^4)``, any sign: the part of rho that changes speed. Invariant.

        To second order the loss left of E after a CLR step. 0 in a corridor, 1/4 for an isotropic
        quadratic, 1/2 for an exponential; at 1 the step is at the edge of stability along g.
        """
        return 0.5 * self._scale * self.sharpness_along_grad / self.grad_norm

    @property
    def rho_perp(self) -> Tensor:
        """``E ||(Hg)_perp|| / (2 ||g||^3)``, at least 0: the part that turns. Invariant.

        ``rho^2 = rho_parallel^2 + rho_perp^2``.
        """
        return 0.5 * self._scale * self.curvature

    @property
    def cosine(self) -> Tensor:
        """``cos(Hg, g)`` in [-1, 1]; NaN where Hg = 0. Invariant. 1: flow lines are straight."""
        return self.ghg / self.hg_norm / self.grad_norm

    @property
    def curvature(self) -> Tensor:
        """Of the flow line through the point, ``||(Hg)_perp|| / ||g||^2``, [1 / length], >= 0.

        Invariant under ``a E`` and rotations; ``1 / s`` under scaling by s. 0: straight lines.
        """
        return self.hg_perp_norm / self.grad_norm / self.grad_norm

    @property
    def sharpness_along_grad(self) -> Tensor:
        """``g^T H g / ||g||^2``, [loss / length^2], between H's least and largest eigenvalue.

        Along gradient flow ``d ln||g|| / dt`` is minus this. Scales by ``a / s^2``.
        """
        return self.ghg / self.grad_norm / self.grad_norm

    @property
    def clr(self) -> Tensor:
        """Corridor learning rate ``E / ||g||^2``, [length^2 / loss], >= 0; 0 where g = 0."""
        step = self.gap / self.grad_norm / self.grad_norm
        return torch.where(self.grad_norm > 0.0, step, torch.zeros_like(step))

    @property
    def dal(self) -> Tensor:
        """Drift-adjusted rate ``2 ||g|| / ||Hg||``, [length^2 / loss], >= 0; inf in a corridor.

        The step whose relative drift is 1; ``clr / dal = rho`` (Rosca et al., 2023).
        """
        return 2.0 * self.grad_norm / self.hg_norm

    @property
    def horizon(self) -> Tensor:
        """``||g|| / ||Hg||``, [length^2 / loss]: the flow time in which g changes by its size.

        Inf in a corridor. Scales by ``s^2 / a``, as step sizes do.
        """
        return self.grad_norm / self.hg_norm

    @property
    def degree(self) -> Tensor:
        """Effective homogeneity degree ``1 / (1 - 2 rho_parallel)``. Invariant.

        p for ``E = |x|^p``; 1 in a corridor, 2 for a quadratic, inf for an exponential, negative
        beyond. ``E^q`` has q times the degree of E.
        """
        return 1.0 / (1.0 - 2.0 * self.rho_parallel)

    def drift(self, step: float | Tensor) -> Tensor:
        """Relative drift of gradient descent from the flow over one step, ``h ||Hg|| / (2 ||g||)``.

        To leading order in the step size h; ``h / clr * rho``. Invariant with h scaled as `clr`.
        """
        return 0.5 * step * self.hg_norm / self.grad_norm

    def next_loss_ratio(self, step: float | Tensor | None = None) -> Tensor:
        """Predicted ``E_1 / E_0`` of a gradient step, to second order; of the CLR step by default.

        With ``t = h / clr`` it is ``1 - t + rho_parallel t^2``, exact for quadratics. Invariant.
        """
        t = 1.0 if step is None else step / self.clr
        return 1.0 - t + self.rho_parallel * t * t

    @property
    def _scale(self) -> Tensor:
        """``E / ||g||``, [length]: how far away the corridor's end is."""
        return self.gap / self.grad_norm

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """All numbers as floats by name, the secant's as ``secant_...``; one wait for the device.

        Example:
            >>> import torch, corridor
            >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
            >>> found = corridor.measure(lambda: 0.5 * x.square().sum(), [x]).as_dict()
            >>> found["loss"], found["rho"], found["degree"]
            (12.5, 0.25, 2.0)
        """
        tensors = self.as_tensors(prefix)
        values = torch.stack(list(tensors.values())).tolist()
        return dict(zip(tensors, values, strict=True))

    def as_tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """As `as_dict`, still on the device."""
        found = {prefix + name: getattr(self, name) for name in self._names}
        if self.secant is not None:
            found |= self.secant.as_tensors(f"{prefix}secant_")
        return found

    @property
    def _names(self) -> tuple[str, ...]:
        return NUMBERS


@dataclass(frozen=True)
class SecantMeasures(Measures):
    """Measures with the mean Hessian-gradient product over a step in the place of Hg.

    ``(g(theta) - g(theta - h g)) / h`` is the mean of ``H g`` along the step from theta; it sees
    what lies on the way, kinks included. The derived numbers are those of `Measures`.

    Attributes:
        step: h, 0-dim.
        next_loss: the loss at ``theta - h g``.
        next_grad_norm: ``||g||`` there.
        smoothness: pointwise ``||Hg||`` over the secant's, at least 0. Invariant. Near 1 the two
            agree; well below, the step meets kinks that the pointwise number does not see.
    """

    step: Tensor = field(kw_only=True)
    next_loss: Tensor = field(kw_only=True)
    next_grad_norm: Tensor = field(kw_only=True)
    smoothness: Tensor = field(kw_only=True)

    @property
    def decrease(self) -> Tensor:
        """Actual over linear decrease of the loss, ``(E_0 - E_1) / (h ||g||^2)``. Invariant.

        1 in a corridor, 1/2 for the best step on a quadratic, negative where the loss rises.
        """
        return (self.loss - self.next_loss) / self.step / self.grad_norm / self.grad_norm

    @property
    def loss_ratio(self) -> Tensor:
        """``E_1 / E_0`` as it came about, beside `next_loss_ratio`'s prediction. Invariant."""
        return (self.next_loss - self.f_star) / self.gap

    @property
    def gradient_change(self) -> Tensor:
        """``||g_1 - g_0|| / ||g_0||``, at least 0; ``2 rho`` for a CLR step. Invariant."""
        return self.step * self.hg_norm / self.grad_norm

    @property
    def _names(self) -> tuple[str, ...]:
        own = ("step", "next_loss", "smoothness", "decrease", "loss_ratio", "gradient_change")
        return (*(name for name in NUMBERS if name not in SHARED), *own)


TOGETHER = 1 << 18  # entries of tensors that are measured in one go
SHARED = ("loss", "grad_norm", "clr")


def from_parts(
    loss: Tensor, gradient: Tensors, product: Tensors, *, f_star: float = 0.0, engine: Any = None
) -> Measures:
    """The measures of a loss, its gradient g and Hg.

    Args:
        loss: 0-dim.
        gradient: g, as a list of tensors.
        product: Hg, of the same shapes.
        f_star: lower bound of the loss.
        engine: what gave Hg, kept with the result.

    Example:
        >>> import torch
        >>> g = torch.tensor([3.0, 4.0])
        >>> float(from_parts(torch.tensor(12.5), [g], [g]).rho)  # of ||x||^2 / 2
        0.25
    """
    norm_sq, ghg = _tree.whole_squared_norm(gradient), _tree.whole_dot(product, gradient)
    along = torch.where(norm_sq > 0.0, ghg / norm_sq, torch.zeros_like(ghg))
    turning_sq = _turning(gradient, product, along)
    numbers = (loss, norm_sq, _tree.whole_squared_norm(product), ghg, turning_sq)
    loss, norm_sq, product_sq, ghg, turning_sq = map(wide, numbers)
    return Measures(
        loss=loss,
        grad_norm=norm_sq.sqrt(),
        hg_norm=product_sq.sqrt(),
        ghg=ghg,
        hg_perp_norm=turning_sq.sqrt(),
        f_star=f_star,
        engine=engine,
    )


def _turning(gradient: Tensors, product: Tensors, along: Tensor) -> Tensor:
    """``||Hg - along g||^2``, some tensors at a time, to hold few copies."""
    on_host = gradient[0].is_cpu or any(map(_reduce.is_sharded, gradient))
    factor = float(along) if on_host else along  # no wait for a device
    total, held, size = torch.zeros_like(along), [], 0
    for h, g in zip(product, gradient, strict=True):
        held.append(torch.sub(h, g, alpha=factor) if isinstance(factor, float) else h - factor * g)
        size += g.numel()
        if size >= TOGETHER:
            total, held, size = total + _tree.whole_squared_norm(held), [], 0
    return total + _tree.whole_squared_norm(held) if held else total


AnyMeasures = TypeVar("AnyMeasures", bound=Measures)


def with_secant(
    measures: AnyMeasures,
    gradient: Tensors,
    step: float | Tensor,
    next_loss: Tensor,
    next_gradient: Tensors,
) -> AnyMeasures:
    """The same with the secant of a gradient step, from loss and gradient at ``theta - h g``.

    In full-batch gradient descent these are the next step's own, and the secant is free.

    Args:
        measures: at theta.
        gradient: g there.
        step: h > 0.
        next_loss: loss at ``theta - h g``.
        next_gradient: gradient there.
    """
    change = [(a - b) / step for a, b in zip(gradient, next_gradient, strict=True)]
    found = from_parts(measures.loss, gradient, change, f_star=measures.f_star)
    secant = SecantMeasures(
        loss=found.loss,
        grad_norm=found.grad_norm,
        hg_norm=found.hg_norm,
        ghg=found.ghg,
        hg_perp_norm=found.hg_perp_norm,
        f_star=found.f_star,
        engine="secant of two gradients",
        step=wide(torch.as_tensor(step, dtype=found.loss.dtype, device=found.loss.device)),
        next_loss=wide(next_loss.detach()),
        next_grad_norm=wide(_tree.whole_squared_norm(next_gradient)).sqrt(),
        smoothness=measures.hg_norm / found.hg_norm,
    )
    return replace(measures, secant=secant)


def wide(value: Tensor) -> Tensor:
    """In float64, where the device has it, so that ``||g||^3`` neither overflows nor vanishes."""
    return value if value.device.type == "mps" else value.to(torch.float64)
