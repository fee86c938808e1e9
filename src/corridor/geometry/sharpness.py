"""Compute the largest eigenvalue of the Hessian by Lanczos' method, with an upper bound."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from corridor import _tree
from corridor._types import LossClosure, Params, Tensors
from corridor.geometry import _inputs
from corridor.geometry._guard import Untouched
from corridor.geometry.graph import Graph, record
from corridor.geometry.lanczos import lanczos, spaces, upper_bound

ROOM = 1 << 28  # entries of a Krylov basis on the CPU, 2 GB
SWEEP = 12  # products per sweep where the memory holds no more
CHANCE = 1e-3  # of an eigenvalue above the bound


@dataclass(frozen=True)
class Sharpness:
    """Hold the largest eigenvalue of the Hessian at a point, and its accuracy.

    Attributes:
        value: lambda_max, in [loss / length^2].
        residual: ``||H u - lambda u|| / |lambda|``, a bound of the relative distance from lambda to
            an eigenvalue of H.
        products: number of Hessian-vector products used. Each costs about two gradients.
        converged: True if residual and distance to `bound` are within the tolerance. Otherwise the
            value is only a lower bound of the largest eigenvalue.
        vector: the unit eigenvector u, one tensor per parameter.
        bound: no eigenvalue is larger, with a probability of 0.999 over the random start. It is inf
            if nothing is known.
    """

    value: float
    residual: float
    products: int
    converged: bool
    vector: list[Tensor]
    bound: float = math.inf

    def stability_gap(self, step: float) -> float:
        """Return ``h lambda_max - 2``. Below 0, descent with step h is stable on a quadratic."""
        return step * self.value - 2.0

    @property
    def corridor_horizon(self) -> float:
        """Return ``1 / lambda_max``, the flow time at which a corridor must end, or inf.

        In a corridor ``dH/dt = H^2`` along the flow, so H is infinite at that time (Riccati).
        """
        return 1.0 / self.value if self.value > 0.0 else math.inf


def sharpness(
    closure: LossClosure,
    params: Params | nn.Module,
    *,
    start: Tensors | None = None,
    tolerance: float = 1e-2,
    max_products: int = 200,
    check: bool | None = None,
    across_ranks: bool = False,
    allow_nonfinite: bool = False,
) -> Sharpness:
    """Compute the largest eigenvalue of the Hessian by Lanczos' method.

    The first vector is `start` plus noise of equal length. The noise has a part in every direction,
    so that a larger eigenvalue elsewhere is found, with a probability of 0.999.

    Args:
        closure: computes the scalar loss, forward only.
        params: a list, parameter groups, named pairs or a module, without sharded parameters.
        start: first vector, one tensor per parameter, for example an earlier eigenvector. Late in
            training the gradient lies close to the vectors of large eigenvalues (default).
        tolerance: on the relative residual and on the relative distance to `bound`, in (0, 1)
            (default: 0.01). The error of the eigenvalue is usually far smaller.
        max_products: maximum number of Hessian-vector products, at least 2 (default: 200). Networks
            need 20 to 50, and nearly equal eigenvalues more.
        check: False skips the check of functions that are not torch's (default: None).
        across_ranks: True averages over all ranks, each with its own batch, on equal hardware
            (default: False).
        allow_nonfinite: True returns NaN for a loss that is not finite (default: False, raise).

    Raises:
        ValueError: as for `corridor.geometry.jet`, or an operation cannot be differentiated twice.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.ones(3))
        >>> found = sharpness(lambda: (torch.tensor([1.0, 2.0, 7.0]) * x**2).sum() / 2, [x])
        >>> round(found.value, 4), round(found.stability_gap(0.1), 4)
        (7.0, -1.3)
    """
    if not 0.0 < tolerance < 1.0:
        raise ValueError(f"tolerance must be between 0 and 1, got {tolerance}; give a small share")
    with Untouched(params, across_ranks=across_ranks, check=check) as guard:
        if start is not None:
            start = [v for v, p in zip(start, guard.given, strict=True) if p.requires_grad]
        try:
            graph = record(guard, closure)
            if not allow_nonfinite:
                _inputs.check_finite(graph.loss)
            found = _largest(_Operator(graph), start or graph.gradient, tolerance, max_products)
            return replace(found, vector=guard.whole(found.vector))
        except RuntimeError as error:
            if guard.closure_failed:
                raise
            raise ValueError(
                f"the loss has no products with its Hessian ({_inputs.one_line(error)}); "
                "remove the operation that cannot be differentiated twice"
            ) from error


class _Operator:
    """Multiply flat float64 vectors by the Hessian, on the CPU, which has memory for a basis."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.products = graph, 0

    def __call__(self, vector: Tensor) -> Tensor:
        self.products += 1
        return self.flat(self.graph.product(self.shaped(vector)))

    def flat(self, tensors: Tensors) -> Tensor:
        return torch.cat([_tree.as_real(t).reshape(-1).cpu().double() for t in tensors])

    def shaped(self, vector: Tensor) -> list[Tensor]:
        found = [torch.zeros_like(g) for g in self.graph.gradient]
        views = [_tree.as_real(t) for t in found]
        parts = vector.split([view.numel() for view in views])
        for view, part in zip(views, parts, strict=True):
            view.copy_(part.view(view.shape))
        return found


