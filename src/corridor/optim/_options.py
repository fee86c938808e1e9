"""Check the options and keys of parameter groups, and keep the scalars in them."""

import difflib
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

Groups = list[dict[str, Any]]
Options = Mapping[str, Any]
Memory = dict[str, Tensor]
Sized = tuple[Tensor, Memory]  # a step size, and the memory after it
Init = TypeVar("Init", bound=Callable[..., None])


class Now(NamedTuple):
    """Hold the options (the first group), the scalars and the dtype of the current step."""

    options: Options
    memory: Memory
    dtype: torch.dtype


class Rule(NamedTuple):
    """Describe the range of an option, in words and as a predicate on a real number."""

    wanted: str
    right: Callable[[Any], bool]
    optional: bool = False  # None is allowed, too

    def admits(self, value: Any) -> bool:
        """Return True if an option may have the value."""
        if value is None:
            return self.optional
        try:
            return is_number(value) and bool(self.right(value))
        except (OverflowError, ValueError):  # int() of an infinite number or of NaN
            return False


POSITIVE = Rule("positive and finite", lambda v: 0.0 < v < math.inf)
FRACTION = Rule("a number in [0, 1)", lambda v: 0.0 <= v < 1.0)
FACTOR = Rule("a number, at least 1", lambda v: 1.0 <= v < math.inf)
STEPS = Rule("a whole number of steps, at least 1", lambda v: v >= 1 and v == int(v))
SWITCH = Rule("True or False", lambda v: v in (True, False))

# Options of the one step size, equal in all groups.
SHARED: dict[str, Rule] = {
    "f_star": Rule("a finite number", lambda v: math.isfinite(v)),
    "momentum": FRACTION,
    "average_loss": SWITCH,
}
OWN = ("lr", "weight_decay")  # options that each group may set for itself

# Keys that are not options: torch's, and the name that users give a group.
NEUTRAL = frozenset({"params", "param_names", "name", "initial_lr", "lr_scale"})
# Keys that schedulers write. OneCycleLR also writes its own max_lr.
SCHEDULERS = frozenset({"min_lr", "max_momentum", "base_momentum", "swa_lr"})


class Owner(NamedTuple):
    """Describe the optimizer that a group belongs to, with the names of its options and its cap."""

    name: str
    names: list[str]
    cap: str
    shared: Mapping[str, Rule]
    left: set[str]  # keys that its steps leave in a group


def optional(rule: Rule) -> Rule:
    """Return the rule with None allowed, too."""
    return Rule(f"None or {rule.wanted}", rule.right, optional=True)


def arguments(init: Callable[..., Any]) -> tuple[str, ...] | None:
    """Return the names of a constructor's arguments without self, or None with ``**kwargs``."""
    parameters = list(inspect.signature(init).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters)


def naming(init: Init) -> Init:
    """Return a constructor that refuses unknown keywords; unchanged if it has ``**kwargs``."""
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
    """Return the TypeError for an unknown name of an optimizer that has the given names."""
    cap = next((cap for cap in ("max_lr", "sigma") if cap in names), None)
    close = difflib.get_close_matches(name, names, n=1)
    if name == "lr" and cap:
        advice = f"its cap is {cap}, kept in param_groups[i]['lr'] for schedulers; give {cap}"
    elif close:
        advice = f"did you mean {close[0]!r}?"
    else:
        advice = f"choose from {', '.join(names)}"
    return TypeError(f"{owner} has no {what} {name!r}; {advice}")


def check_given(groups: Groups, owner: Owner) -> None:
    """Raise ValueError for a shared option that only some of the groups give."""
    for key in owner.shared:
        given = [group[key] for group in groups if key in group]
        if 0 < len(given) < len(groups):
            raise ValueError(
                f"{key} must be given by all parameter groups or by no group (they share one step "
                f"size), got it in {len(given)} of {len(groups)}; "
                f"give it to {owner.name} as {key}={given[0]!r}"
            )


def admitted(group: dict[str, Any], groups: Groups, defaults: Options, owner: Owner) -> dict:
    """Return a copy of a new group with its options complete and checked."""
    new = {key: value for key, value in group.items() if key not in owner.left}
    # A group with keys that steps leave was another optimizer's. Its options are dropped, too.
    new = _known(new, owner, used=len(new) < len(group))
    caps = [new.pop(key) for key in sorted({"max_lr", owner.cap}) if key in new]
    if len(caps) + ("lr" in new) > 1:
        raise ValueError(
            f"the cap of a parameter group must be given once, got {owner.cap} and lr; drop one"
        )
    if caps:
        new["lr"] = caps[0]
    own_cap = "lr" in new
    first = groups[0] if groups else {**defaults, **new}
    shared = {key: first[key] for key in owner.shared}
    new = {**shared, **{key: defaults[key] for key in OWN}, **new}
    _check_cap(new["lr"], owner.cap, zero=own_cap)
    check([*groups, new], owner.shared)
    return new


