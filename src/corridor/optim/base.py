"""Run every step-size rule as one torch optimizer: take the loss, choose the size, move.

An optimizer has a loss channel (`_loss`), limits (`_limit`) and a motion (`_motion`) in a metric
(`_metric`). docs/architecture.md shows how to add them. A rule is a method, `step_size_rule`.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from corridor import _reduce, _tree
from corridor._types import Params
from corridor.optim import _bucket, _options, step_size
from corridor.optim._bucket import NORM, WEIGHTS, Sums
from corridor.optim._health import MISSING, SCHEDULED, Health
from corridor.optim._limit import Limit
from corridor.optim._loss import AttachedWatch, LossChannel
from corridor.optim._motion import Descent, HeavyBall
from corridor.optim._options import Memory, Sized
from corridor.optim._step import Step, cap_of

RULE = "rule"  # the class that wrote a checkpoint


class PolyakOptimizer(Optimizer):
    """Take steps whose size follows from the loss. `corridor.CLR` and its relatives derive from it.

    A subclass gives the defaults and, for another rule, overrides `step_size_rule`. All memory
    of a step lives in ``param_groups`` and ``state``; see `corridor.CLR` for the keys and the
    arguments. ``options`` are the rule's own options by name (default: none).
    """

    OPTIONS: ClassVar[Mapping[str, _options.Rule]] = {}  # the rule's own, equal in all groups
    # The scalars that the rule keeps, with their first values or the options that hold these.
    MEMORY: ClassVar[Mapping[str, float | str]] = {}
    MOTION: ClassVar[Descent] = HeavyBall()  # of a step with momentum
    LIMITS: ClassVar[tuple[Limit, ...]] = ()  # bound a step in addition to the cap
    CAP: ClassVar[str] = "max_lr"  # its name among the arguments
    _owner: ClassVar[_options.Owner]

    # GradScaler then passes its scale and verdict to the step and does not unscale by itself. A
    # watched loss is scaled as the gradients are, and both must be unscaled together.
    _step_supports_amp_scaling = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in cls.__dict__:
            cls.__init__ = _options.naming(cls.__init__)
        cls._owner = cls._described()

    @_options.naming
    def __init__(
        self, params: Params, max_lr: float = 1.0, *, f_star: float = 0.0, momentum: float = 0.0,
        weight_decay: float = 0.0, average_loss: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        given = locals()
        self._begin({**given, **(given.pop("options") or {})})

    def _begin(self, given: dict[str, Any]) -> None:
        """Do the work of every constructor in this family, given its arguments by name."""
        options = {"f_star": 0.0, **given}
        params, options["lr"] = options.pop("params"), options.pop(self.CAP)
        del options["self"]
        self._reset()
        if not isinstance(params, Tensor):
            params = list(params)
            groups = [group for group in params if isinstance(group, dict)]
            _options.check_given(groups, self._owner)
        super().__init__(params, options)

    def _reset(self) -> None:
        """Create the attributes that are not saved: loss channel, warnings and cache."""
        self._channel = LossChannel(self)
        self._health = Health()
        self._cache: dict[str, Any] = {}

    def watch(self, loss: Tensor, scaler: Any = None) -> Tensor:
        """Watch a loss before its backward pass. The next `step` uses it.

        Several watched losses add up with their weights in what is differentiated, as gradients do:
        with ``(loss / k).backward()`` over k micro-batches the step uses their mean. What is
        differentiated must be a weighted sum of watched losses, not another function of them. A
        loss counts if its backward pass changes a ``.grad`` of this optimizer, and as long as that
        gradient exists. `step` forgets it.

        Args:
            loss: scalar tensor.
            scaler: the run's GradScaler, needed if it unscales gradients before the step
                (default: None).

        Returns:
            The loss, for ``opt.watch(loss).backward()``.

        Raises:
            ValueError: the loss is not one real number, or this optimizer watches it already.
        """
        self._channel.watch(loss, scaler, self._measure if self._limits() else None)
        return loss

    def attach(self, model: torch.nn.Module, scaler: Any = None) -> RemovableHandle:
        """Watch the loss in every output of a model, for trainers that call ``step()`` alone.

        Args:
            model: returns a scalar loss, an object with ``.loss`` or ``["loss"]``, or a tuple with
                the loss first.
            scaler: as for `watch` (default: None).

        Returns:
            A handle. Its ``remove()`` ends the watching.
        """
        return model.register_forward_hook(AttachedWatch(self, scaler))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients and the losses that were watched.

        Args:
            set_to_none: set the gradients to None instead of 0 (default: True).
        """
        self._channel.clear(within=True)
        super().zero_grad(set_to_none)

    # The scalars and buffers that a step makes must be ordinary tensors, also in inference mode.
    @torch.inference_mode(False)
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step.

        Args:
            closure: computes the loss, runs backward and returns the loss (default: None).
            loss: the loss whose gradient is in ``.grad``, a scalar tensor or a number
                (default: None).

        Returns:
            The closure's result, else the given loss, else None.

        Raises:
            ValueError: there is no loss, more than one, or one that is not a real number; a cap is
                NaN, an option is out of range, or a gradient is sparse.
        """
        try:
            given, value, watched = self._channel.take(closure, loss)
            _options.check(self.param_groups, self._owner.shared)
            if _options.check_caps(self.param_groups):
                self._health.warn("scheduled", SCHEDULED)
            motion, limits = self._motion(), self._limits()
            measured: Memory = {}
            for limit in limits if value is not None else []:
                measured |= limit.collect(watched, type(self).__name__)
            known = 0 if torch.compiler.is_compiling() else len(self.state)
            names = [*motion.buffers, *(name for limit in limits for name in limit.buffers)]
            scale = getattr(self, "grad_scale", None)
            found = _bucket.buckets(self.param_groups, self.state, names, scale)
        except ValueError:
            for name in ("grad_scale", "found_inf"):  # GradScaler drops them only if a step ends
                self.__dict__.pop(name, None)
            raise
        device, dtype = self._settle_scalars()
        if motion.memory:
            for p in filter(self.state.__contains__, self._params()):
                moves = value is not None and p.grad is not None
                motion.mark(self.state[p], moves, self.param_groups[0])
        if value is not None:
            self._check_whole()
            if not found and all(p.grad is None for p in self._params()):
                self._health.warn("flat", MISSING)
            value = _reduce.whole(value).to(device=device, dtype=dtype)
            skip = Step(self, found, motion, limits).take(value, measured)
            if 0 < known < len(self.state) and skip:
                for p in [*self.state][known:]:  # they have not joined yet
                    del self.state[p]
            for limit in limits:
                limit.count(self.param_groups[0], measured)
        return given

    def step_size_rule(self, loss: Tensor, norm_sq: Tensor, memory: Memory) -> Sized:
        """Return the step size before any limit, and new values for the names in `MEMORY`."""
        first = self.param_groups[0]
        scale = first.get("scale", 1.0)
        return step_size.clr(loss, norm_sq, f_star=first["f_star"], scale=scale), memory

    def step_size_at(self, loss: Tensor, norm_sq: Tensor) -> Tensor:
        """Return the first group's step size for a loss and gradient norm, without momentum.

        Nothing is stored. Limits that need further sums do not apply.
        """
        self._settle_scalars()  # an option may have been set since the last step
        first = self.param_groups[0]
        limits = [limit for limit in self._limits() if not limit.sums]
        memory = {key: first[key] for key in self._scalars(self._motion(), limits)}
        raw, _ = self.step_size_rule(loss, norm_sq, dict(memory))
        sums = Sums((NORM,), norm_sq.reshape(1, 1))
        now = _options.Now(first, memory, norm_sq.dtype)
        for limit in limits:
            raw = torch.minimum(raw, limit.bound(loss, sums, now))
        return self.capped(raw, cap_of(first, raw))

    def capped(self, raw: Tensor, cap: Tensor | float) -> Tensor:
        """Return the step size under a group's cap."""
        return torch.clamp(raw, max=cap)

    def _measure(self, loss: Tensor) -> Memory:
        """Return what the limits measure on the graph of a watched loss."""
        self._settle_scalars()  # an option may have been set since the last step
        limits = self._limits()
        return {key: value for limit in limits for key, value in limit.watch(loss, self).items()}

    def _check_whole(self) -> None:
        """Raise ValueError at the first step if ranks hold different parameters."""
        if torch.compiler.is_compiling():
            return
        count = len(self._params())
        if self._cache.get("whole") != count:
            if self.param_groups[0]["average_loss"]:
                _reduce.check_whole(self._params())
            self._cache["whole"] = count

    @torch.inference_mode(False)
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group.

        Args:
            param_group: ``params``, and optionally a cap (``max_lr`` or ``lr``) and weight_decay.

        Raises:
            TypeError: the group is not a dict, or a key is not an option of this optimizer.
            ValueError: an option is out of range, or differs from one that all groups share. A
                parameter is a lazy conjugate or negative, which cannot be changed in place.
        """
        if isinstance(param_group, dict):  # else torch raises its TypeError
            given = param_group
            param_group = _options.admitted(given, self.param_groups, self.defaults, self._owner)
        super().add_param_group(param_group)
        _options.check_own_numbers(self.param_groups[-1]["params"])
        self._settle_scalars()

    @classmethod
    def _described(cls) -> _options.Owner:
        """Return the options of this class, as its constructor names them, and their ranges."""
        inits = (kind.__dict__["__init__"] for kind in cls.__mro__ if "__init__" in kind.__dict__)
        named = next(names for names in map(_options.arguments, inits) if names is not None)
        names = [name for name in named if name not in ("params", "options")]
        shared = {**_options.SHARED, **cls.MOTION.metric.OPTIONS, **cls.OPTIONS}
        left = {RULE, "skipped", "grad_norm", "effective_lr", *cls.MEMORY, *cls.MOTION.memory}
        for limit in cls.LIMITS:
            shared |= limit.OPTIONS
            left |= {*limit.MEMORY, *limit.counters}
        return _options.Owner(cls.__name__, names, cls.CAP, shared, left)

    def _motion(self) -> Descent:
        """Return the motion of the next step. With momentum 0, a motion with buffers continues."""
        motion = self.MOTION
        if motion.acts(self.param_groups[0]):
            return motion
        # `state` may hold foreign entries, with keys that are not parameters.
        kept = (self.state[p] for p in self._params() if p in self.state) if self.state else ()
        return motion if any(name in own for own in kept for name in motion.buffers) else Descent()

    def _limits(self) -> list[Limit]:
        """Return the limits that the options turn on."""
        first = self.param_groups[0]
        return [one for one in self.LIMITS if one.option is None or first[one.option] is not None]

    def _scalars(self, motion: Descent, limits: list[Limit]) -> dict[str, float | str]:
        """Return the scalars of a step with first values, or the options that hold the values."""
        kept = [motion.memory, self.MEMORY, *(limit.MEMORY for limit in limits)]
        return {key: start for scalars in kept for key, start in scalars.items()}

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _first(self) -> dict[str, Any]:
        """Return the first group, which holds the scalars, also after groups were exchanged."""
        first = self.param_groups[0]
        held = self._cache.get("first") or next((g for g in self.param_groups if RULE in g), first)
        if held is not first:
            moved = (self._owner.left - {"effective_lr"}) & held.keys()
            first.update({key: held.pop(key) for key in moved})
        self._cache["first"] = first
        return first

    def _settle_scalars(self) -> tuple[torch.device, torch.dtype]:
        """Create the scalars in the groups, and return their device and (wide) dtype."""
        params = self._params()
        device = params[0].device if params else torch.device("cpu")
        dtype = _tree.accumulation_dtype(params)
        first, limits = self._first(), self._limits()
        first[RULE] = type(self).__name__
        _options.settle(first, "skipped", device, torch.int64)
        for counter in (counter for limit in limits for counter in limit.counters):
            # A tensor on the host: `watch` reads it, and a compiled step must not depend on it.
            _options.settle(first, counter, torch.device("cpu"), torch.int64)
        for key, start in {"grad_norm": 0.0, **self._scalars(self._motion(), limits)}.items():
            start = first[start] if isinstance(start, str) else start
            _options.settle(first, key, device, dtype, start)
        for group in self.param_groups:
            _options.settle(group, "effective_lr", device, dtype)
        return device, dtype

    def state_dict(self) -> dict[str, Any]:
        """Return copies of state and groups, which later steps do not change.

        No tensor is in two entries, because DCP loads into these tensors in place.
        """
        saved = super().state_dict()
        state = {key: copy.deepcopy(kept) for key, kept in saved["state"].items()}
        groups = [copy.deepcopy(group) for group in saved["param_groups"]]
        return {**saved, "state": state, "param_groups": groups}

    @torch.inference_mode(False)
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint, of this or of another optimizer.

        Another optimizer's checkpoint provides caps and weight decay, and averages or velocities
        if both optimizers keep them. The options and scalars of the rule stay as they are.

        Args:
            state_dict: what a `state_dict` method returned.
        """
        theirs = state_dict["param_groups"]
        ours = any(group.get(RULE) == type(self).__name__ for group in theirs)
        if not ours and len(theirs) == len(self.param_groups):
            scalars = self.MOTION.memory
            kept = [*self.MOTION.buffers, *(scalars.keys() & WEIGHTS)]
            state_dict = _options.understood(state_dict, self.param_groups, scalars, kept)
        # torch casts tensors to the parameter's dtype, and does not copy those that have it.
        state = copy.deepcopy(state_dict["state"])
        for kept in (kept for kept in state.values() if isinstance(kept, dict)):
            plain = [key for key in WEIGHTS if not getattr(kept.get(key), "is_meta", True)]
            kept.update({key: float(kept[key]) for key in plain})
        super().load_state_dict({**state_dict, "state": state})

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_channel" not in self.__dict__:  # unpickled or copied
            self._reset()
        super().__setstate__(state)
        self._restore()

    def _restore(self) -> None:
        """Complete the groups after loading, and reset what is not saved."""
        self._channel.clear()
        self._health, self._cache = Health(), {}
        shared = self._owner.shared
        for group in self.param_groups:
            for key in (*_options.OWN, *shared):
                group.setdefault(key, self.defaults[key])
        if self.param_groups:
            _options.check(self.param_groups, shared)
            scalar, states = self._settle_scalars(), [self.state.get(p, {}) for p in self._params()]
            for kept, key in ((kept, key) for kept in states for key in WEIGHTS if key in kept):
                weight = self.param_groups[0].get(key)
                _options.settle(kept, key, *scalar)
                if weight is not None and not weight.is_meta and kept[key].equal(weight):
                    kept[key] = weight


PolyakOptimizer._owner = PolyakOptimizer._described()
