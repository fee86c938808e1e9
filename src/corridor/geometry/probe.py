"""Measure every k steps of a training loop, without any effect on the training."""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from corridor._types import LossClosure, Params
from corridor.geometry import _inputs
from corridor.geometry.measures import Measures
from corridor.geometry.point import Step, measure
from corridor.geometry.sharpness import sharpness


class Probe:
    """Measure how close the loss is to a corridor, every k steps of a training run.

    Call it once per step, before the optimizer's step, with a closure that computes the loss of
    the current batch. On a CPU the training does not change, bit for bit. A measurement costs three
    gradients, four with `step`, and 20 to 40 more with `curvature`. At the default of 100 steps
    this is 3 to 4 % of the training, and 20 to 40 % with `curvature`.

    Args:
        params: the trained parameters: a list, parameter groups, named pairs or the model.
        every: k, the number of steps from one measurement to the next, at least 1 (default: 100).
            The first call measures.
        sink: where the numbers go besides `history` (default: None). It is a dict of lists, a
            ``.jsonl`` path, a TensorBoard writer (any object with ``add_scalar``), a callable that
            takes a dict, or a list of these.
        f_star: lower bound of the loss (default: 0.0).
        step: step size of the secant, or a function that returns it from the measures, such as
            ``lambda m: min(m.clr, 1.0)`` (default: None, no secant).
        curvature: True also computes the largest eigenvalue of the Hessian (default: False). Each
            search starts at the last eigenvector. It ends when `sharpness_bound` is within 10 %,
            or after 40 products.
        engine: "auto" (default), or an engine of `corridor.geometry.jet`.
        check: as for `corridor.geometry.jet` (default: None).
        across_ranks: True averages over all ranks, which then all call the probe (default: False).

    Attributes:
        history: one list of values per name, "step" included.
        measures: the last measures, None before the first.

    Raises:
        ValueError: every is below 1, sink has no known form, or as for `corridor.measure`.

    Example:
        >>> import torch, corridor
        >>> model = torch.nn.Linear(2, 1)
        >>> opt = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> probe = corridor.Probe(model, every=2, step=0.1)
        >>> for step in range(4):
        ...     x = torch.randn(8, 2)
        ...     closure = lambda: model(x).square().mean()
        ...     _ = probe(closure)
        ...     closure().backward()
        ...     opt.step()
        ...     opt.zero_grad()
        >>> probe.history["step"], len(probe.history["secant_decrease"])
        ([0, 2], 2)
    """

    def __init__(
        self,
        params: Params | nn.Module,
        *,
        every: int = 100,
        sink: Any = None,
        f_star: float = 0.0,
        step: Step | None = None,
        curvature: bool = False,
        engine: str = "auto",
        check: bool | None = None,
        across_ranks: bool = False,
    ) -> None:
        if not isinstance(every, int) or every < 1:
            raise ValueError(
                f"every must be a whole number of at least 1, got {every!r}; "
                "give the number of steps from one measurement to the next"
            )
        self.params = _inputs.parameters(params)
        self._given = params if isinstance(params, nn.Module) else self.params
        self.every, self.curvature = every, curvature
        self._options: dict[str, Any] = {"f_star": f_star, "step": step, "engine": engine}
        # A diverging run must not end in the probe.
        self._always = {"across_ranks": across_ranks, "check": check, "allow_nonfinite": True}
        self.history: dict[str, list[float]] = {}
        self.sinks = as_sinks([self.history, sink])
        self.measures: Measures | None = None
        self._count = 0
        self._top: list[Tensor] | None = None

    def __call__(self, closure: LossClosure, *, at: int | None = None) -> Measures | None:
        """Measure at every k-th step, and return None at all other steps.

        Args:
            closure: computes the loss of the current batch, forward only.
            at: number of the step (default: the number of calls so far). Give it in a resumed run.
        """
        number = self._count if at is None else at
        self._count = number + 1
        return self.now(closure, number) if number % self.every == 0 else None

    def now(self, closure: LossClosure, number: int) -> Measures:
        """Measure at a step with any number, and send the numbers to the sinks."""
        found = measure(closure, self._given, **self._options, **self._always)
        values: dict[str, float] = {"step": number, **found.as_dict()}
        if self.curvature:
            values |= self._curvature(closure, values)
        self.measures = found
        for sink in self.sinks:
            sink(values)
        return found

    def _curvature(self, closure: LossClosure, values: dict[str, float]) -> dict[str, float]:
        limits = {"tolerance": 0.1, "max_products": 40}
        top = sharpness(closure, self._given, start=self._top, **limits, **self._always)
        self._top = top.vector if top.products else None  # a NaN loss gives no vector
        found = {"sharpness": top.value, "sharpness_residual": top.residual}
        found |= {"sharpness_bound": top.bound}
        if "secant_step" in values:
            found["stability_gap"] = top.stability_gap(values["secant_step"])
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the step count and the last eigenvector, which a resumed run needs."""
        return {"count": self._count, "top": self._top}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the result of `state_dict`."""
        self._count, top = state["count"], state["top"]
        pairs = zip(top or [], self.params, strict=False)
        self._top = [v.to(p.device) for v, p in pairs] if top else None


Values = Mapping[str, float]


def as_sinks(given: Any) -> list[Callable[[Values], object]]:
    """Return a list of functions, each of which takes the values of one step by name."""
    if given is None:
        return []
    if isinstance(given, list | tuple):
        return [sink for one in given for sink in as_sinks(one)]
    if isinstance(given, dict):
        return [partial(_append, given)]
    if isinstance(given, str | Path):
        if Path(given).suffix != ".jsonl":
            raise ValueError(f"sink must be the path of a .jsonl file, got {given}; rename it")
        return [partial(_write_line, Path(given))]
    if hasattr(given, "add_scalar"):
        return [partial(_add_scalars, given)]
    if callable(given):
        return [given]
    raise ValueError(
        "sink must be a dict, a .jsonl path, a TensorBoard writer or a callable, "
        f"got {type(given).__name__}; give one of these or a list"
    )


def _append(history: dict[str, list[float]], values: Values) -> None:
    for name, value in values.items():
        history.setdefault(name, []).append(value)


def _write_line(path: Path, values: Values) -> None:
    """Append one line of JSON. A number that is not finite becomes a string, as in run folders."""
    plain = {k: v if math.isfinite(v) else str(v) for k, v in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain, allow_nan=False) + "\n")


def _add_scalars(writer: Any, values: Values) -> None:
    for name, value in values.items():
        if name != "step":
            writer.add_scalar(f"geometry/{name}", value, int(values["step"]))
