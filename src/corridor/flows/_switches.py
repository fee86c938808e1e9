"""Find the switches of a loss, such as the sign inside ``abs``, where it can have a kink."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from corridor import _torch

MOST = 100  # more switches, as in a ReLU network, would end almost every step
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
        name = func.overloadpacket.__name__.removesuffix("_")
        if name in AT_ZERO:
            self._add(args[0])
        elif name in BETWEEN:
            # A limit of None limits nothing.
            for limit in [a for a in (*args[1:3], *(kwargs or {}).values()) if a is not None]:
                self._add(args[0] - limit)
        elif name in LARGEST and isinstance(args[0], Tensor) and args[0].numel() > 1:
            two = (LARGEST[name] * args[0]).flatten().topk(2).values
            self._add(two[0] - two[1])
        elif name == "linalg_vector_norm":
            self._add(args[0] if args[1:2] == (1,) else func(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    def _add(self, value: Any) -> None:
        self.found.append(torch.as_tensor(value).detach().double().flatten())


def time_to_switch(
    value: Callable[[Tensor], Tensor], x: Tensor, v: Tensor, size: float
) -> float | None:
    """Return the time until the first switch of a loss, if all switches move on at their rates.

    It is None for a loss without switches, and for a loss with more than MOST.
    """
    speed = float(v.norm())
    # The difference quotient is as long as rounding at a point of this size requires.
    wait = torch.finfo(x.dtype).eps ** 0.5 * size / speed if speed > 0.0 else 0.0
    now, then = _switches(value, x), _switches(value, x + wait * v)
    if not 0 < len(now) <= MOST:
        return None
    if len(now) != len(then) or wait == 0.0:
        return math.inf
    times = -wait * now / (then - now)
    ahead = times[torch.isfinite(times) & (times > 0.0)]
    return float(ahead.min()) if len(ahead) else math.inf


def _switches(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad(), _Switches() as mode:
        value(x)
    return torch.cat(mode.found) if mode.found else torch.empty(0)
