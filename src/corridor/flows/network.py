"""Turn the loss of a network into a function of its parameters."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from corridor.flows.space import Loss


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
    mode does not update its averages. A model with random layers, such as dropout in train mode,
    has no flow. Put such a model into eval mode.

    Args:
        model: network, trained or not.
        loss_fn: function of outputs and targets that returns a scalar tensor.
        inputs: inputs of the network.
        targets: targets of the loss. Floating-point targets are converted to `dtype`.
        dtype: dtype of all copies (default: float64). Flows with tight tolerances need float64.

    Returns:
        The loss, and a start for the flows.

    Raises:
        ValueError: no parameter of the model requires a gradient.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> x, y = torch.randn(8, 2), torch.randn(8, 1)
        >>> loss, start = network_loss(model, torch.nn.functional.mse_loss, x, y)
        >>> [tuple(tensor.shape) for tensor in start], loss(start).dtype
        ([(1, 2), (1,)], torch.float64)
    """
    copies = {name: _copy(p, dtype) for name, p in model.named_parameters()}
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    if not names:
        raise ValueError(
            "model must have a parameter that requires a gradient, got none; unfreeze one"
        )
    buffers = {name: _copy(b, dtype) for name, b in model.named_buffers()}
    # The caller may overwrite the batch later, and the flow must not change with it.
    inputs, targets = _copy(inputs, dtype), _copy(targets, dtype)

    def loss(point: list[Tensor]) -> Tensor:
        # Batch norm writes into its buffers, so each evaluation gets new ones.
        fresh = {name: b.clone() for name, b in buffers.items()}
        state = {**copies, **fresh, **dict(zip(names, point, strict=True))}
        return loss_fn(torch.func.functional_call(model, state, (inputs,)), targets)

    return loss, [copies[name] for name in names]


def _copy(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    copy = tensor.detach().clone()
    return copy.to(dtype) if copy.is_floating_point() else copy
