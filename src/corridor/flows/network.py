"""A network's loss as a function of its parameters, which is what the flows take."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from corridor.flows.space import Loss


def network_loss(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    *,
    dtype: torch.dtype = torch.float64,
) -> tuple[Loss, list[Tensor]]:
    """The loss of a network on given data as a function of a list of tensors, and the list now.

    The model itself is left alone: its parameters and buffers are copied, in the mode (train or
    eval) and with the state they have. Buffers are copied for every evaluation, so that batch norm
    computes what it does in training without moving its averages. A model that draws random numbers
    (dropout in train mode) has no flow; put it in eval mode.

    Args:
        model: the network, trained or not.
        loss_fn: of outputs and targets, a scalar.
        inputs: the data.
        targets: the answers; floating ones are converted as the inputs are.
        dtype: of the copy; flows to a tight tolerance want float64.

    Returns:
        The loss, and a start for the flows.

    Example:
        >>> import torch
        >>> from corridor.flows import gradient_flow, network_loss
        >>> model = torch.nn.Linear(2, 1)
        >>> x, y = torch.randn(8, 2), torch.randn(8, 1)
        >>> loss, start = network_loss(model, torch.nn.functional.mse_loss, x, y)
        >>> path = gradient_flow(loss, start, time=0.5, tolerance=1e-6)
        >>> bool(path.losses[-1] < path.losses[0])
        True
    """
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    if not names:
        raise ValueError("the model has no parameter that requires a gradient")
    frozen = {n: _as(p, dtype) for n, p in model.named_parameters() if not p.requires_grad}
    buffers = {name: _as(b, dtype) for name, b in model.named_buffers()}
    start = [_as(p, dtype) for p in model.parameters() if p.requires_grad]
    inputs, targets = _as(inputs, dtype), _as(targets, dtype)

    def loss(point: list[Tensor]) -> Tensor:
        copies = {name: b.clone() for name, b in buffers.items()}
        state = {**dict(zip(names, point, strict=True)), **frozen, **copies}
        return loss_fn(torch.func.functional_call(model, state, (inputs,)), targets)

    return loss, start


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    kept = tensor.detach().clone()
    return kept.to(dtype) if kept.is_floating_point() else kept
