"""Warn once where nothing moves, or where an option decides all steps."""

import sys
import warnings
from typing import Any

import torch
from torch import Tensor

from corridor import _tree

EARLY, WINDOW = 100, 1000
AT_CAP = 0.9  # of the cap, which NGN approaches and never reaches
ROUNDING = 16.0

# By kind: the smallest share of `WINDOW` steps that is worth a warning, and the warning.
KINDS = {
    "skipped": (
        0.5,
        "{share:.0%} of the last {steps} steps were skipped, because the loss, the square of a "
        "gradient or the cap was not finite; start again from finite parameters, find the first "
        "such loss, or scale the loss down if gradients are above 1e19 (float32)",
    ),
    "under": (
        0.5,
        "the loss was at or under f_star = {f_star} in {share:.0%} of the last {steps} steps, "
        "where the step size is 0; lower f_star, or stop here if this is the minimum",
    ),
    "flat": (
        0.5,
        "the gradient was 0 in {share:.0%} of the last {steps} steps, with the loss above f_star; "
        "call backward() after zero_grad() and before step(), and check that the loss depends on "
        "these parameters",
    ),
    "capped": (
        0.9,
        "the step was at its cap in {share:.0%} of the last {steps} steps, which is descent at the "
        "fixed rate {lr:.3g}; raise the cap to let the loss decide, or ignore this warning",
    ),
}
MISSING = (
    "no parameter had a gradient at step(), so nothing moved; call backward() after zero_grad() "
    "and before step(), in a closure too, and give the optimizer the parameters of this loss"
)
SCHEDULED = (
    "a learning-rate scheduler scales the cap, which is infinite here, so it changes no step; give "
    "a finite max_lr, or ignore this warning if the schedule is constant"
)


class Health:
    """Count the steps of the kinds in `KINDS`, and warn once about each kind.

    Counts are copied to the host, without waiting, after `EARLY` and after `WINDOW` steps. After
    `EARLY` steps, a kind other than the cap needs all steps. Compiled steps do not count.
    """

    def __init__(self) -> None:
        self.log: Tensor | None = None
        self.rows: tuple[Tensor, ...] = ()  # of the log
        self.peaks: Tensor | None = None  # the largest gap and step so far, the scale of rounding
        self.copy: tuple[Tensor, Any, int] | None = None
        self.steps = 0
        self.warned: set[str] = set()

    def note(self, numbers: tuple[Tensor, ...], first: dict[str, Any]) -> None:
        """Record loss, ``||g||^2``, step before the cap, step in units of the cap, and skip."""
        if torch.compiler.is_compiling() or KINDS.keys() <= self.warned:
            return
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return
        row = torch.stack(numbers)
        if self.log is None or self.log.device != row.device or self.log.dtype != row.dtype:
            self.log, self.steps = row.new_empty(WINDOW, 5), 0
            self.rows = self.log.unbind()
            self.peaks = row.new_zeros(2, 1)
        _tree.assign([self.rows[self.steps]], [row])
        self.steps += 1
        if self.copy is not None and (self.copy[1] is None or self.copy[1].query()):
            self._read(self.copy[0], self.copy[2], first)
        if self.steps in (EARLY, WINDOW):
            counts = self._counts(self.log[: self.steps], first["f_star"])
            host, event = counts.to("cpu", non_blocking=True, copy=True), None
            if counts.is_cuda:
                event = torch.cuda.Event()
                event.record()
            self.copy, self.steps = (host, event, self.steps), self.steps % WINDOW

    def _counts(self, log: Tensor, f_star: float) -> Tensor:
        """Return the number of steps of each kind."""
        loss, norm_sq, raw, used, skip = log.unbind(1)
        skipped, flat = skip > 0.0, norm_sq <= 0.0
        now = torch.stack([loss - f_star, raw]).masked_fill(skipped, 0.0)
        self.peaks = torch.maximum(self.peaks, now.amax(1, keepdim=True))  # pyright: ignore
        moves = (now > ROUNDING * torch.finfo(now.dtype).eps * self.peaks).any(0)
        kinds = [~(flat | moves), flat & (now[0] > 0.0), used >= AT_CAP]
        return torch.stack([skipped, *(kind & ~skipped for kind in kinds)]).sum(1)

    def _read(self, host: Tensor, steps: int, first: dict[str, Any]) -> None:
        """Warn where the copied counts exceed the shares in `KINDS`."""
        self.copy = None
        for (kind, (least, message)), count in zip(KINDS.items(), host.tolist(), strict=True):
            enough = count >= least * steps if steps == WINDOW else count == steps
            if enough and (steps == WINDOW or kind != "capped"):
                share, cap = count / steps, float(first["lr"])
                said = message.format(share=share, steps=steps, f_star=first["f_star"], lr=cap)
                self.warn(kind, said)

    def warn(self, kind: str, message: str) -> None:
        """Warn once, at the line of the user's code that called the step."""
        if kind in self.warned:
            return
        self.warned.add(kind)
        level, frame = 2, sys._getframe(1)
        while frame.f_back and frame.f_globals["__name__"].startswith(("corridor.", "torch.")):
            level, frame = level + 1, frame.f_back
        warnings.warn(message, stacklevel=level)
