"""DAL: the step size from the curvature along the gradient, whatever the loss is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from corridor import _tree
from corridor._types import Params
from corridor.geometry.graph import from_graph
from corridor.optim import _options, step_size
from corridor.optim._motion import Memory
from corridor.optim.base import Always, PolyakOptimizer


class DAL(PolyakOptimizer):
    """Drift-adjusted learning rate: ``h = min(2 / (||Hg|| / ||g||)^power, max_lr)``.

    At ``power = 1`` the step's drift from gradient flow is, to leading order, as long as the step
    itself. In a corridor Hg = 0 and the step is at its cap; the loss only says whether the step is
    usable.

    Hg is taken from the graph of the watched loss, at about three more gradients, so the loss must
    come by ``watch(loss).backward()`` or ``attach(model)``. With `every` the ratio is measured in
    one of so many steps, and kept between them. Of several watched micro-batches the first is
    measured. Under data parallelism each rank measures its own batch, and the ratios are averaged.

    Args:
        params: whole parameters, as for `corridor.CLR`; sharded ones have no Hg.
        max_lr: the cap.
        power: 0 is descent at rate 2, 1 the rule of constant drift.
        every: steps from one measurement to the next.
        momentum: heavy ball.
        **common: weight_decay and average_loss.

    ``param_groups[0]["hessian_ratio"]`` holds the ratio in use, ``||Hg|| / ||g||``.

    Raises:
        ValueError: at `watch`, the loss cannot be differentiated twice; at `step`, no loss was
            watched when a measurement was due.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = DAL([x])
        >>> opt.watch(4.0 * x.square().sum()).backward()  # H = 8
        >>> opt.step()
        >>> float(opt.param_groups[0]["effective_lr"])
        0.25

    Reference:
        Rosca, Wu, Qin and Dherin (2023), "On a continuous time model of gradient descent dynamics
        and instability in deep learning", arXiv 2302.01952.
    """

    OPTIONS: ClassVar = {
        "power": _options.Rule("a number, at least 0", lambda v: 0.0 <= v < float("inf")),
        "every": _options.STEPS,
    }
    MEMORY: ClassVar = {"hessian_ratio": 0.0}

    def __init__(
        self,
        params: Params,
        max_lr: float = 5.0,
        *,
        power: float = 1.0,
        every: int = 1,
        momentum: float = 0.0,
        **common: Unpack[Always],
    ) -> None:
        self._ratio: Tensor | None = None
        super().__init__(params, max_lr, power=power, every=every, momentum=momentum, **common)

    def watch(self, loss: Tensor, scaler: Any = None) -> Tensor:
        """Watch a loss, as of `corridor.CLR`, and measure ``||Hg|| / ||g||`` where that is due."""
        loss = super().watch(loss, scaler)
        if loss.requires_grad and self._due() and self._ratio is None:
            g, hg = from_graph(loss, list(self._leaves()))
            dtype = self._home()[1]
            ratio = (_tree.squared_norm(hg, dtype) / _tree.squared_norm(g, dtype)).sqrt()
            self._ratio = torch.where(torch.isnan(ratio), torch.zeros_like(ratio), ratio)
        return loss

    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step, as of `corridor.CLR`; the closure watches its loss."""
        given = super().step(closure, loss=loss)
        self.param_groups[0]["steps_seen"] += 1
        return given

    def step_size_rule(
        self, loss: Tensor, norm_sq: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """The step by the ratio in use."""
        return step_size.dal(memory["hessian_ratio"], self.param_groups[0]["power"]), memory

    def _due(self) -> bool:
        first = self.param_groups[0]
        return first["steps_seen"] % first["every"] == 0

    def _measured(self) -> Memory:
        ratio, self._ratio = self._ratio, None
        if ratio is not None:
            return {"hessian_ratio": ratio}
        if self._due():
            raise ValueError(
                "DAL needs the graph of the loss: call opt.watch(loss).backward() or "
                "opt.attach(model) before step()"
            )
        return {}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, the loss that was watched, and what was measured of it."""
        self._ratio = None
        super().zero_grad(set_to_none)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._ratio = None
        super().__setstate__(state)

    def _settle_scalars(self, device: torch.device, dtype: torch.dtype) -> None:
        super()._settle_scalars(device, dtype)
        self.param_groups[0].setdefault("steps_seen", 0)
