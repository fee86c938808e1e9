"""The user's own network, named as `package.module:callable`."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import nn


def build_custom(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Import the callable that `name` names and call it with the arguments it accepts.

    The current directory is importable, so a file `nets.py` in it serves as `nets:make`. An
    argument whose value is None is left out, so that the callable's own default holds.

    Args:
        name: `package.module:callable`.
        arguments: keyword arguments on offer; those the signature does not name are dropped,
            except `width`, which the user asked for by name.

    Raises:
        ValueError: the module or the callable cannot be imported, does not accept the arguments,
            or does not return an `nn.Module`.
    """
    module_name, _, attribute = name.partition(":")
    function = _find(name, module_name, attribute)
    model = function(**_accepted(name, function, arguments))
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model {name!r}: expected a torch.nn.Module from the call, "
            f"got {type(model).__name__}: return the network itself"
        )
    return model


def _find(name: str, module_name: str, attribute: str) -> Callable[..., Any]:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, so that a file here cannot hide an installed package
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"model {name!r}: importing {module_name} failed: {error}") from error
        raise ValueError(
            f"model {name!r}: module {error.name!r} not found: "
            "install it, or run in the folder that holds it"
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ValueError(f"model {name!r}: importing {module_name} failed: {reason}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(
                f"model {name!r}: {module_name} has no attribute {attribute!r}: "
                "name a function or class of it"
            )
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(
            f"model {name!r}: expected a function or class, got {type(found).__name__}: "
            "name what builds the network"
        )
    return found


def _accepted(name: str, function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    offered = {key: value for key, value in arguments.items() if value is not None}
    signature = inspect.signature(function)
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {key for key, p in signature.parameters.items() if p.kind in by_keyword}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        named |= offered.keys()
    if "width" in offered and "width" not in named:
        raise ValueError(
            f"model {name!r}: a width was given, but its arguments are "
            f"{', '.join(sorted(named)) or 'none'}: leave the width out"
        )
    accepted = {key: value for key, value in offered.items() if key in named}
    try:
        signature.bind(**accepted)
    except TypeError as error:
        raise ValueError(
            f"model {name!r}: {error}: it may require no argument other than {', '.join(arguments)}"
        ) from error
    return accepted
