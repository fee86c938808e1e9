"""Find the switches of a loss, such as the sign inside ``abs``, where it can have a kink."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from corridor import _torch

# The arguments between which an operation switches; its input alone switches at 0.
AT_ZERO = {"abs", "relu", "leaky_relu", "sgn", "sign", "heaviside", "_prelu_kernel"}
BETWEEN = {"clamp", "clamp_min", "clamp_max", "hardtanh", "threshold"}
BETWEEN |= {"maximum", "minimum", "fmax", "fmin", "gt", "ge", "lt", "le"}
LARGEST = {"max": 1.0, "amax": 1.0, "min": -1.0, "amin": -1.0}


class _Switches(_torch.DispatchMode):
    """Collect the numbers whose zeros are switches, during one evaluation of a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, found = kwargs or {}, []
        name = func.overloadpacket.__name__.removesuffix("_")
        if name in AT_ZERO:
            found = [args[0]]
        elif name in BETWEEN:
            # A limit of None limits nothing.
            found = [args[0] - a for a in (*args[1:3], *kwargs.values()) if a is not None]
        elif name in LARGEST and isinstance(args[0], Tensor) and args[0].numel() > 1:
            two = (LARGEST[name] * args[0]).flatten().topk(2).values
            found = [two[0] - two[1]]
        elif name == "linalg_vector_norm":
            found = [args[0] if args[1:2] == (1,) else func(*args, **kwargs)]
        self.found += [torch.as_tensor(value).detach().double().flatten() for value in found]
        return func(*args, **kwargs)


def switches(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the numbers whose zeros are switches, during one evaluation of a loss at x."""
    with torch.no_grad(), _Switches() as mode:
        value(x)
    return torch.cat(mode.found) if mode.found else torch.empty(0)
