"""A group's options: which there are, what range they have, which all groups must share."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Rule(NamedTuple):
    """What an option must be, in words and as a predicate on a real number."""

    wanted: str
    right: Callable[[Any], bool]


POSITIVE = Rule("positive and finite", lambda v: 0.0 < v < math.inf)
FRACTION = Rule("a number in [0, 1)", lambda v: 0.0 <= v < 1.0)
STEPS = Rule("a whole number of steps, at least 1", lambda v: v >= 1 and v == int(v))
SWITCH = Rule("True or False", lambda v: v in (True, False))


def optional(rule: Rule) -> Rule:
    """The same rule, None being right too."""
    return Rule(f"None or {rule.wanted}", lambda v: v is None or (is_number(v) and rule.right(v)))


# Options of the one step size, the same in every group; cap and weight decay are a group's own.
SHARED: dict[str, Rule] = {
    "f_star": Rule("a finite number", lambda v: math.isfinite(v)),
    "scale": POSITIVE,
    "momentum": FRACTION,
    "average_loss": SWITCH,
}
OWN = ("lr", "weight_decay")

Groups = list[dict[str, Any]]


def admitted(
    group: dict[str, Any],
    groups: Groups,
    defaults: dict[str, Any],
    shared: Mapping[str, Rule],
    left_by_a_step: Iterable[str],
) -> dict[str, Any]:
    """A copy of a new group with its options complete and checked.

    The first group's word on a shared option holds for all. What an optimizer's step had left in
    the group is dropped.

    Raises:
        ValueError: a cap came twice, or an option is out of range or differs from the others'.
    """
    left = set(left_by_a_step)
    admitted = {key: value for key, value in group.items() if key not in left}
    if "max_lr" in admitted:
        if "lr" in admitted:
            raise ValueError("a group's cap came twice, as max_lr and as lr: give one of them")
        admitted["lr"] = admitted.pop("max_lr")
    first = groups[0] if groups else {**defaults, **admitted}
    for key in shared:
        admitted.setdefault(key, first[key])
    for key in OWN:
        admitted.setdefault(key, defaults[key])
    check_cap(admitted["lr"])
    check([*groups, admitted], shared)
    return admitted


def check_cap(cap: Any) -> None:
    """One line of ValueError for a cap that is no positive number."""
    if isinstance(cap, Tensor) and cap.dim() == 0 and not cap.is_complex():
        cap = float(cap)
    if not (is_number(cap) and cap > 0.0):
        raise ValueError(f"max_lr must be positive (or inf for no cap), got {cap!r}")


def check(groups: Groups, shared: Mapping[str, Rule]) -> None:
    """One line of ValueError for options out of range, or shared ones that differ."""
    first = groups[0]
    for key, rule in shared.items():
        value = first[key]
        if not ((value is None or is_number(value)) and _holds(rule, value)):
            raise ValueError(f"{key} must be {rule.wanted}, got {value!r}")
    for group in groups:
        rate = group["weight_decay"]
        if not (is_number(rate) and 0.0 <= rate < math.inf):
            raise ValueError(f"weight_decay must be non-negative and finite, got {rate!r}")
        if group.get("maximize"):
            raise ValueError("maximize is not for step sizes that follow from a loss to minimise")
        for key in shared:
            if group[key] != first[key]:
                raise ValueError(
                    f"{key} belongs to the one step size all groups share: expected {first[key]} "
                    f"in every group, got {group[key]}"
                )


def _holds(rule: Rule, value: Any) -> bool:
    try:
        return bool(rule.right(value))
    except (TypeError, OverflowError, ValueError):  # None or NaN where a number is wanted
        return False


def is_number(value: Any) -> bool:
    """Whether the value is a real number, not a tensor."""
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
