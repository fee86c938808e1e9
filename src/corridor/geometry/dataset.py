"""Measure the mean loss over many batches exactly, and the spread of the batches around it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from corridor import _reduce, _tree
from corridor._types import LossClosure, Tensors
from corridor.geometry import _gradient, _inputs
from corridor.geometry._batches import Batches, wide_zeros
from corridor.geometry._guard import Untouched
from corridor.geometry.graph import record
from corridor.geometry.hvp import Engine
from corridor.geometry.measures import Measures, reduced, with_secant
from corridor.geometry.point import Step


@dataclass(frozen=True, kw_only=True)
class DatasetMeasures(Measures):
    """Hold measures of the mean loss over a data set, and the spread of its batches.

    E, g and Hg belong to the whole set, g_b and H_b to batch b. Means are weighted by batch size.

    Attributes:
        gradient: g of the whole set, one tensor per parameter.
        hessian_gradient: Hg of the whole set.
        batches: number m of batches.
        examples: number N of examples.
        batch_norm: the statistics of batch normalization: "batch", "running", "mixed" or "none".
        gradient_variance: ``mean_b ||g_b - g||^2``, [loss^2 / length^2].
        trace: tr(Sigma) of the gradients of single examples, estimated from the variance between
            batches (one-way analysis of variance). It is NaN for one batch.
        batch_sharpness: ``mean_b g_b^T H_b g_b / mean_b ||g_b||^2``, [loss / length^2].
        batch_hg_norm: ``||mean_b H_b g_b||``, which differs from ``||Hg||``.
        variance_hg_norm: ``||mean_b H_b g_b - Hg||``, of the gradient of half the variance.
    """

    gradient: list[Tensor] = field(repr=False)
    hessian_gradient: list[Tensor] = field(repr=False)
    batches: int
    examples: float
    batch_norm: str
    gradient_variance: Tensor
    trace: Tensor
    batch_sharpness: Tensor
    batch_hg_norm: Tensor
    variance_hg_norm: Tensor

    @property
    def noise_scale(self) -> Tensor:
        """Return ``B_n = tr(Sigma) / ||g||^2``, the batch size at which noise equals signal."""
        return self.trace / self.grad_norm / self.grad_norm

    def flow_regularizer(self, step: float) -> Tensor:
        """Return ``(h / 4) ||g||^2``, which full-batch descent of step size h adds to the loss."""
        return 0.25 * step * self.grad_norm * self.grad_norm

    def batch_regularizer(self, step: float) -> Tensor:
        """Return ``(h / 4 m) sum_b ||g_b - g||^2``, which SGD over these batches adds as well."""
        return 0.25 * step * self.gradient_variance

    # The names in corridor 0.1.0.
    flow_regulariser = flow_regularizer
    batch_regulariser = batch_regularizer

    def _names(self) -> tuple[str, ...]:
        own = ("gradient_variance", "noise_scale", "batch_sharpness")
        return (*super()._names(), *own, "batch_hg_norm", "variance_hg_norm")


def measure_dataset(
    model: nn.Module,
    loss_fn: Callable[[Any, Any], Tensor] | None,
    batches: Iterable[Any],
    *,
    f_star: float = 0.0,
    step: Step | None = None,
    batch_products: bool = True,
    check: bool | None = None,
    batch_loss: Callable[[nn.Module, Any], Tensor] | None = None,
    batch_size: Callable[[Any], float] | None = None,
) -> DatasetMeasures:
    """Measure ``sum_b n_b E_b / N``, the mean loss over a data set, at constant memory.

    The first pass computes g, and the second the mean of ``H_b g`` with the full g. The mean of
    ``H_b g_b`` has the gradient of half the gradient variance as well. The result holds both. The
    cost is six gradients of the data set, or four without `batch_products`.

    The model keeps its mode. In training mode batch normalization uses the statistics of each
    batch, and in evaluation mode running statistics. Dropout draws equal masks in both passes. In
    a process group each rank gives its own batches, and all ranks get the result for all batches.

    Args:
        model: the model. It does not change.
        loss_fn: ``loss_fn(model(inputs), targets)``, the mean loss of a batch, or None.
        batches: pairs (inputs, targets) in a list or a DataLoader, on any device.
        f_star: lower bound of the loss (default: 0.0).
        step: as for `corridor.measure` (default: None). It costs one more gradient of the data set.
        batch_products: True computes each ``H_b g_b`` too (default: True). Without them
            `batch_sharpness`, `batch_hg_norm` and `variance_hg_norm` are NaN.
        check: False skips the check of functions that are not torch's (default: None).
        batch_loss: ``batch_loss(model, batch)`` in place of loss_fn, for batches of other forms.
        batch_size: function of a batch that returns its weight (default: length of first tensor).

    Raises:
        ValueError: as for `corridor.measure`, or batches are empty or differ in the second pass.

    Example:
        >>> import torch, corridor
        >>> model = torch.nn.Linear(2, 1)
        >>> x, y = torch.randn(10, 2), torch.randn(10, 1)
        >>> batches = list(zip(x.split(4), y.split(4)))  # 4, 4 and 2
        >>> whole = corridor.measure_dataset(model, torch.nn.functional.mse_loss, batches)
        >>> one = corridor.measure(lambda: torch.nn.functional.mse_loss(model(x), y), model)
        >>> bool(torch.isclose(whole.hg_norm, one.hg_norm, rtol=1e-4))
        True
    """
    _inputs.check_f_star(f_star)
    with Untouched(model, check=check) as guard:
        source = Batches(guard, model, loss_fn, batches, batch_loss, batch_size)
        first = _Sums(source, products=batch_products)
        product = _second_pass(source, first)
        result = _gathered(source, first, product, f_star)
        if step is None:
            return result
        size = step(result) if callable(step) else step
        _inputs.check_step(size)
        with guard.moving(_cast(first.gradient, guard.params), step=True) as to:
            to(-size)
            after = _Sums(source, products=False)
    return with_secant(result, first.gradient, size, after.loss, after.gradient)


class _Sums:
    """Sum the loss, the gradient, its variance and each batch's own product in one pass."""

    def __init__(self, source: Batches, *, products: bool) -> None:
        self.guard, self.products = source.guard, products
        params = source.guard.params
        self.gradient = [wide_zeros(p) for p in params]  # the mean over the batches so far
        self.own = [wide_zeros(p) for p in params] if products else []
        like = self.gradient[0].real
        self.weight, self.loss, self.spread, self.square, self.bend, self.count = (
            torch.zeros((), dtype=like.dtype, device=like.device) for _ in range(6)
        )
        source.go(self.add)
        self._reduce()

    def add(self, closure: LossClosure, size: float) -> Tensor:
        if self.products:
            graph = record(self.guard, closure)
            loss, gradient = graph.loss, graph.gradient
            product = graph.product(gradient, last=True)
            self.bend += size * _tree.whole_dot(product, gradient)
            _add(self.own, product, size)
        else:
            loss, gradient = _gradient.evaluate(self.guard, closure)
        _inputs.check_finite(loss)
        self.count += 1
        self.loss += size * loss.to(self.loss)  # a product in 16 bits may overflow
        self.square += size * _tree.whole_squared_norm(gradient)
        self.weight += size
        # Welford's update avoids the difference of two large sums.
        shift = _gradient.minus(gradient, self.gradient)
        share = size / self.weight
        self.spread += size * (1.0 - share) * _tree.whole_squared_norm(shift)
        for mean, s in zip(self.gradient, shift, strict=True):
            mean.add_(share * s)
        return loss

    def _reduce(self) -> None:
        """Combine the batches of all ranks, in one reduction."""
        mean, weight = [g.clone() for g in self.gradient], self.weight.clone()
        for g in self.gradient:
            g.mul_(weight)  # ranks may have different numbers of examples
        _reduce.sum_over_ranks([self.weight, self.loss, *map(_tree.as_real, self.gradient)])
        for total in (self.loss, *self.gradient):
            total.div_(self.weight)
        between_ranks = _gradient.minus(mean, self.gradient)
        self.spread += weight * _tree.whole_squared_norm(between_ranks)