def _largest(operator: _Operator, start: Tensors, tolerance: float, max_products: int) -> Sharpness:
    vector = operator.flat(start)
    size = float(vector.norm())
    if not math.isfinite(size):
        nothing = operator.shaped(torch.zeros_like(vector))
        return Sharpness(math.nan, math.nan, 0, False, nothing, math.nan)
    generator = torch.Generator("cpu").manual_seed(0)
    mixed, part = _with_noise(vector / size if size else vector, generator)
    room = max(SWEEP, ROOM // len(vector))
    bound = math.inf
    for V, T, lengths in spaces(operator, mixed, max(1, min(room, max_products - 1))):
        values, vectors = torch.linalg.eigh(T)
        bound = min(bound, upper_bound(T, lengths, part))
        vector, value = V @ vectors[:, -1], float(values[-1])
        residual = float(lengths[-1] * vectors[-1, -1].abs())
        if max(residual, bound - value) <= 0.5 * tolerance * abs(value):
            break
    found = _rated(operator, vector, tolerance, bound)
    while found.residual > tolerance and operator.products + SWEEP < max_products:
        V, T = lanczos(operator, vector, SWEEP)  # the memory is full: start again from the best
        vector = V @ torch.linalg.eigh(T)[1][:, -1]
        found = _rated(operator, vector, tolerance, bound)
    rest = max_products - operator.products
    if not found.converged and rest > 0:
        mixed, part = _with_noise(vector, generator)
        for _, T, lengths in spaces(operator, mixed, rest, held=3):
            bound = min(bound, upper_bound(T, lengths, part))
            near = bound - found.value <= tolerance * abs(found.value)
            found = replace(found, products=operator.products, bound=bound)
            if near:
                return replace(found, converged=found.residual <= tolerance)
    return found


def _with_noise(vector: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """Return a vector plus noise of length 1, and a bound of their part along any direction.

    A normal number of variance 1 / n that is added to any number is within d of 0 with a
    probability of at most ``d sqrt(2 n / pi)``. This must be `CHANCE`.
    """
    n = len(vector)
    noise = torch.randn(n, generator=generator, dtype=torch.float64, device="cpu")
    total = vector + noise / math.sqrt(n)
    return total, CHANCE * math.sqrt(0.5 * math.pi / n) / float(total.norm())


def _rated(operator: _Operator, vector: Tensor, tolerance: float, bound: float) -> Sharpness:
    """Return the Rayleigh quotient of a vector and its residual, from one more product."""
    vector = vector / vector.norm()  # a basis is orthonormal only up to rounding
    image = operator(vector)
    value = float(vector @ image)
    size = float((image - value * vector).norm())
    residual = size / max(abs(value), 1e-300) if size else 0.0  # a linear loss has value 0
    converged = max(size, bound - value) <= tolerance * abs(value)
    shaped = operator.shaped(vector)
    return Sharpness(value, residual, operator.products, converged, shaped, max(bound, value))
