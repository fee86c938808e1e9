"""Run a solver of scipy step by step on a flat torch vector, within a budget of gradients."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from corridor import _torch
from corridor._extras import required
from corridor.flows.methods import Field
from corridor.flows.space import FlatLoss

MOST = 100  # more switches, as in a ReLU network, would end almost every step
# The arguments between which an operation switches; its input alone switches at 0.
AT_ZERO = {"abs", "relu", "leaky_relu", "sgn", "sign", "heaviside", "_prelu_kernel"}
BETWEEN = {"clamp", "clamp_min", "clamp_max", "hardtanh", "threshold"}
BETWEEN |= {"maximum", "minimum", "fmax", "fmin", "gt", "ge", "lt", "le"}
LARGEST = {"max": 1.0, "amax": 1.0, "min": -1.0, "amin": -1.0}


class SolverError(Exception):
    """Report why the solver cannot continue, in the words of `Trajectory.stopped`."""


class Solver:
    """Advance a flow by steps of DOP853, or of Radau if the derivative of the field is given."""

    def __init__(
        self,
        flat_loss: FlatLoss,
        field: Field,
        end: float,
        tolerance: float,
        budget: int,
        jacobian: Field | None = None,
    ) -> None:
        with required("scipy", extra="flows"):
            from scipy.integrate import DOP853, Radau
        if not 3e-14 <= tolerance < 1.0:
            raise ValueError(f"tolerance must be in [3e-14, 1), got {tolerance}; take 1e-9")
        self._method: Any = DOP853 if jacobian is None else Radau
        # DOP853 would only warn that it has no use for a Jacobian.
        self._options = {} if jacobian is None else {"jac": lambda t, y: self._numbers(jacobian, y)}
        self.flat_loss, self.field = flat_loss, field
        self.end, self.tolerance, self.budget = end, tolerance, budget
        start = flat_loss.start
        # The absolute tolerance follows the size of the start; a zero start has no size.
        self.scale = float(start.double().square().mean().sqrt()) or 1.0
        self.begun = 0.0  # time at the beginning of the last step
        # Time until a kink that the flow meets at a tangent, and the slow steps before it.
        self.grazing: float | None = None
        self.slow_steps = 0
        # With `reads`, points between the steps are read, and their accuracy limits the steps.
        self.reads, self._readable = False, math.inf
        self._switches, self._finite, self._fastest = True, True, 0.0
        self.restart(0.0, start)

    def restart(self, time: float, flat: Tensor, step: float | None = None) -> None:
        """Continue from another point, with a first step of the given size."""
        self.last_step = 0.0
        left = self.end - time
        self._steps = self._method(
            lambda t, y: self._numbers(self.field, y),
            time,
            flat.detach().cpu().double().numpy(),
            self.end,
            rtol=self.tolerance,
            atol=self.tolerance * self.scale,
            first_step=None if step is None or left <= 0.0 else min(step, left),
            **self._options,
        )

    def _numbers(self, function: Field, y: Any) -> Any:
        if self.flat_loss.gradients >= self.budget:
            raise SolverError("budget")
        value = function(self._to_flat(y))
        self._finite = bool(torch.isfinite(value).all())
        return value.detach().cpu().double().numpy()

    def _to_flat(self, y: Any) -> Tensor:
        # from_numpy shares memory with scipy, and a loss could overwrite the solver's state.
        return torch.from_numpy(y).to(self.flat_loss.start, copy=True)

    @property
    def time(self) -> float:
        return float(self._steps.t)

    def point(self) -> Tensor:
        """Return the current point as a flat vector."""
        return self._to_flat(self._steps.y)

    def velocity(self) -> Tensor:
        """Return the current velocity without a new gradient."""
        return self._to_flat(self._steps.f)

    @property
    def at_rest(self) -> bool:
        """Return True if the speed is 0 up to rounding of the initial speed."""
        self._fastest = self._fastest or self._speed()
        return self._speed() <= 1e-14 * self._fastest

    def _speed(self) -> float:
        return float(self.velocity().double().norm())

    def step(self, longest: float = math.inf) -> None:
        """Take one accepted step of at most the given size, or raise a SolverError."""
        steps = self._steps
        # scipy cannot choose a step size for a zero velocity.
        if steps.f is not None and not steps.f.any():
            raise SolverError("minimum")
        before, y = steps.t, steps.y.copy()
        while True:
            steps.max_step = min(longest, self._readable)
            steps.step()
            if steps.status == "failed":
                # Near an edge where E tends to -inf the speed grows without bound.
                diverges = self._speed() > 1e4 * self._fastest
                raise SolverError(
                    "not finite" if not self._finite else "left the domain" if diverges else "kink"
                )
            self._stepped, self._piece = steps, None
            if not self.reads or self._reads_well(float(steps.t - before)):
                break
            self.restart(before, torch.from_numpy(y), self._readable)
            steps = self._steps
        self.last_step = float(steps.t - before)

    def _reads_well(self, taken: float) -> bool:
        """Return True if the last step can be read between its ends, and adapt the next step."""
        # The last coefficient of DOP853's interpolant bounds its error. Radau controls its own.
        last = getattr(self.interpolant(), "F", None)
        if last is None:
            return True
        allowed = self.tolerance * (self.scale + abs(self._stepped.y))
        # The coefficient's factor x^4 (1 - x)^3 is at most 0.0084.
        error = float(((0.0084 * last[-1] / allowed) ** 2).mean()) ** 0.5
        self._readable = taken * (min(5.0, max(0.2, 0.9 * error ** (-1 / 7))) if error else 5.0)
        return error <= 1.0

    def time_to_switch(self) -> float:
        """Return the time until the first switch, if all move on at their rates; inf for none."""
        if not self._switches:
            return math.inf
        x, v, value = self.point(), self.velocity(), self.flat_loss.value
        speed, size = float(v.norm()), self.scale + float(x.norm())
        # The difference quotient is as long as rounding at a point of this size requires.
        wait = torch.finfo(x.dtype).eps ** 0.5 * size / speed if speed > 0.0 else 0.0
        now, then = _found_switches(value, x), _found_switches(value, x + wait * v)
        self._switches = 0 < len(now) <= MOST
        if not self._switches or len(now) != len(then) or wait == 0.0:
            return math.inf
        times = -wait * now / (then - now)
        return float(torch.where(times > 0.0, times, math.inf).min())

    def interpolant(self) -> Any:
        """Return the last step as a function of time, for `read`."""
        self._piece = self._piece or self._stepped.dense_output()
        return self._piece

    def read(self, piece: Any, time: float) -> Tensor:
        """Return the flat vector at a time, from the interpolant of a step."""
        return self._to_flat(piece(time))


class _Switches(_torch.DispatchMode):
    """Collect the numbers whose zeros are switches, such as the sign inside ``abs``, of a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, found = kwargs or {}, []
        name = func.overloadpacket.__name__.removesuffix("_")
        if name in AT_ZERO:
            found = [args[0]]
        elif name in BETWEEN:
            found = [args[0] - a for a in (*args[1:3], *kwargs.values()) if a is not None]
        elif name in LARGEST and isinstance(args[0], Tensor) and args[0].numel() > 1:
            found = [_leads(LARGEST[name] * args[0], args[1] if args[1:] else [])]
        elif name == "linalg_vector_norm" and args[1:2] in ((math.inf,), (-math.inf,)):
            sign = math.copysign(1.0, args[1])
            found = [_leads(sign * args[0].abs(), args[2] if args[2:] else [])]
        elif name == "linalg_vector_norm":
            found = [args[0] if args[1:2] == (1,) else func(*args, **kwargs)]
        self.found += [torch.as_tensor(value).detach().double().flatten() for value in found]
        return func(*args, **kwargs)


def _leads(values: Tensor, dims: int | list[int] | None) -> Tensor:
    """Return the lead of the largest number over the second, in each row along the dimensions."""
    dims = [dims] if isinstance(dims, int) else list(dims or range(values.dim()))
    rows = values.movedim(dims, list(range(-len(dims), 0))).flatten(-len(dims))
    two = rows.topk(min(2, rows.shape[-1])).values
    return two[..., 0] - two[..., -1] if two.shape[-1] > 1 else values.new_empty(0)


def _found_switches(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the numbers whose zeros are switches where a loss can have a kink."""
    with torch.no_grad(), _Switches() as mode:
        value(x)
    return torch.cat(mode.found) if mode.found else torch.empty(0)
