"""The Hessian's largest eigenvalue, by Lanczos iterations that go on from where the last ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from corridor import _tree
from corridor._types import Params, Tensors
from corridor.geometry import _gradient, _inputs
from corridor.geometry._guard import Closure, Untouched
from corridor.geometry._tape import Tape

DENSE = 8  # up to this many parameters the whole Hessian is cheaper than ARPACK
COLD, WARM = 12, 6  # products of a sweep, from the gradient and from an earlier eigenvector


@dataclass(frozen=True)
class Sharpness:
    """The largest eigenvalue of the Hessian at a point, and how well it is known.

    Attributes:
        value: lambda_max, in [loss / length^2].
        residual: ``||H u - lambda u|| / |lambda|`` with the eigenvector u of length one; some
            eigenvalue lies within this of lambda, relatively.
        products: Hessian-vector products used, each about two gradients.
        converged: whether the residual met the tolerance.
        vector: u, shaped like the parameters.
    """

    value: float
    residual: float
    products: int
    converged: bool
    vector: list[Tensor]

    def stability_gap(self, step: float) -> float:
        """``h lambda_max - 2``: below 0 gradient descent with step h is stable on a quadratic."""
        return step * self.value - 2.0

    @property
    def corridor_horizon(self) -> float:
        """``1 / lambda_max``: the flow time at which a corridor through here must end; else inf.

        In a corridor ``dH/dt = H^2`` along the flow, which blows up then (Riccati).
        """
        return 1.0 / self.value if self.value > 0.0 else math.inf


def sharpness(
    closure: Closure,
    params: Params | nn.Module,
    *,
    start: Tensors | None = None,
    tolerance: float = 1e-2,
    max_products: int = 200,
    across_ranks: bool = False,
    allow_nonfinite: bool = False,
) -> Sharpness:
    """The largest eigenvalue of the Hessian, by ARPACK's restarted Lanczos iteration.

    It begins with `start`, such as the eigenvector found some steps before, else with the gradient
    (which lies in the space of the large eigenvalues late in training) and a little noise.

    Args:
        closure: computes the scalar loss, forward only.
        params: as for `corridor.geometry.jet`; sharded ones are not served.
        start: shaped like the parameters.
        tolerance: on the residual, relative; the error of the eigenvalue is about its square.
        max_products: give up after so many, with what is known then.
        across_ranks: the loss is the mean over the ranks of the default process group; every rank
            calls this with a batch of its own, on equal hardware.
        allow_nonfinite: give NaN for a loss that is not finite instead of raising.

    Raises:
        ValueError: as `corridor.geometry.jet`; an operation cannot be differentiated twice; or
            scipy is missing.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.ones(3))
        >>> found = sharpness(lambda: (torch.tensor([1.0, 2.0, 7.0]) * x**2).sum() / 2, [x])
        >>> round(found.value, 4), round(found.stability_gap(0.1), 4)
        (7.0, -1.3)

    Reference:
        Lehoucq, Sorensen and Yang (1998), "ARPACK Users' Guide"; Cohen et al. (2021), "Gradient
        Descent on Neural Networks Typically Occurs at the Edge of Stability".
    """
    found = _inputs.parameters(params)
    if not 0.0 < tolerance < 1.0:
        raise ValueError(f"tolerance must be between 0 and 1, got {tolerance}")
    with Untouched(found, across_ranks=across_ranks) as guard:
        try:
            tape = Tape(guard, closure)
            if across_ranks:
                tape.loss, tape.gradient = tape.loss.clone(), [g.clone() for g in tape.gradient]
                _gradient.average([tape.loss, *tape.gradient])
            if not allow_nonfinite:
                _inputs.check_finite(tape.loss)
            return _largest(_Operator(tape, across_ranks), start, tolerance, max_products)
        except RuntimeError as error:
            if guard.closure_failed:
                raise
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"no Hessian products here ({reason})") from error


class _Operator:
    """The Hessian over the flat vector of all live parameters, as ARPACK sees it: in float64."""

    def __init__(self, tape: Tape, across_ranks: bool) -> None:
        self.tape, self.across_ranks, self.products = tape, across_ranks, 0
        self.live = [p for p in tape.params if p.requires_grad]
        self.size = sum(_tree.as_real(p.detach()).numel() for p in self.live)

    def __call__(self, vector: Any) -> Any:
        self.products += 1
        product = self.tape.product(self.shaped(vector))
        if self.across_ranks:
            _gradient.average(product)
        return self.flat(product)

    def flat(self, tensors: Tensors) -> Any:
        pairs = zip(tensors, self.tape.params, strict=True)
        parts = [_tree.as_real(t).reshape(-1) for t, p in pairs if p.requires_grad]
        return torch.cat([part.double().cpu() for part in parts]).numpy()

    def shaped(self, vector: Any) -> list[Tensor]:
        rest = torch.from_numpy(vector).reshape(-1)
        found = []
        for p in self.tape.params:
            if not p.requires_grad:
                found.append(torch.zeros_like(p))
                continue
            real = _tree.as_real(p.detach())
            part, rest = rest[: real.numel()], rest[real.numel() :]
            part = part.reshape(real.shape).to(real)
            found.append(torch.view_as_complex(part.contiguous()) if p.is_complex() else part)
        return found


def _largest(
    operator: _Operator, start: Tensors | None, tolerance: float, max_products: int
) -> Sharpness:
    if operator.size <= DENSE:
        vector = _top_of_dense(operator)
        return _judged(operator, vector, tolerance)
    vector = _first(operator, start)
    if vector is None:
        nothing = [torch.zeros_like(p, requires_grad=False) for p in operator.tape.params]
        return Sharpness(math.nan, math.nan, 0, False, nothing)
    width = WARM if start is not None else COLD
    while True:
        vector = _lanczos(operator, vector, min(width, operator.size - 1))
        found = _judged(operator, vector, tolerance)
        if found.converged or operator.products + width >= max_products:
            return found
        width = COLD


def _first(operator: _Operator, start: Tensors | None) -> Any:
    """Where to begin: what is given, else the gradient; noise reaches what is orthogonal to it."""
    vector = operator.flat(operator.tape.gradient if start is None else start)
    norm = float((vector @ vector) ** 0.5)
    if not math.isfinite(norm):
        return None
    noise = torch.randn(operator.size, generator=torch.Generator().manual_seed(0)).double().numpy()
    noise /= float((noise @ noise) ** 0.5)
    return vector / norm + 0.01 * noise if norm else noise


def _lanczos(operator: _Operator, start: Any, width: int) -> Any:
    """The best vector in a Krylov space of `width` dimensions: one sweep of ARPACK."""
    try:
        from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
    except ModuleNotFoundError:
        raise ValueError(
            "lambda_max needs scipy's ARPACK; pip install 'corridor[geometry]'"
        ) from None
    matrix: Any = LinearOperator((operator.size,) * 2, matvec=operator, dtype="float64")  # pyright: ignore
    try:
        _, vectors = eigsh(matrix, k=1, which="LA", v0=start, ncv=width, tol=1e6)  # pyright: ignore
    except ArpackError:  # the start is in the kernel, as all is where the loss is linear
        return start / float((start @ start) ** 0.5)
    return vectors[:, 0]


def _top_of_dense(operator: _Operator) -> Any:
    columns = [operator(unit.numpy()) for unit in torch.eye(operator.size, dtype=torch.float64)]
    hessian = torch.stack([torch.from_numpy(c) for c in columns])
    return torch.linalg.eigh((hessian + hessian.T) / 2.0)[1][:, -1].numpy()


def _judged(operator: _Operator, vector: Any, tolerance: float) -> Sharpness:
    """Rayleigh quotient and residual of a unit vector, for one product more."""
    image = operator(vector)
    value = float(vector @ image)
    rest = image - value * vector
    residual = float((rest @ rest) ** 0.5) / max(abs(value), 1e-300)
    residual = 0.0 if value == 0.0 and not rest.any() else residual
    shaped = operator.shaped(vector)
    return Sharpness(value, residual, operator.products, residual <= tolerance, shaped)
