"""Define a loss with known geometry: value, infimum, smooth domain and verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from corridor import _tree
from corridor.proofs import Verdict
from corridor.proofs.expression import evaluate, parse

_parsed = cache(parse)


def everywhere(x: Tensor) -> Tensor:
    """Return the margin of a surface that is smooth on all of R^n."""
    return torch.full(x.shape[:-1], torch.inf, dtype=x.dtype, device=x.device)


@dataclass(frozen=True)
class Domain:
    """Describe the open set on which a surface is smooth: without kinks and edges.

    Attributes:
        words: description of the set for people.
        margin: function from points [..., n] to [...], the radius of a ball without kinks and
            edges. It is 0 on a kink, negative where the loss is undefined, and 1-Lipschitz.
        exact: False if the margin is an estimate that can be too large. Default: True. Paths
            halve an estimate, and discrete paths renew it 16 or more times per step.
    """

    words: str = "all of R^n"
    margin: Callable[[Tensor], Tensor] = everywhere
    exact: bool = True

    def __post_init__(self) -> None:
        margin = self.margin
        # One number is a point of dimension one, as for the surface itself.
        object.__setattr__(self, "margin", lambda x: margin(x if x.dim() else x.reshape(1)))

    def __contains__(self, x: Tensor) -> bool:
        return bool((self.margin(x) > 0.0).all())


class Surface:
    """Define a loss on R^n with known geometry, in differentiable torch, of any batch shape.

    A subclass defines `value` or `expression`, and sets the attributes that have other values.

    Attributes:
        f_star: infimum of the loss, or a lower bound of it; -inf if unbounded. Default: 0.
        verdict: corridor, weak corridor or neither, on `domain`.
        speed: constant ``||g||`` of a corridor, or None if it differs between pieces.
        domain: where the loss is smooth. Default: all of R^n.
        dimension: n, or None for a loss of any dimension.
        point_dims: number of tensor dimensions of one point: 1, or 2 for losses of matrices.
        rows: number of rows of a matrix of n columns, None for losses of vectors.
        expression: the loss as text in x, y, ... for `corridor.prove`, or None.
    """

    f_star: float = 0.0
    verdict: Verdict = Verdict.NEITHER
    speed: float | None = None
    domain: Domain = Domain()
    dimension: int | None = None
    point_dims: int = 1
    rows: int | None = None
    expression: str | None = None

    def value(self, x: Tensor) -> Tensor:
        """Return the loss of points [..., n], shape [...], without checks: the `expression`."""
        if self.expression is None:
            raise NotImplementedError(f"{type(self).__name__} must define value or expression")
        values = dict(zip(variable_names(x.shape[-1]), x.unbind(-1), strict=True))
        return evaluate(_parsed(self.expression), values, x[..., 0])

    @property
    def steepest(self) -> float:
        """Return an upper bound of ``||g||``, inf if none is known."""
        return torch.inf if self.speed is None else self.speed

    @property
    def is_corridor(self) -> bool:
        """Return True if ``Hg = 0`` on the whole domain."""
        return self.verdict is Verdict.CORRIDOR

    def __call__(self, x: Tensor) -> Tensor:
        """Return the loss of points [..., n], or raise a ValueError for other shapes and dtypes."""
        name = f"points of {type(self).__name__} must"
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = f"dtype {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{name} be a tensor of floating dtype, got {got}")
        if x.dim() == 0 and self.dimension in (None, 1) and self.point_dims == 1:
            x = x.reshape(1)
        form = "[..., n]" if self.point_dims == 1 else "[..., m, k]"
        fits = x.dim() >= self.point_dims
        if fits and self.rows is not None:
            form = f"{self.rows} x {self.dimension} matrices"
            fits = x.shape[-2:] == (self.rows, self.dimension)
        if not fits:
            raise ValueError(f"{name} be {form}, got shape {tuple(x.shape)}")
        if self.dimension not in (None, x.shape[-1]):
            raise ValueError(f"{name} have dimension {self.dimension}, got {x.shape[-1]}")
        return self.value(x)

    def sample(
        self, count: int, *, dimension: int | None = None, spread: float = 2.0, seed: int = 0
    ) -> Tensor:
        """Return random points of the domain, float64 [count, n], normal about the origin.

        Args:
            count: number of points.
            dimension: n, for a surface of any dimension. Default: 2.
            spread: standard deviation, positive. All margins exceed 1% of it. Default: 2.
            seed: of the random numbers. Default: 0.
        """
        n = self.dimension or dimension or 2
        shape = (4 * count, n) if self.rows is None else (4 * count, self.rows, n)
        generator, kept = _tree.seeded(seed), torch.empty(0, *shape[1:], dtype=torch.float64)
        for _ in range(50):  # a domain too thin to be met must end in an error
            x = torch.randn(shape, generator=generator, dtype=torch.float64) * spread
            kept = torch.cat([kept, x[self.domain.margin(x) > 0.01 * spread]])
            if len(kept) >= count:
                return kept[:count]
        raise ValueError(f"too few random points lie in the domain of {type(self).__name__}")


def judge(crooked: float, bent: float, eps: float) -> Verdict:
    """Return the verdict on the largest ``||Hg||`` and ``||(Hg)_perp||``, as numbers of scale 1."""
    # Rounding alone stays below eps^0.6, and a clear bend exceeds eps^0.25.
    low, high = eps**0.6, eps**0.25
    if crooked < low:
        return Verdict.CORRIDOR
    if not crooked >= high:
        return Verdict.UNDECIDED
    return Verdict.WEAK if bent < low else Verdict.NEITHER


def vector(values: object, name: str) -> Tensor:
    """Return numbers as a float64 vector, or raise ValueError unless all are finite."""
    out = torch.as_tensor(values, dtype=torch.float64)
    if out.dim() != 1 or not torch.isfinite(out).all():
        raise ValueError(f"{name} must be a vector of finite numbers, got {values!r}")
    return out


def one_each(values: Tensor, x: Tensor, name: str) -> Tensor:
    """Return a function's values [...] at points [..., n], or raise ValueError for other shapes."""
    if values.shape != x.shape[:-1]:
        need = f"{name} must map points {list(x.shape)} to numbers {list(x.shape[:-1])}"
        raise ValueError(f"{need}, got {list(values.shape)}; return one number per point")
    return values


def positive(value: float, name: str) -> float:
    """Return a positive number, or raise ValueError."""
    if not value > 0.0:
        raise ValueError(f"{name} must be positive, got {value}")
    return value


def nonzero(value: float, name: str) -> float:
    """Return a number other than 0, or raise ValueError."""
    if not value:
        raise ValueError(f"{name} must not be 0, which makes the loss flat")
    return value


def variable_names(dimension: int) -> list[str]:
    """Return x, y, z for up to three variables, otherwise x1, x2, ..."""
    return list("xyz"[:dimension]) if dimension <= 3 else [f"x{i + 1}" for i in range(dimension)]