def _known(group: dict[str, Any], owner: Owner, used: bool) -> dict[str, Any]:
    options = {*owner.names, *OWN, "max_lr"}
    scheduled = used or "initial_lr" in group
    known = options | NEUTRAL | (SCHEDULERS if scheduled else set())
    new = {key: value for key, value in group.items() if key in known}
    if scheduled and "lr" in group:
        new.pop("max_lr", None)
    strange = [key for key in group if key not in known]
    if strange and not used:
        raise unknown("group key", strange[0], owner.name, ["lr", *sorted(options - {"lr"})])
    return new


def check_own_numbers(params: Iterable[Tensor]) -> None:
    """Raise ValueError for a parameter that is a lazy conjugate or negative of another tensor."""
    for p in params:
        # A lazy module's parameter has no numbers before its first forward pass.
        if not is_lazy(p) and (p.is_conj() or p.is_neg()):
            raise ValueError(
                "params must own their numbers, got the lazy conjugate or negative of another "
                "tensor; make the parameter from tensor.resolve_conj().resolve_neg()"
            )


def _check_cap(cap: Any, name: str, zero: bool) -> None:
    """Raise ValueError unless the cap is positive, or the ``zero`` of a group that stands still."""
    scalar = isinstance(cap, Tensor) and cap.numel() == 1 and not cap.is_complex()
    number = float(cap) if scalar else cap
    if not (is_number(number) and (number > 0.0 or (zero and number == 0.0))):
        wanted = "non-negative" if zero else "positive"
        raise ValueError(f"{name} must be {wanted} (or inf for no cap), got {cap!r}")


def check(groups: Groups, shared: Mapping[str, Rule]) -> None:
    """Raise ValueError for an option out of range, or a shared one that differs."""
    first = groups[0]
    for key, rule in shared.items():
        if not rule.admits(first[key]):
            raise ValueError(f"{key} must be {rule.wanted}, got {first[key]!r}")
    for group in groups:
        rate = group["weight_decay"]
        if not (is_number(rate) and 0.0 <= rate < math.inf):
            raise ValueError(f"weight_decay must be non-negative and finite, got {rate!r}")
        if group.get("maximize"):
            raise ValueError("maximize must be False, got True; negate the loss instead")
        for key in shared:
            if group[key] != first[key]:
                raise ValueError(
                    f"{key} must be equal in all parameter groups (they share one step size), "
                    f"got {first[key]} and {group[key]}"
                )


def is_number(value: Any) -> bool:
    """Return True if the value is a real number, not a tensor."""
    return isinstance(value, numbers.Real)


def check_caps(groups: Groups) -> bool:
    """Raise ValueError for a NaN cap; return True if a scheduler scales an infinite cap.

    A cap on another device, which could only be read by waiting, is left out.
    """
    in_vain = False
    for index, group in enumerate([] if torch.compiler.is_compiling() else groups):
        cap = group["lr"]
        on_host = not isinstance(cap, Tensor) or cap.device.type == "cpu"
        number = float(cap) if on_host else 0.0
        if math.isnan(number):
            raise ValueError(
                f"param_groups[{index}]['lr'] must be a number, got NaN, which a scheduler makes "
                "of an infinite cap; give a finite max_lr to a scheduler"
            )
        in_vain = in_vain or (number == math.inf and "initial_lr" in group)
    return in_vain


def settle(
    group: dict[str, Any], key: str, device: torch.device, dtype: torch.dtype, start: Any = 0.0
) -> None:
    """Create a scalar of a group if it is missing, else move it to a device and dtype."""
    value = group.get(key)
    # Other formats of checkpoints have plain numbers.
    if not isinstance(value, Tensor) or value.is_meta != (device.type == "meta"):
        start = value if is_number(value) else start
        group[key] = torch.full((), float(start), device=device, dtype=dtype)
    elif value.device != device or value.dtype != dtype or value.dim():
        group[key] = value.to(device=device, dtype=dtype).reshape(())


def understood(
    state_dict: dict[str, Any], groups: Groups, scalars: Iterable[str], buffers: Iterable[str]
) -> dict[str, Any]:
    """Return another optimizer's checkpoint, reduced to the entries that mean the same here."""
    taken = {"params", "initial_lr", *OWN, *scalars}
    merged = [
        {**mine, **{key: value for key, value in group.items() if key in taken}}
        for mine, group in zip(groups, state_dict["param_groups"], strict=True)
    ]
    state = {
        index: {name: kept[name] for name in buffers if name in kept}
        for index, kept in state_dict["state"].items()
    }
    return {**state_dict, "param_groups": merged, "state": state}
