"""What comes in, made plain: parameters as a list, the closure's value as a scalar loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from corridor._types import Params


def parameters(params: Params | nn.Module) -> list[Tensor]:
    """The tensors of a list, of groups, of named pairs or of a module, in order.

    Raises:
        ValueError: there are none, some are no tensors, appear twice, lie on different devices,
            or none requires a gradient; or inference mode is on.
    """
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "inference mode is on, in which torch records no derivatives; "
            "measure outside torch.inference_mode()"
        )
    found = _flatten(params)
    if not found:
        raise ValueError("expected at least one parameter, got none; was a generator used twice?")
    for index, p in enumerate(found):
        if not isinstance(p, Tensor):
            raise ValueError(f"expected parameters as tensors, got {type(p).__name__} at {index}")
        if p.is_inference():
            raise ValueError(
                f"parameter {index} was made in inference mode and has no derivatives; "
                "make or clone it outside torch.inference_mode()"
            )
    if len({id(p) for p in found}) < len(found):
        raise ValueError("a parameter appears twice, and would count twice; give each once")
    devices = sorted({str(p.device) for p in found})
    if len(devices) > 1:
        raise ValueError(
            f"expected parameters on one device, got {', '.join(devices)}; "
            "move the model to one, or measure the parameters of each device by themselves"
        )
    if not any(p.requires_grad for p in found):
        raise ValueError(
            f"none of the {len(found)} parameters requires a gradient; "
            "unfreeze some with requires_grad_()"
        )
    return found


def _flatten(params: Params | nn.Module) -> list[Tensor]:
    if isinstance(params, Tensor):
        raise ValueError("expected a list of parameters, got one tensor; write [tensor]")
    if isinstance(params, nn.Module):
        return list(params.parameters())
    if not isinstance(params, Iterable):
        raise ValueError(
            f"expected parameters, got {type(params).__name__}; use model.parameters()"
        )
    found: list[Any] = []
    for entry in params:
        if isinstance(entry, dict):
            found.extend(_flatten(entry["params"]))
        elif isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str):
            found.append(entry[1])
        else:
            found.append(entry)
    return found


def scalar_loss(value: Any) -> Tensor:
    """The closure's value as a 0-dim tensor with its graph.

    Raises:
        ValueError: it is no tensor, not one real number, or carries no graph.
    """
    if not isinstance(value, Tensor):
        raise ValueError(
            f"the closure must return a scalar loss tensor, got {type(value).__name__}; "
            "return the loss itself, before .item() or float()"
        )
    if value.numel() != 1 or value.is_complex():
        raise ValueError(
            f"the closure must return one real number, got {value.dtype} of shape "
            f"{tuple(value.shape)}; reduce it first, for example by .mean()"
        )
    if not value.requires_grad:
        raise ValueError(
            "the closure's loss has no graph to differentiate; compute it without no_grad, "
            "detach or item, and from parameters that require gradients"
        )
    return value.reshape(())


def check_finite(loss: Tensor) -> None:
    """Raise a ValueError unless the loss is a finite number; waits for the device."""
    if not bool(torch.isfinite(loss)):
        raise ValueError(
            f"the closure returned a loss of {float(loss)}, whose derivatives mean nothing; "
            "look for overflow, a division by zero or a step size that is too large"
        )
