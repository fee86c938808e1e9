"""One warning where an option has taken over: most steps at the cap, or the loss under f_star.

Counted on the device and read once in `WINDOW` steps, by a copy that the host does not wait for.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

WINDOW = 1000
MOSTLY = {"under": 0.5, "capped": 0.9}
AT_CAP = 0.9  # of the cap; NGN's is approached and never reached


class Health:
    """Counts steps at the cap and losses under f_star; it lives with the process, not the run."""

    def __init__(self) -> None:
        self.counts: Tensor | None = None
        self.copy: tuple[Tensor, Any] | None = None
        self.steps = 0
        self.warned: set[str] = set()

    def note(
        self, loss: Tensor, raw: Tensor, step: Tensor, skip: Tensor, groups: list[dict[str, Any]]
    ) -> None:
        """Count one step: its loss, the first group's size without cap and with it, and verdict."""
        if torch.compiler.is_compiling() or len(self.warned) == len(MOSTLY):
            return
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return
        cap = groups[0]["lr"]
        cap = cap.to(step).reshape(()) if isinstance(cap, Tensor) else cap
        under = (loss < groups[0]["f_star"]) & (raw <= 0.0)
        capped = (step > 0.0) & (step >= AT_CAP * cap)
        flags = torch.stack([under, capped & torch.logical_not(skip)])
        if self.counts is None or self.counts.device != flags.device:
            self.counts, self.steps = torch.zeros_like(flags, dtype=torch.int64), 0
        self.counts.add_(flags)
        self.steps += 1
        if self.copy is not None:
            self._read(groups[0])
        if self.steps >= WINDOW:
            self._send()

    def _send(self) -> None:
        """Begin to copy the counts to the host, and count anew."""
        assert self.counts is not None
        host, event = self.counts.to("cpu", non_blocking=True, copy=True), None
        if self.counts.is_cuda:
            event = torch.cuda.Event()
            event.record()
        self.copy, self.steps = (host, event), 0
        self.counts = torch.zeros_like(self.counts)

    def _read(self, first: dict[str, Any]) -> None:
        """Warn by the counts that have arrived."""
        assert self.copy is not None
        host, event = self.copy
        if event is not None and not event.query():
            return
        self.copy = None
        under, capped = (n / WINDOW for n in host.tolist())
        if under >= MOSTLY["under"]:
            self._warn(
                "under",
                f"the loss was under f_star = {first['f_star']} in {under:.0%} of the last "
                f"{WINDOW} steps, and such steps are 0: lower f_star",
            )
        if capped >= MOSTLY["capped"]:
            self._warn(
                "capped",
                f"the step was at its cap in {capped:.0%} of the last {WINDOW} steps: this is "
                f"descent at the fixed rate {float(first['lr']):.3g}; raise the cap to let the "
                "loss decide, or take it as it is",
            )

    def _warn(self, kind: str, message: str) -> None:
        if kind not in self.warned:
            self.warned.add(kind)
            warnings.warn(message, stacklevel=8)
