"""Build networks by name, for square images of any size and number of channels."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any

from torch import nn

from corridor._extras import reason
from corridor.models.plain import VGG16, cnn, mlp
from corridor.models.resnet import ResNet

__all__ = ["NAMES", "build", "check_name"]

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": partial(ResNet, 18),
    "resnet50": partial(ResNet, 50),
    "resnet14": partial(ResNet, 14),
    "vgg16": VGG16,
    "resnet8": partial(ResNet, 8),
    "mlp": mlp,
    "cnn": cnn,
}
NAMES = tuple(_BUILDERS)


def check_name(name: str) -> None:
    """Raise ValueError unless a name is in `NAMES` or has the form `package.module:callable`."""
    if name in _BUILDERS:
        return
    module, colon, attribute = name.partition(":")
    dotted = (*module.split("."), *attribute.split("."))
    if not colon or not all(part.isidentifier() for part in dotted):
        raise ValueError(
            f"model must be one of {', '.join(NAMES)}, or package.module:callable, got {name!r}"
        )


def build(
    name: str, *, num_classes: int, in_channels: int, image_size: int, width: int | None = None
) -> nn.Module:
    """Build a network by name. New weights are drawn from torch's global generator.

    For images of more than 64 pixels, ResNets and VGG-16 have their ImageNet form, with
    torchvision's parameter names and shapes. Smaller images get a smaller form.

    Args:
        name: One of `NAMES`, or `package.module:callable`. The callable gets the
            arguments below that its signature accepts.
        num_classes: Number of logits.
        in_channels: Number of image channels.
        image_size: Side of the images, in pixels.
        width: Number of planes of the first stage or units of a hidden layer (default: the
            network's own).

    Returns:
        A module that maps float images [b, in_channels, image_size, image_size] to
        logits [b, num_classes].

    Raises:
        ValueError: The name is unknown, a number is below 1, or the callable cannot be used.

    Example:
        >>> model = build("resnet8", num_classes=10, in_channels=3, image_size=32)
        >>> sum(p.numel() for p in model.parameters())
        78042
    """
    check_name(name)
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    arguments = {**sizes, "width": width}
    for key, value in arguments.items():
        if value is not None and value < 1:
            raise ValueError(f"{key} must be at least 1, got {value}")
    try:
        return _BUILDERS[name](**arguments) if name in _BUILDERS else _custom(name, arguments)
    except ValueError:
        raise
    except Exception as error:  # of the network's code, or of torch for lack of memory
        given = ", ".join(f"{k}={v}" for k, v in arguments.items() if v is not None)
        raise ValueError(
            f"model {name} must accept {given}, got {reason(error)}; change the model or numbers"
        ) from error


def _custom(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Call what the user named, with the arguments that it accepts and that are not None."""
    function = _find(name)
    signature = inspect.signature(function)
    named, offered = signature.parameters, {k: v for k, v in arguments.items() if v is not None}
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in named.values())
    accepted = {key: value for key, value in offered.items() if takes_all or key in named}
    if "width" in offered and "width" not in accepted:
        raise ValueError(
            f"width must be None for {name}, whose arguments are {', '.join(named) or 'none'}, "
            f"got {offered['width']}; leave it out"
        )
    try:
        signature.bind(**accepted)
    except TypeError as error:
        raise ValueError(
            f"model {name} must require only {', '.join(arguments)}, got: {error}; "
            "give other arguments a default"
        ) from error
    model = function(**accepted)
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise ValueError(f"model {name} must return a torch.nn.Module, got {kind}; return it")
    return model


def _find(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last: a file here must not hide an installed package
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        # A module that exists may itself import one that does not: then name the latter.
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module}.".startswith(f"{missing}."):
            advice = f"got no module {missing!r}; install it or run in its folder"
            raise ValueError(f"model {name} must name an installed module, {advice}") from error
        raise ValueError(
            f"model {name} must be importable, got {reason(error)}; correct the module"
        ) from error
    got = f"no {attribute!r} in {module}"
    with suppress(AttributeError):
        found = attrgetter(attribute)(found)
        if callable(found):
            return found
        got = type(found).__name__
    raise ValueError(f"model {name} must name a function or class, got {got}; correct the name")
