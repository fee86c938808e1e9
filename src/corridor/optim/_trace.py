"""Detect, by samples of the gradients, that the gradient of a watched loss was cleared."""

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from corridor import _reduce, _torch, _tree

SAMPLES, ENTRIES, WIDE_ENTRIES = 4, 1 << 12, 1 << 16  # gradients; entries on a CPU and on a GPU


class Trace:
    """Follow samples of the gradients of a watched loss, to detect when they are cleared.

    A gradient that is only changed, by clipping, a mask or ``p.grad = p.grad / 2``, keeps its loss.
    """

    def __init__(self, reached: list[Tensor]) -> None:
        self.reached, held = reached, with_grad(reached)
        chosen = dict.fromkeys(held[(len(held) - 1) * k // (SAMPLES - 1)] for k in range(SAMPLES))
        strides = [1 + p.numel() // (ENTRIES if p.is_cpu else WIDE_ENTRIES) for p in chosen]
        self._rows = [(p, slice(None, None, k)) for p, k in zip(chosen, strides, strict=True)]
        self._shown = [_shows(*row) for row in self._rows]
        if all(one.is_cpu for one in self._shown) and not any(self._shown):  # few rows of many
            largest = ((p, int(_entries(p).abs().argmax())) for p in held if _any([p]))
            self._rows = list(itertools.islice(largest, SAMPLES)) or self._rows
            self._shown = [_shows(*row) for row in self._rows]
        self.params = [p for p, _ in self._rows]
        stamps = map(stamp, self.params)
        self._stamps = [(TensorWeakRef(g), version) for g, version in stamps if g is not None]
        self._cleared: dict[int, Tensor | bool] = {}  # by index, before a later pass added to it

    def look(self, p: Tensor | None) -> None:
        """Note the state of a parameter's gradient, which a pass is about to change."""
        for index, one in enumerate(self.params):
            if one is p:
                cleared = self._is_cleared(index)
                if not self._shown[index].is_cpu or (cleared and self._shown[index]):
                    self._cleared[index] = cleared

    def _is_cleared(self, index: int) -> Tensor | bool:
        known = self._cleared.get(index, False)
        if self._same(index):  # a gradient that was put aside and back, or ``.grad.data``
            known = False
        if known is True or self.params[index].grad is None:
            return True
        empty = torch.logical_not(_shows(*self._rows[index]))
        return empty if known is False else empty | known

    def untouched(self) -> bool:
        """Return True if no pass and no change in place has reached the gradients."""
        return not self._cleared and all(map(self._same, range(len(self.params))))

    def _same(self, index: int) -> bool:
        (old, version), (new, now) = self._stamps[index], stamp(self.params[index])
        return new is old() and now == version

    def replaced(self) -> bool:
        """Return True if every gradient is another tensor than after the pass."""
        pairs = zip(self.params, self._stamps, strict=True)
        return all(p.grad is not None and p.grad is not old() for p, (old, _) in pairs)

    def lost(self) -> Tensor:
        """Return True, 0-dim, if they were cleared. A gradient that was 0 before does not count."""
        cleared = [self._is_cleared(index) for index in range(len(self.params))]
        shown = torch.stack([one.to(self._shown[0].device) for one in self._shown])
        gone = torch.stack([torch.as_tensor(one, device=shown.device) for one in cleared])
        gone = shown.any() & (gone | ~shown).all() | all(one is True for one in cleared)
        if self._cleared or (not gone if gone.is_cpu else self.untouched()):
            return gone  # the samples alone decide where a later pass has filled the gradients
        return gone & ~_any(with_grad(self.reached)).to(gone.device)


def stamp(p: Tensor) -> tuple[Tensor | None, int]:
    """Return ``.grad`` and its version, which grows with each change in place."""
    g = p.grad
    if g is None or type(g) is Tensor:
        return g, 0 if g is None else g._version
    return g, g._version + _reduce.local(g)._version  # FSDP changes the local part alone


def _entries(p: Tensor) -> Tensor:
    """Return this rank's part of ``.grad`` as a vector, and a 1 for a sparse one."""
    g = _reduce.local(p.grad) if p.grad is not None else p.new_zeros(())
    if g.layout is not torch.strided:  # refused by the step
        return torch.ones(1, device=g.device)
    return _tree.flatten(_tree.as_real(g.detach()))


def _shows(p: Tensor, where: Any) -> Tensor:
    """Return True if these entries of ``.grad`` are not all 0, as a 0-dim tensor."""
    return _entries(p)[where].any()


def with_grad(params: list[Tensor]) -> list[Tensor]:
    """Return the parameters that have a gradient."""
    return [p for p in params if p.grad is not None]


def _any(params: list[Tensor]) -> Tensor:
    """Return True if any entry of any ``.grad`` is not 0, as a 0-dim tensor, in one pass."""
    norms = _torch.foreach_norm([_entries(p) for p in params], 1)
    return torch.stack([one.to(norms[0].device, torch.float64) for one in norms]).any()
