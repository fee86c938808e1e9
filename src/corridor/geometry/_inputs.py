"""Check parameters, losses and options, and return parameters as a plain list."""

import math
import textwrap
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from corridor import _tree
from corridor._types import Params


def parameters(params: Params | nn.Module) -> list[Tensor]:
    """Return the tensors of a list, groups, named pairs or a module, or raise ValueError."""
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "torch.inference_mode must be off, got an active one, which records no derivatives; "
            "call this outside of it"
        )
    found = _flatten(params)
    if not found:
        raise ValueError(
            "params must hold at least one parameter, got none; make a generator again "
            "before its second use"
        )
    for index, p in enumerate(found):
        if not isinstance(p, Tensor):
            raise ValueError(
                f"params must be tensors, got {type(p).__name__} at {index}; "
                "give model.parameters()"
            )
        if p.is_inference():
            raise ValueError(
                f"params must have derivatives, got parameter {index} made in inference mode; "
                "make or clone it outside torch.inference_mode()"
            )
    if len({id(p) for p in found}) < len(found):  # its part of ||g||^2 would count twice
        raise ValueError(
            "params must be different tensors, got a tensor twice; give each tensor once"
        )
    devices = sorted({str(p.device) for p in found})
    if len(devices) > 1:
        raise ValueError(
            f"params must lie on one device, got {', '.join(devices)}; "
            "move the model, or call this for the parameters of each device separately"
        )
    if not any(p.requires_grad for p in found):
        raise ValueError(
            f"params must hold a tensor that requires a gradient, got {len(found)} frozen; "
            "unfreeze one with requires_grad_()"
        )
    return found


def _flatten(params: Params | nn.Module) -> list[Tensor]:
    if isinstance(params, Tensor):
        raise ValueError("params must be a list of tensors, got one tensor; write [tensor]")
    if isinstance(params, nn.Module):
        return list(params.parameters())
    if not isinstance(params, Iterable):
        raise ValueError(
            f"params must be a list, got {type(params).__name__}; give model.parameters()"
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


def loss_with_graph(value: Any) -> Tensor:
    """Return the value of a closure as a 0-dim tensor, or raise ValueError without a graph."""
    loss = _tree.scalar_loss(value)
    if not loss.requires_grad:
        raise ValueError(
            "loss must have a graph to differentiate, got a tensor without it; compute it "
            "without no_grad, detach or item, and from parameters that require gradients"
        )
    return loss


def check_function(name: str, value: Any, example: str) -> None:
    """Raise ValueError unless an argument can be called."""
    if not callable(value):
        raise ValueError(f"{name} must be a function, got {type(value).__name__}; write {example}")


def check_finite(loss: Tensor) -> None:
    """Raise ValueError unless the loss is finite. This waits for the device."""
    if not bool(torch.isfinite(loss)):
        raise ValueError(
            f"loss must be finite, got {float(loss)}; "
            "look for overflow, a division by zero or a step size that is too large"
        )


def check_f_star(f_star: float) -> None:
    """Raise ValueError unless the lower bound of the loss is finite."""
    if not math.isfinite(f_star):
        raise ValueError(f"f_star must be finite, got {f_star}; give a lower bound of the loss")


def check_step(step: float | Tensor) -> None:
    """Raise ValueError unless a step size is positive and finite."""
    if not 0.0 < float(step) < math.inf:
        raise ValueError(f"step must be positive and finite, got {float(step)}; give a step size")


def one_line(error: Exception, longest: int = 160) -> str:
    """Return the text of an error on one line of at most `longest` characters."""
    return textwrap.shorten(str(error), longest, placeholder="...")
