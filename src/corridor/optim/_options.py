"""A group's options: which there are, what range they have, which all groups must share."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

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
    "momentum": FRACTION,
    "average_loss": SWITCH,
}
OWN = ("lr", "weight_decay")

# Keys of a group that hold no option: torch's, and a name that users give.
TORCHS = frozenset({"params", "param_names", "name"})
# Keys that learning-rate schedulers write or read; "max_lr" among them only after "initial_lr".
SCHEDULERS = frozenset(
    {"initial_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr", "lr_scale"}
)

Groups = list[dict[str, Any]]
Init = TypeVar("Init", bound=Callable[..., None])


def arguments(init: Callable[..., Any]) -> tuple[str, ...] | None:
    """Return the names of a constructor's arguments without self, or None with ``**kwargs``."""
    parameters = list(inspect.signature(init).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters)


def naming(init: Init) -> Init:
    """Return the constructor, with unknown keywords refused by `unknown`.

    The signature stays that of the constructor. One with ``**kwargs`` is returned as it is.
    """
    names = arguments(init)
    if names is None:
        return init

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        for name in options:
            if name not in names:
                raise unknown("option", name, type(self).__name__, names[1:])
        init(self, *args, **options)

    return cast(Init, checked)


def unknown(what: str, name: str, owner: str, names: Collection[str]) -> TypeError:
    """Return the TypeError for a name that an optimizer does not have.

    Args:
        what: what the name stands for, "option" or "group key".
        name: the unknown name.
        owner: name of the optimizer's class.
        names: the names that it has.
    """
    if name == "lr" and "max_lr" in names:
        advice = "its cap is max_lr, kept in param_groups[i]['lr'] for schedulers; give max_lr"
    elif name == "lr" and "sigma" in names:
        advice = "its bound is sigma, kept in param_groups[i]['lr'] for schedulers; give sigma"
    else:
        close = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names)}"
    return TypeError(f"{owner} has no {what} {name!r}; {advice}")


def check_given(groups: Groups, shared: Iterable[str], owner: str) -> None:
    """Raise ValueError for an option of the one step size that only some of the groups give."""
    for key in shared:
        given = [group[key] for group in groups if key in group]
        if 0 < len(given) < len(groups):
            raise ValueError(
                f"{key} must be given by all parameter groups or by none (they share one step "
                f"size), got it in {len(given)} of {len(groups)}; "
                f"give it to {owner} as {key}={given[0]!r}"
            )


def admitted(
    group: dict[str, Any],
    groups: Groups,
    defaults: dict[str, Any],
    shared: Mapping[str, Rule],
    names: Collection[str],
    cap: str,
    left_by_a_step: Iterable[str],
    owner: str,
) -> dict[str, Any]:
    """Return a copy of a new group with its options complete and checked.

    Args:
        group: the new group.
        groups: the groups that are there already.
        defaults: the values that were given to the constructor.
        shared: options of the one step size. A group without one takes its current value.
        names: the options of the optimizer.
        cap: the name of the cap among them.
        left_by_a_step: keys that a step leaves in its groups. They are dropped, and where they
            show that the group was another optimizer's, that one's options are dropped too.
        owner: name of the optimizer's class, for errors.

    Raises:
        TypeError: a key is not an option.
        ValueError: the cap was given twice, or an option is out of range or differs from the
            other groups'.
    """
    left = set(left_by_a_step)
    caps = {"max_lr", cap}
    own = {*names, *OWN, *caps}
    admitted = {key: value for key, value in group.items() if key not in left}
    used = len(admitted) < len(group)
    scheduled = used or "initial_lr" in group
    if scheduled and "lr" in admitted:  # OneCycleLR writes its own max_lr into the group
        admitted.pop("max_lr", None)
    for key in [key for key in admitted if key not in own | TORCHS]:
        if used and key not in SCHEDULERS:
            del admitted[key]
        elif key not in ("initial_lr", "lr_scale") and not (scheduled and key in SCHEDULERS):
            raise unknown("group key", key, owner, ["lr", *sorted(own - {"lr"})])
    given = [admitted.pop(key) for key in sorted(caps) if key in admitted]
    if len(given) + ("lr" in admitted) > 1:
        raise ValueError(f"{cap} and lr name the same cap of a parameter group; give only one")
    if given:
        admitted["lr"] = given[0]
    first = groups[0] if groups else {**defaults, **admitted}
    for key in shared:
        admitted.setdefault(key, first[key])
    for key in OWN:
        admitted.setdefault(key, defaults[key])
    check_cap(admitted["lr"], cap)
    check([*groups, admitted], shared)
    return admitted


def check_cap(cap: Any, name: str) -> None:
    """Raise ValueError unless a cap is a positive number."""
    if isinstance(cap, Tensor) and cap.dim() == 0 and not cap.is_complex():
        cap = float(cap)
    if not (is_number(cap) and cap > 0.0):
        raise ValueError(f"{name} must be positive (or inf for no cap), got {cap!r}")


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
                    f"{key} must be equal in all parameter groups (they share one step size), "
                    f"got {first[key]} and {group[key]}"
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
