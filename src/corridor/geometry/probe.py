"""The measures every k steps of a training loop, which does not notice."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from corridor._types import LossClosure, Params
from corridor.geometry import _inputs
from corridor.geometry.measures import Measures
from corridor.geometry.point import Step, measure
from corridor.geometry.sharpness import sharpness
from corridor.geometry.sinks import as_sinks


class Probe:
    """Measures the landscape under a training run, every k steps, leaving no trace in the run.

    Call it once a step, before the optimizer's, with the loss of the step's batch as a closure. On
    a CPU the training is bit for bit what it is without: the model, its ``.grad``, the random
    state and the data order are left as they were. A measurement costs three gradients, four with
    `step`, and about 17 more with `curvature`: at the default cadence, 3 to 4 % of the training.

    Args:
        params: what is trained: a list, groups, named pairs or the model.
        every: k, steps between measurements; the first call is measured.
        sink: where numbers go, as `corridor.geometry.sinks.as_sinks` reads it. They are in
            ``history``, a dict of lists, in any case.
        f_star: lower bound of the loss.
        step: step size, or what gives it from the measures (``lambda m: min(m.clr, 1.0)``): then
            the secant over such a step is measured, too.
        curvature: also find the Hessian's largest eigenvalue, from where it was found before.
        engine: as for `corridor.geometry.jet`.
        across_ranks: as for `corridor.geometry.jet`; every rank then calls the probe alike.

    Attributes:
        history: values by name, a list each, "step" among them.
        measures: the last measurement, None before the first.

    Raises:
        ValueError: as `corridor.measure`; or every is below 1. A loss that is not finite gives NaN.

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
        across_ranks: bool = False,
    ) -> None:
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a whole number of at least 1, got {every!r}")
        self.params = _inputs.parameters(params)
        self.every, self.f_star, self.step, self.engine = every, f_star, step, engine
        self.curvature, self.across_ranks = curvature, across_ranks
        self.history: dict[str, list[float]] = {}
        self.sinks = as_sinks([self.history, sink])
        self.measures: Measures | None = None
        self._count = 0
        self._top: list[Tensor] | None = None

    def __call__(self, closure: LossClosure, *, at: int | None = None) -> Measures | None:
        """Measure if it is time; None else.

        Args:
            closure: computes the loss of this step's batch, forward only.
            at: the number of the step, where it is not that of the call, as in a resumed run.
        """
        number = self._count if at is None else at
        self._count = number + 1
        return self.now(closure, number) if number % self.every == 0 else None

    def now(self, closure: LossClosure, number: int) -> Measures:
        """Measure, whether it is time or not, and hand the numbers to the sinks."""
        found = measure(
            closure,
            self.params,
            f_star=self.f_star,
            step=self.step,
            engine=self.engine,
            across_ranks=self.across_ranks,
            allow_nonfinite=True,
        )
        values: dict[str, float] = {"step": number, **found.as_dict()}
        if self.curvature:
            values |= self._curvature(closure, values)
        self.measures = found
        for sink in self.sinks:
            sink(values)
        return found

    def _curvature(self, closure: LossClosure, values: dict[str, float]) -> dict[str, float]:
        top = sharpness(
            closure,
            self.params,
            start=self._top,
            across_ranks=self.across_ranks,
            allow_nonfinite=True,
        )
        self._top = top.vector if top.products else None
        found = {"sharpness": top.value, "sharpness_residual": top.residual}
        if "secant_step" in values:
            found["stability_gap"] = top.stability_gap(values["secant_step"])
        return found

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to measure as an uninterrupted one: the last eigenvector."""
        return {"count": self._count, "top": self._top}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` gave."""
        self._count, top = state["count"], state["top"]
        pairs = zip(top or [], self.params, strict=False)
        self._top = [v.to(p.device) for v, p in pairs] if top else None
