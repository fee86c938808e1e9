"""The measures of the mean loss over many batches, exactly, and what batches add to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from corridor import _reduce, _tree
from corridor.geometry import _gradient, _inputs
from corridor.geometry._batches import Batches, widened
from corridor.geometry._gradient import Moved
from corridor.geometry._guard import Untouched
from corridor.geometry.graph import record
from corridor.geometry.hvp import Engine
from corridor.geometry.measures import Measures, from_parts, wide, with_secant
from corridor.geometry.point import Step


@dataclass(frozen=True)
class DatasetMeasures(Measures):
    """Measures of the mean loss over a data set, and of how its batches differ from it.

    E, g and Hg are those of the whole set; g_b and H_b those of batch b, weighted by its size.

    Attributes:
        gradient: g of the whole set, shaped like the parameters.
        hessian_gradient: Hg of the whole set.
        batches: m, how many.
        examples: N, how many in all.
        batch_norm: what batch normalisation used, "batch" or "running" statistics, or "none".
        gradient_variance: ``mean_b ||g_b - g||^2``, [loss^2 / length^2].
        trace: tr(Sigma) of the gradients of single examples, estimated from the variance between
            batches of at least two (one-way analysis of variance); NaN of one batch.
        batch_sharpness: ``mean_b g_b^T H_b g_b / mean_b ||g_b||^2``, [loss / length^2].
        batch_hg_norm: ``||mean_b H_b g_b||``: not ``||Hg||``.
        variance_hg_norm: ``||mean_b H_b g_b - Hg||``, the norm of the gradient of half the
            gradient variance, by which the two differ.
    """

    gradient: list[Tensor] = field(kw_only=True, repr=False)
    hessian_gradient: list[Tensor] = field(kw_only=True, repr=False)
    batches: int = field(kw_only=True)
    examples: float = field(kw_only=True)
    batch_norm: str = field(kw_only=True)
    gradient_variance: Tensor = field(kw_only=True)
    trace: Tensor = field(kw_only=True)
    batch_sharpness: Tensor = field(kw_only=True)
    batch_hg_norm: Tensor = field(kw_only=True)
    variance_hg_norm: Tensor = field(kw_only=True)

    @property
    def noise_scale(self) -> Tensor:
        """``B_n = tr(Sigma) / ||g||^2``, in examples: the batch size where noise equals signal."""
        return self.trace / self.grad_norm / self.grad_norm

    def flow_regulariser(self, step: float) -> Tensor:
        """``(h / 4) ||g||^2``, what full-batch descent adds to the loss; flat in a corridor."""
        return 0.25 * step * self.grad_norm * self.grad_norm

    def batch_regulariser(self, step: float) -> Tensor:
        """``(h / 4 m) sum_b ||g_b - g||^2``, what SGD over these batches adds beyond that."""
        return 0.25 * step * self.gradient_variance

    @property
    def _names(self) -> tuple[str, ...]:
        own = ("gradient_variance", "noise_scale", "batch_sharpness")
        return (*super()._names, *own, "batch_hg_norm", "variance_hg_norm")


def measure_dataset(
    model: nn.Module,
    loss_fn: Callable[[Any, Any], Tensor] | None,
    batches: Iterable[Any],
    *,
    f_star: float = 0.0,
    step: Step | None = None,
    batch_products: bool = True,
    batch_loss: Callable[[nn.Module, Any], Tensor] | None = None,
    batch_size: Callable[[Any], float] | None = None,
) -> DatasetMeasures:
    """The measures of ``sum_b n_b E_b / N``, the mean loss over a data set, at constant memory.

    Two passes: g, then the sum of ``H_b g`` with the full g; averaging ``H_b g_b`` instead would
    add the gradient of half the gradient variance, which late in training is a thousand times Hg.
    Both are given. The cost is six gradients of the data set, or four without `batch_products`.

    The mode of the model is kept: in training, batch normalisation uses each batch's statistics
    and the result is that of the mean of batch losses, as training sees it; in evaluation it uses
    the running ones. Dropout draws the same masks in both passes. With an initialised process
    group each rank brings batches of its own and all get the result for all of them.

    Args:
        model: left as it was found.
        loss_fn: ``loss_fn(model(inputs), targets)``, the mean loss of a batch.
        batches: pairs (inputs, targets), gone through twice in the same order: a list or a
            DataLoader. Tensors are brought to the model's device.
        f_star: lower bound of the loss.
        step: as for `corridor.measure`; one gradient of the data set more.
        batch_products: also form every ``H_b g_b``; without, what needs them is NaN.
        batch_loss: ``batch_loss(model, batch)``, in place of loss_fn, for other batches.
        batch_size: weight of a batch; the length of its first tensor by default.

    Raises:
        ValueError: batches cannot be gone through twice, are empty, or gave another loss in the
            second pass; or as `corridor.measure`.

    Example:
        >>> import torch, corridor
        >>> model = torch.nn.Linear(2, 1)
        >>> x, y = torch.randn(10, 2), torch.randn(10, 1)
        >>> batches = list(zip(x.split(4), y.split(4)))  # 4, 4 and 2
        >>> whole = corridor.measure_dataset(model, torch.nn.functional.mse_loss, batches)
        >>> one = corridor.measure(lambda: torch.nn.functional.mse_loss(model(x), y), model)
        >>> bool(torch.isclose(whole.hg_norm, one.hg_norm, rtol=1e-4))
        True

    Reference:
        Smith et al. (2021), "On the Origin of Implicit Regularization in SGD"; McCandlish et al.
        (2018), "An Empirical Model of Large-Batch Training", for the noise scale.
    """
    if not math.isfinite(f_star):
        raise ValueError(f"f_star must be a finite lower bound of the loss, got {f_star}")
    params = _inputs.parameters(model)
    with Untouched(params) as guard:
        source = Batches(guard, model, loss_fn, batches, batch_loss, batch_size)
        first = _FirstPass(params, products=batch_products)
        try:
            source.go(first.add)
        except RuntimeError as error:
            if guard.closure_failed:
                raise
            reason = " ".join(str(error).split())[:160]
            raise ValueError(
                f"a batch's loss cannot be differentiated twice ({reason}); "
                "corridor.measure can, by central differences"
            ) from error
        first.reduce()
        second = _SecondPass(params, first)
        source.go(second.add)
        source.check_same()
        second.reduce()
        result = _gathered(first, second, f_star, source.batch_norm())
        if step is None:
            return result
        size = step(result) if callable(step) else step
        if not 0.0 < float(size) < math.inf:
            raise ValueError(f"step must be a positive step size, got {float(size)}")
        after = _gradient_after(source, params, first, size)
    return with_secant(result, first.gradient, size, *after)


class _FirstPass:
    """Sums over batches of the loss, the gradient, its variance and each batch's own product."""

    def __init__(self, params: list[Tensor], *, products: bool) -> None:
        self.products = products
        self.gradient = [widened(p) for p in params]  # the mean, at first of this rank's batches
        self.own = [widened(p) for p in params] if products else []
        like = self.gradient[0].real
        self.weight, self.loss, self.spread, self.square, self.bend, self.count = (
            torch.zeros((), dtype=like.dtype, device=like.device) for _ in range(6)
        )

    def add(self, guard: Untouched, closure: Callable[[], Tensor], size: float) -> Tensor:
        if self.products:
            tape = record(guard, closure)
            loss, gradient = tape.loss, tape.gradient
            product = tape.product(gradient, last=True)
            self.bend += size * _tree.dot(product, gradient)
            for total, h in zip(self.own, product, strict=True):
                total.add_(h, alpha=size)
        else:
            loss, gradient = _gradient.evaluate(guard, closure)
        _inputs.check_finite(loss)
        self.count += 1
        self.loss += size * loss
        self.square += size * _tree.squared_norm(gradient)
        self.weight += size
        # Welford's update: no difference of large sums.
        shift = [g - mean for g, mean in zip(gradient, self.gradient, strict=True)]
        share = size / self.weight
        self.spread += size * (1.0 - share) * _tree.squared_norm(shift)
        for mean, s in zip(self.gradient, shift, strict=True):
            mean.add_(share * s)
        return loss

    def reduce(self) -> None:
        """From this rank's batches to all: one reduction."""
        mean, weight = [g.clone() for g in self.gradient], self.weight.clone()
        for g in self.gradient:
            g.mul_(weight)
        _reduce.sum_over_ranks([self.weight, self.loss, *map(_tree.as_real, self.gradient)])
        self.loss /= self.weight
        for g in self.gradient:
            g.div_(self.weight)
        apart = [m - g for m, g in zip(mean, self.gradient, strict=True)]
        self.spread += weight * _tree.squared_norm(apart)


