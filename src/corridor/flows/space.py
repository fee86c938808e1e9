"""Evaluate losses, also of networks, on flat vectors, and check the arguments of flows."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from corridor._tree import scalar_loss
from corridor.geometry.graph import Graph

Point: TypeAlias = Tensor | Sequence[Tensor]
Loss: TypeAlias = Callable[[Any], Tensor]


def flatten(point: Point) -> Tensor:
    """Return all entries of a point as one vector."""
    tensors = [point] if isinstance(point, Tensor) else point
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


@contextmanager
def recorded(flat: Tensor) -> Iterator[Tensor]:
    """Yield a copy of a vector with a graph, also under ``no_grad`` and ``inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield flat.detach().clone().requires_grad_()


def tensors_of(point: Point, name: str = "start") -> list[Tensor]:
    """Return the tensors of a point, or raise a ValueError unless a flow can begin with them."""
    tensors = [point] if isinstance(point, Tensor) else list(point)
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise ValueError(f"{name} must be a tensor or a non-empty list of tensors, got {point}")
    kinds = {(tensor.dtype, tensor.device) for tensor in tensors}
    if len(kinds) > 1 or not tensors[0].is_floating_point():
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise ValueError(f"{name} must have one floating dtype and device, got {found}; cast it")
    if not all(torch.isfinite(tensor).all() for tensor in tensors):
        raise ValueError(f"{name} must be finite, got inf or NaN; choose another {name}")
    return [tensor.detach() for tensor in tensors]


class FlatLoss:
    """Evaluate a loss and its derivatives on flat vectors of a start, and count the gradients."""

    def __init__(self, loss: Loss, start: Point) -> None:
        self.loss, self.single = loss, isinstance(start, Tensor)
        tensors = tensors_of(start)
        self.shapes, self.start = [tensor.shape for tensor in tensors], flatten(tensors)
        self.gradients = 0  # a product with the Hessian counts as two
        self.domain: Any = getattr(loss, "domain", None)

    def unpack(self, flat: Tensor) -> Any:
        """Return the point of a flat vector, in the shape of the start."""
        if self.single:
            return flat.reshape(self.shapes[0])
        pieces = flat.split([shape.numel() for shape in self.shapes])
        return [p.reshape(shape) for p, shape in zip(pieces, self.shapes, strict=True)]

    def value(self, flat: Tensor) -> Tensor:
        """Return the loss at a flat vector as a 0-dim tensor."""
        return scalar_loss(self.loss(self.unpack(flat)))

    def number(self, flat: Tensor) -> float:
        """Return the loss at a flat vector as a float."""
        with torch.no_grad():
            return float(self.value(flat))

    def slope(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the gradient at a flat vector, both detached."""
        self.gradients += 1
        with recorded(flat) as x:
            value = self.value(x)
            (g,) = torch.autograd.grad(value, x, materialize_grads=True)
        return value.detach(), g

    def gradient(self, flat: Tensor) -> Tensor:
        """Return the gradient at a flat vector."""
        return self.slope(flat)[1]

    def product(self, flat: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the gradient at a flat vector and the function ``v -> H v`` there."""
        self.gradients += 1
        with recorded(flat) as x:
            graph = Graph(self.value(x), [x])

        def times(v: Tensor) -> Tensor:
            self.gradients += 2
            with recorded(v) as direction:
                return graph.product([direction.detach()])[0]

        return graph.gradient[0], times

    def hessian(self, flat: Tensor) -> Tensor:
        """Return the Hessian at a flat vector, [n, n]."""
        return torch.stack([*map(self.product(flat)[1], torch.eye(len(flat)).to(flat))])

    def margin(self, flat: Tensor) -> float | None:
        """Return the radius of a ball without kinks or edges, None for a loss without a domain."""
        if self.domain is None:
            return None
        room = float(self.domain.margin(self.unpack(flat)))
        return room if getattr(self.domain, "exact", True) else room / 2.0


def starting_at(loss: Loss, start: Point) -> FlatLoss:
    """Return a loss on flat vectors, or raise a ValueError if no flow can begin at the start."""
    flat_loss = FlatLoss(loss, start)
    x = flat_loss.start
    room = flat_loss.margin(x)
    if room is not None and not room > 0.0:
        need = f"start must be inside the loss's domain and off its kinks, got margin {room:g}"
        raise ValueError(f"{need}; choose a start in the domain {flat_loss.domain.words}")
    value, g = flat_loss.slope(x)
    if not (torch.isfinite(value) and torch.isfinite(g).all()):
        got = f"got loss {float(value):g} and ||g|| {float(g.norm()):g}"
        advice = "choose a start inside the domain and off kinks"
        raise ValueError(f"loss and gradient must be finite at start, {got}; {advice}")
    # The path pays only for its own gradients.
    flat_loss.gradients = 0
    return flat_loss


def number(name: str, value: float | Tensor, kind: str = "finite") -> float:
    """Return an argument as a float, or raise a ValueError unless it is "finite" or "positive"."""
    found = math.nan
    with suppress(TypeError, ValueError, RuntimeError):
        found = float(value)
    if not math.isfinite(found) or (kind == "positive" and found <= 0.0):
        raise ValueError(f"{name} must be a {kind} number, got {value}; pass a {kind} one")
    return found


def whole_number(name: str, value: int, minimum: int = 1) -> int:
    """Return the value of an argument, or raise a ValueError unless it is a large enough int."""
    if not isinstance(value, int) or value < minimum:
        need = f"{name} must be a whole number of at least {minimum}"
        raise ValueError(f"{need}, got {value!r}; change it")
    return value


def momentum_factor(momentum: float) -> float:
    """Return a momentum factor, or raise a ValueError unless it is in [0, 1)."""
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}; try 0.9")
    return momentum


@torch.inference_mode(False)
def network_loss(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    *,
    dtype: torch.dtype = torch.float64,
) -> tuple[Loss, list[Tensor]]:
    """Return a network's loss as a function of its parameters, and the current parameters.

    The function works on copies and keeps the model's mode (train or eval). Batch norm in train
    mode does not update its averages. Dropout in train mode is random and has no flow.

    Args:
        model: network with a parameter that requires a gradient.
        loss_fn: function of outputs and targets that returns a scalar tensor.
        inputs: inputs of the network.
        targets: targets of the loss. Floating-point targets are converted to `dtype`.
        dtype: dtype of all copies (default: float64). Flows with tight tolerances need float64.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> x, y = torch.randn(8, 2), torch.randn(8, 1)
        >>> loss, start = network_loss(model, torch.nn.functional.mse_loss, x, y)
        >>> [tuple(tensor.shape) for tensor in start], loss(start).dtype
        ([(1, 2), (1,)], torch.float64)
    """

    def copy(tensor: Tensor) -> Tensor:
        copied = tensor.detach().clone()
        return copied.to(dtype) if copied.is_floating_point() else copied

    copies = {name: copy(p) for name, p in model.named_parameters()}
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    if not names:
        need = "model must have a parameter that requires a gradient"
        raise ValueError(f"{need}, got none; unfreeze a parameter")
    buffers = {name: copy(b) for name, b in model.named_buffers()}
    # The caller may overwrite the batch later, and the flow must not change with it.
    inputs, targets = copy(inputs), copy(targets)

    def loss(point: list[Tensor]) -> Tensor:
        # Batch norm writes into its buffers, so each evaluation gets new ones.
        fresh = {name: b.clone() for name, b in buffers.items()}
        state = {**copies, **fresh, **dict(zip(names, point, strict=True))}
        return loss_fn(torch.func.functional_call(model, state, (inputs,)), targets)

    return loss, [copies[name] for name in names]
