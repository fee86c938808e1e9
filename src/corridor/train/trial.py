"""Try a network on blank images before a run, so that a wrong network is one line."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from corridor.train.processes import generators


def check_network(
    network: nn.Module,
    outputs: Callable[[Tensor, nn.Module], Tensor],
    images: Tensor,
    classes: int,
) -> None:
    """Raise ValueError unless a network maps images to one number per class.

    The pass in training mode uses a copy of the network, so that averages and counters do not
    change. A network that cannot be copied makes only the pass in evaluation mode.
    """
    with generators.kept([images.device] if images.is_cuda else []):
        with torch.no_grad():  # first: parameters of lazy modules are made here
            _check(network.eval(), outputs, images, classes)
        network.train()
        try:
            trial = copy.deepcopy(network)
        except Exception:  # networks can hold anything
            return
        if not _check(trial, outputs, images, classes).requires_grad:
            raise ValueError(
                "model must have outputs that depend on its parameters, got outputs without a "
                "graph; leave out detach, no_grad and item"
            )


def _check(
    network: nn.Module,
    outputs: Callable[[Tensor, nn.Module], Tensor],
    images: Tensor,
    classes: int,
) -> Tensor:
    """Return the outputs, or raise ValueError if they are wrong."""
    wanted = [len(images), classes]
    try:
        found = outputs(images, network)
        got = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else _type(found)
    except Exception as error:
        found, got = None, f"{_type(error)}: {' '.join(str(error).split())}"
    if isinstance(found, Tensor) and found.is_floating_point() and list(found.shape) == wanted:
        return found
    mode = "training" if network.training else "evaluation"
    raise ValueError(
        f"model must map images {list(images.shape)} to numbers {wanted} in {mode} mode, "
        f"got {got}; correct the network"
    )


def _type(value: object) -> str:
    return type(value).__name__