class _SecondPass:
    """The sum of ``H_b g`` with the full g."""

    def __init__(self, params: list[Tensor], first: _FirstPass) -> None:
        self.first = first
        self.vector = [g.to(p.dtype) for g, p in zip(first.gradient, params, strict=True)]
        self.product = [widened(p) for p in params]

    def add(self, guard: Untouched, closure: Callable[[], Tensor], size: float) -> Tensor:
        tape = record(guard, closure)
        for total, h in zip(self.product, tape.product(self.vector, last=True), strict=True):
            total.add_(h, alpha=size)
        return tape.loss

    def reduce(self) -> None:
        """From this rank's batches to all: one reduction."""
        first = self.first
        sums = [first.spread, first.square, first.bend, first.count]
        vectors = [*self.product, *first.own]
        _reduce.sum_over_ranks([*sums, *map(_tree.as_real, vectors)])
        for total in vectors:
            total.div_(first.weight)


def _gathered(
    first: _FirstPass, second: _SecondPass, f_star: float, batch_norm: str
) -> DatasetMeasures:
    engine = Engine("double_backward", "exact: the sum of every batch's product with the full g")
    found = from_parts(first.loss, first.gradient, second.product, f_star=f_star, engine=engine)
    undefined = torch.full_like(found.loss, math.nan)
    sharpness, own, apart = undefined, undefined, undefined
    if first.products:
        sharpness = wide(first.bend / first.square)
        own = wide(_tree.squared_norm(first.own)).sqrt()
        difference = [a - b for a, b in zip(first.own, second.product, strict=True)]
        apart = wide(_tree.squared_norm(difference)).sqrt()
    count = int(first.count)
    return DatasetMeasures(
        **{entry.name: getattr(found, entry.name) for entry in fields(Measures)},
        gradient=first.gradient,
        hessian_gradient=second.product,
        batches=count,
        examples=float(first.weight),
        batch_norm=batch_norm,
        gradient_variance=wide(first.spread / first.weight),
        trace=wide(first.spread / (count - 1)) if count > 1 else undefined,
        batch_sharpness=sharpness,
        batch_hg_norm=own,
        variance_hg_norm=apart,
    )


def _gradient_after(
    source: Batches, params: list[Tensor], first: _FirstPass, step: float | Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradient of the whole set at ``theta - h g``."""
    after = _FirstPass(params, products=False)
    direction = [g.to(p.dtype) for g, p in zip(first.gradient, params, strict=True)]
    with Moved(params, direction) as moved:
        moved.to(-step)
        source.go(after.add)
    after.reduce()
    return after.loss, after.gradient
