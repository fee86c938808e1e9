"""Build a network of the user, named as `package.module:callable`."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from torch import nn

from corridor._extras import reason


def build_custom(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Import a callable, and call it with the arguments that it accepts and that are not None."""
    function = _find(name)
    model = function(**_accepted(name, function, arguments))
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model {name} must return a torch.nn.Module, got {type(model).__name__}; "
            "return the network itself"
        )
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
            raise ValueError(
                f"model {name} must name an installed module, got no module {missing!r}; "
                "install it or run in its folder"
            ) from error
        raise ValueError(
            f"model {name} must be importable, got {reason(error)}; correct the module"
        ) from error
    try:
        found = attrgetter(attribute)(found)
    except AttributeError as error:
        raise ValueError(
            f"model {name} must name a function or class, got no {attribute!r} in {module}; "
            "correct the name"
        ) from error
    if not callable(found):
        raise ValueError(
            f"model {name} must name a function or class, got {type(found).__name__}; "
            "name the function that builds the network"
        )
    return found


def _accepted(name: str, function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    offered = {key: value for key, value in arguments.items() if value is not None}
    signature = inspect.signature(function)
    named = signature.parameters
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
    return accepted
