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
    mode does not update its averages. Dropout in train mode is random and has no flow.

    Args:
        model: network, trained or not.
        loss_fn: function of outputs and targets that returns a scalar tensor.
        inputs: inputs of the network.
        targets: targets of the loss. Floating-point targets are converted to `dtype`.
        dtype: dtype of all copies (default: float64). Flows with tight tolerances need float64.

    Raises:
        ValueError: no parameter of the model requires a gradient.

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
        raise ValueError(
            "model must have a parameter that requires a gradient, got none; unfreeze one"
        )
    buffers = {name: copy(b) for name, b in model.named_buffers()}
    # The caller may overwrite the batch later, and the flow must not change with it.
    inputs, targets = copy(inputs), copy(targets)

    def loss(point: list[Tensor]) -> Tensor:
        # Batch norm writes into its buffers, so each evaluation gets new ones.
        fresh = {name: b.clone() for name, b in buffers.items()}
        state = {**copies, **fresh, **dict(zip(names, point, strict=True))}
        return loss_fn(torch.func.functional_call(model, state, (inputs,)), targets)

    return loss, [copies[name] for name in names]
