"""A group's options: which there are, what range they have, which all groups must share."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from torch import Tensor

# Options of the one step size, the same in every group; cap and weight decay are a group's own.
SHARED = ("f_star", "scale", "momentum")
OPTIONS = ("lr", "weight_decay", *SHARED)

# What the averages of momentum are made of, kept in the first group.
AVERAGES = ("loss_average", "linear_term", "average_weight", "average_shift")
LEFT_BY_A_STEP = {*AVERAGES, "skipped", "grad_norm", "effective_lr"}

Groups = list[dict[str, Any]]


def admitted(group: dict[str, Any], groups: Groups, defaults: dict[str, Any]) -> dict[str, Any]:
    """A copy of a new group with its options complete and checked.

    The first group's word on a shared option holds for all. What an optimizer's step had left in
    the group is dropped.

    Raises:
        ValueError: a cap came twice, or an option is out of range or differs from the others'.
    """
    admitted = {key: value for key, value in group.items() if key not in LEFT_BY_A_STEP}
    if "max_lr" in admitted:
        if "lr" in admitted:
            raise ValueError("a group's cap came twice, as max_lr and as lr: give one of them")
        admitted["lr"] = admitted.pop("max_lr")
    first = groups[0] if groups else {**defaults, **admitted}
    for key in SHARED:
        admitted.setdefault(key, first[key])
    for key in set(OPTIONS) - set(SHARED):
        admitted.setdefault(key, defaults[key])
    check_cap(admitted["lr"])
    check([*groups, admitted])
    return admitted


def check_cap(cap: Any) -> None:
    """One line of ValueError for a cap that is no positive number."""
    if isinstance(cap, Tensor) and cap.dim() == 0 and not cap.is_complex():
        cap = float(cap)
    if not (_is_number(cap) and cap > 0.0):
        raise ValueError(f"max_lr must be positive (or inf for no cap), got {cap!r}")


def check(groups: Groups) -> None:
    """One line of ValueError for options out of range, or shared ones that differ."""
    first = groups[0]
    for key, wanted, right in (
        ("f_star", "a finite number", lambda v: math.isfinite(v)),
        ("scale", "positive and finite", lambda v: 0.0 < v < math.inf),
        ("momentum", "a number in [0, 1)", lambda v: 0.0 <= v < 1.0),
    ):
        value = first[key]
        if not (_is_number(value) and right(value)):
            raise ValueError(f"{key} must be {wanted}, got {value!r}")
    for group in groups:
        rate = group["weight_decay"]
        if not (_is_number(rate) and 0.0 <= rate < math.inf):
            raise ValueError(f"weight_decay must be non-negative and finite, got {rate!r}")
        if group.get("maximize"):
            raise ValueError("maximize is not for step sizes that follow from a loss to minimise")
        for key in SHARED:
            if group[key] != first[key]:
                raise ValueError(
                    f"{key} belongs to the one step size all groups share: expected {first[key]} "
                    f"in every group, got {group[key]}"
                )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real)


def check_no_nan(groups: Groups) -> None:
    """Refuse a NaN cap where it can be read without waiting for a device."""
    if torch.compiler.is_compiling():
        return
    for index, group in enumerate(groups):
        cap = group["lr"]
        on_host = not isinstance(cap, Tensor) or cap.device.type == "cpu"
        if on_host and math.isnan(float(cap)):
            raise ValueError(
                f"param_groups[{index}]['lr'] is NaN, as a scheduler makes of an infinite cap; "
                "give a finite max_lr to a scheduler"
            )