def _second_pass(source: Batches, first: _Sums) -> list[Tensor]:
    """Return the mean of ``H_b g`` with the full g, and combine the other sums of all ranks."""
    params = source.guard.params
    vector, product = _cast(first.gradient, params), [wide_zeros(p) for p in params]

    def add(closure: LossClosure, size: float) -> Tensor:
        graph = record(source.guard, closure)
        _add(product, graph.product(vector, last=True), size)
        return graph.loss

    source.go(add)
    source.check_same()
    vectors = [*product, *first.own]
    sums = [first.spread, first.square, first.bend, first.count]
    _reduce.sum_over_ranks([*sums, *map(_tree.as_real, vectors)])
    for total in vectors:
        total.div_(first.weight)
    return product


def _add(totals: list[Tensor], terms: list[Tensor], weight: float) -> None:
    for total, term in zip(totals, terms, strict=True):
        total.add_(term, alpha=weight)


def _cast(tensors: list[Tensor], params: Tensors) -> list[Tensor]:
    return [t.to(p.dtype) for t, p in zip(tensors, params, strict=True)]


def _gathered(
    source: Batches, first: _Sums, product: list[Tensor], f_star: float
) -> DatasetMeasures:
    numbers = reduced(first.loss, first.gradient, product)
    own = apart = sharpness = undefined = torch.full_like(numbers["loss"], math.nan)
    if first.products:
        sharpness = first.bend / first.square
        own = _tree.whole_squared_norm(first.own).sqrt()
        apart = _tree.whole_squared_norm(_gradient.minus(first.own, product)).sqrt()
    count = int(first.count)
    return DatasetMeasures(
        **numbers,
        f_star=f_star,
        engine=Engine("double_backward", "exact: the sum of each batch's product with the full g"),
        gradient=source.guard.whole(first.gradient),
        hessian_gradient=source.guard.whole(product),
        batches=count,
        examples=float(first.weight),
        batch_norm=source.batch_norm(),
        gradient_variance=first.spread / first.weight,
        trace=first.spread / (count - 1) if count > 1 else undefined,
        batch_sharpness=sharpness,
        batch_hg_norm=own,
        variance_hg_norm=apart,
    )
