"""Points of one tensor or of a list of tensors as flat vectors, and a loss on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

Point: TypeAlias = Tensor | Sequence[Tensor]
Loss: TypeAlias = Callable[[Any], Tensor]


class Space:
    """How a point lies in a flat vector, and back.

    Args:
        start: a tensor, or a non-empty list of tensors of one floating dtype on one device.

    Raises:
        ValueError: it is neither, or holds numbers that are not finite.
    """

    def __init__(self, start: Point) -> None:
        self.single = isinstance(start, Tensor)
        tensors = [start] if isinstance(start, Tensor) else list(start)
        if not tensors or not all(isinstance(t, Tensor) for t in tensors):
            raise ValueError("start must be a tensor or a non-empty list of tensors")
        kinds = {(t.dtype, t.device) for t in tensors}
        if len(kinds) > 1 or not tensors[0].is_floating_point():
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise ValueError(f"start must have one floating dtype on one device, got {found}")
        self.shapes = [t.shape for t in tensors]
        self.sizes = [t.numel() for t in tensors]
        self.start = torch.cat([t.detach().reshape(-1) for t in tensors])
        if not torch.isfinite(self.start).all():
            raise ValueError("start must be finite, got inf or NaN")

    def unpack(self, flat: Tensor) -> Any:
        """The point that a flat vector stands for, in the shape that start had."""
        if self.single:
            return flat.reshape(self.shapes[0])
        pieces = flat.split(self.sizes)
        return [p.reshape(shape) for p, shape in zip(pieces, self.shapes, strict=True)]

    def stack(self, flats: Sequence[Tensor]) -> Any:
        """Points one after another: a tensor with time first, or a list of lists of tensors."""
        if self.single:
            return torch.stack([self.unpack(flat) for flat in flats])
        return [self.unpack(flat) for flat in flats]


class FlatLoss:
    """A loss on flat vectors that counts the gradients taken of it.

    Args:
        loss: of the point, a scalar.
        space: where its points live.
    """

    def __init__(self, loss: Loss, space: Space) -> None:
        self.loss, self.space = loss, space
        self.gradients = 0
        domain = getattr(loss, "domain", None)
        self._margin = getattr(domain, "margin", None)
        self.words = getattr(domain, "words", "the loss's domain")

    def value(self, flat: Tensor) -> Tensor:
        """The loss at a flat vector, 0-dim.

        Raises:
            ValueError: the loss is no scalar.
        """
        value = self.loss(self.space.unpack(flat))
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the loss must be a scalar tensor, got {got}")
        return value.reshape(())

    def number(self, flat: Tensor) -> float:
        """The loss as a number, without a graph."""
        with torch.no_grad():
            return float(self.value(flat))

    def slope(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient at a flat vector."""
        self.gradients += 1
        with torch.enable_grad():
            x = flat.detach().requires_grad_()
            value = self.value(x)
            (g,) = torch.autograd.grad(value, x, materialize_grads=True)
        return value.detach(), g

    def gradient(self, flat: Tensor) -> Tensor:
        """The gradient at a flat vector."""
        return self.slope(flat)[1]

    def product(self, flat: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Gradient at a flat vector, and the function v -> Hv there.

        A product counts as two gradients, which it costs.
        """
        self.gradients += 1
        with torch.enable_grad():
            x = flat.detach().requires_grad_()
            (g,) = torch.autograd.grad(self.value(x), x, create_graph=True, materialize_grads=True)

        def times(v: Tensor) -> Tensor:
            self.gradients += 2
            if not g.requires_grad:
                return torch.zeros_like(v)
            (Hv,) = torch.autograd.grad(g, x, v, retain_graph=True, materialize_grads=True)
            return Hv

        return g.detach(), times

    def margin(self, flat: Tensor) -> float | None:
        """Room to the nearest kink or edge, where the loss knows its domain."""
        if self._margin is None:
            return None
        return float(self._margin(self.space.unpack(flat)))

    def check_start(self) -> Tensor:
        """The start, if a flow can begin there.

        Raises:
            ValueError: it lies outside the domain or on a kink, or the loss is not finite there.
        """
        start = self.space.start
        room = self.margin(start)
        if room is not None and not room > 0.0:
            raise ValueError(
                f"start lies outside the domain or on a kink; the domain is {self.words}"
            )
        value, g = self.slope(start)
        if not (torch.isfinite(value) and torch.isfinite(g).all()):
            raise ValueError(
                f"loss and gradient must be finite at the start, got loss {float(value):g} and "
                f"||g|| {float(g.norm()):g}; is it a kink, or outside the domain?"
            )
        self.gradients = 0
        return start


def starting_at(loss: Loss, start: Point) -> FlatLoss:
    """The loss on flat vectors about a start that a flow can begin at.

    Raises:
        ValueError: there is no beginning at this start.
    """
    found = FlatLoss(loss, Space(start))
    found.check_start()
    return found


def positive(name: str, value: float, *, zero: bool = False) -> float:
    """A finite positive number.

    Raises:
        ValueError: it is none.
    """
    good = value >= 0.0 if zero else value > 0.0
    if not good or value == float("inf"):
        raise ValueError(
            f"{name} must be a {'non-negative' if zero else 'positive'} number, got {value}"
        )
    return float(value)


def count(name: str, value: int, least: int = 1) -> int:
    """A whole number of at least so much.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return value
