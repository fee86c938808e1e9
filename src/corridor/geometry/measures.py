"""Compute scale-free corridor measures from a loss, its gradient g and Hg.

E stands for ``(loss - f_star)_+``, so measures with E need the lower bound `f_star` of the loss.
"Invariant" means unchanged for the loss ``a E`` with a > 0, and for moved parameters,
``theta -> s Q theta + b`` with Q orthogonal. At a critical point, g = 0, measures that divide by
``||g||`` are NaN. There, Hg = 0 is not a sign of a corridor. Units show how a measure scales.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from corridor import _reduce, _tree
from corridor._types import Tensors
from corridor.geometry.estimates import secant

SHARED = ("loss", "grad_norm", "clr")  # equal in a secant
OF_HG = (
    *("hg_norm", "ghg", "rho", "rho_parallel", "rho_perp", "cosine", "curvature"),
    *("sharpness_along_grad", "dal", "horizon", "degree"),
)
OF_STEP = ("step", "next_loss", "smoothness", "decrease", "loss_ratio", "gradient_change")
TOGETHER = 1 << 18  # entries of tensors that are reduced together


@dataclass(frozen=True)
class Measures:
    """Hold how close the loss is to a corridor at a point. Each number is a 0-dim tensor.

    Attributes:
        loss: the loss, in its own unit, [loss].
        grad_norm: ``||g||``, [loss / length].
        hg_norm: ``||Hg||``, [loss^2 / length^3]. It is 0 in a corridor.
        ghg: ``g^T H g``, [loss^3 / length^4].
        hg_perp_norm: ``||Hg - (g^T H g / ||g||^2) g||``, the norm of the part of Hg that turns g.
        f_star: lower bound of the loss (default: 0.0).
        engine: the engine that computed Hg, and the reason.
        secant: the measures over a whole step, or None without a step.
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
        """Return ``E = (loss - f_star)_+``, [loss], at least 0."""
        return (self.loss - self.f_star).clamp(min=0.0)

    @property
    def rho(self) -> Tensor:
        """Return the corridor number ``E ||Hg|| / (2 ||g||^3)``, at least 0. Invariant.

        To leading order it is the distance between gradient flow and one CLR step, divided by the
        length of the step. The relative change of g over the step is ``2 rho``. It is 0 in a
        corridor and at least 1/4 on a quadratic.
        """
        return self.drift(self.gap / self.grad_norm / self.grad_norm)

    @property
    def rho_parallel(self) -> Tensor:
        """Return ``E g^T H g / (2 ||g||^4)``, the signed part of rho that changes speed. Invariant.

        To second order it is the share of E that remains after a CLR step. It is 0 in a corridor,
        1/4 on an isotropic quadratic, 1/2 on an exponential, and 1 at the edge of stability.
        """
        # Division by one norm at a time: powers of a small norm would underflow.
        return 0.5 * (self.gap / self.grad_norm) * self.sharpness_along_grad / self.grad_norm

    @property
    def rho_perp(self) -> Tensor:
        """Return ``sqrt(rho^2 - rho_parallel^2)``, the part of rho that turns g. Invariant."""
        return 0.5 * (self.gap / self.grad_norm) * self.curvature

    @property
    def cosine(self) -> Tensor:
        """Return ``cos(Hg, g)``, NaN if Hg = 0. Invariant. It is 1 if flow lines are straight."""
        return self.ghg / self.hg_norm / self.grad_norm

    @property
    def curvature(self) -> Tensor:
        """Return the curvature of the flow line, ``||(Hg)_perp|| / ||g||^2``, [1 / length]."""
        return self.hg_perp_norm / self.grad_norm / self.grad_norm

    @property
    def sharpness_along_grad(self) -> Tensor:
        """Return ``g^T H g / ||g||^2``, [loss / length^2], which is ``-d ln||g|| / dt`` in flow."""
        return self.ghg / self.grad_norm / self.grad_norm

    @property
    def clr(self) -> Tensor:
        """Return the corridor learning rate ``E / ||g||^2``, [length^2 / loss], 0 if g = 0."""
        step = self.gap / self.grad_norm / self.grad_norm
        return torch.where(self.grad_norm > 0.0, step, torch.zeros_like(step))  # not 0 / 0

    @property
    def dal(self) -> Tensor:
        """Return ``2 ||g|| / ||Hg|| = clr / rho``, the step of drift 1 (Rosca et al., 2023)."""
        return 2.0 * self.grad_norm / self.hg_norm

    @property
    def horizon(self) -> Tensor:
        """Return ``||g|| / ||Hg||``, [length^2 / loss], the flow time to change g by its size."""
        return self.grad_norm / self.hg_norm

    @property
    def degree(self) -> Tensor:
        """Return the effective degree of homogeneity, ``1 / (1 - 2 rho_parallel)``. Invariant.

        It is p for ``E = |x|^p``: 1 in a corridor, 2 on a quadratic. It is inf on an exponential,
        and negative beyond. ``E^q`` has q times the degree of E.
        """
        return 1.0 / (1.0 - 2.0 * self.rho_parallel)

    def drift(self, step: float | Tensor) -> Tensor:
        """Return the relative drift of one gradient step from the flow, ``h ||Hg|| / (2 ||g||)``.

        This is the leading order in the step size h, and equals ``h / clr * rho``.
        """
        return 0.5 * step * self.hg_norm / self.grad_norm

    def next_loss_ratio(self, step: float | Tensor | None = None) -> Tensor:
        """Return the predicted ``E_1 / E_0`` of a step h (default: the CLR step), to second order.

        With ``t = h / clr`` it is ``1 - t + rho_parallel t^2``, exact on quadratics. Invariant.
        """
        t = 1.0 if step is None else step / self.clr
        return 1.0 - t + self.rho_parallel * t * t

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """Return all numbers as floats by name, after a prefix (default: "").

        Names of the secant have ``secant_`` too. This waits for the device once.

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
        """Return all numbers by name as tensors on the device; see `as_dict`."""
        found = {prefix + name: getattr(self, name) for name in self._names()}
        if self.secant is not None:
            found |= self.secant.as_tensors(f"{prefix}secant_")
        return found

    def _names(self) -> tuple[str, ...]:
        return (*SHARED, *OF_HG)


@dataclass(frozen=True, kw_only=True)
class SecantMeasures(Measures):
    """Hold measures that use the secant ``(g(theta) - g(theta - h g)) / h`` in place of Hg.

    It is the mean of ``H g`` along the step from theta, with all kinks on the way.

    Attributes:
        step: h, 0-dim.
        next_loss: the loss at ``theta - h g``.
        next_grad_norm: ``||g||`` at ``theta - h g``.
        smoothness: pointwise ``||Hg||`` divided by the norm of the secant. Invariant. Far below 1,
            there are kinks that the pointwise Hg misses.
    """

    step: Tensor
    next_loss: Tensor
    next_grad_norm: Tensor
    smoothness: Tensor

    @property
    def decrease(self) -> Tensor:
        """Return actual over linear decrease of the loss, ``(E_0 - E_1) / (h ||g||^2)``. Invariant.

        It is 1 in a corridor, 1/2 for the best step on a quadratic, and negative if the loss rises.
        """
        return (self.loss - self.next_loss) / self.step / self.grad_norm / self.grad_norm

    @property
    def loss_ratio(self) -> Tensor:
        """Return ``E_1 / E_0``, which `next_loss_ratio` predicts. Invariant."""
        return (self.next_loss - self.f_star) / self.gap

    @property
    def gradient_change(self) -> Tensor:
        """Return ``||g_1 - g_0|| / ||g_0||``, which is ``2 rho`` for a CLR step. Invariant."""
        return self.step * self.hg_norm / self.grad_norm

    def _names(self) -> tuple[str, ...]:
        return (*OF_HG, *OF_STEP)


def reduced(loss: Tensor, gradient: Tensors, product: Tensors) -> dict[str, Any]:
    """Return the numbers that `Measures` needs of a loss, its gradient g and Hg."""
    norm_sq, ghg = _tree.whole_squared_norm(gradient), _tree.whole_dot(product, gradient)
    along = torch.where(norm_sq > 0.0, ghg / norm_sq, torch.zeros_like(ghg))
    return {
        "loss": loss.to(_tree.widest(loss)),
        "grad_norm": norm_sq.sqrt(),
        "hg_norm": _tree.whole_squared_norm(product).sqrt(),
        "ghg": ghg,
        "hg_perp_norm": _turning(gradient, product, along).sqrt(),
    }


def _turning(gradient: Tensors, product: Tensors, along: Tensor) -> Tensor:
    """Return ``||Hg - along g||^2``. It takes few tensors at a time, so it needs little memory."""
    on_host = gradient[0].is_cpu or any(map(_reduce.is_sharded, gradient))
    factor = float(along) if on_host else along  # on a device, float() would wait
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
    """Return the measures with the secant of a step, from loss and gradient at ``theta - h g``."""
    numbers = reduced(measures.loss, gradient, secant(gradient, next_gradient, step))
    size = torch.as_tensor(step, dtype=measures.loss.dtype, device=measures.loss.device)
    over_step = SecantMeasures(
        **numbers,
        f_star=measures.f_star,
        engine="secant of two gradients",
        step=size,
        next_loss=next_loss.to(numbers["loss"]),
        next_grad_norm=_tree.whole_squared_norm(next_gradient).sqrt(),
        smoothness=measures.hg_norm / numbers["hg_norm"],
    )
    return replace(measures, secant=over_step)
