"""Use a probe as a callback of Lightning's Trainer."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from corridor import _extras
from corridor.geometry import Probe
from corridor.geometry.point import Step


def probe_callback(
    *,
    loss: Callable[[Any, Any], Any] | None = None,
    every: int = 100,
    sink: Any = None,
    f_star: float = 0.0,
    step: Step | None = None,
    curvature: bool = False,
    engine: str = "auto",
    across_ranks: bool = False,
) -> Any:
    """Return a Lightning callback that measures every k training batches.

    It measures before the step on the batch, under the Trainer's precision, by the module's
    `training_step` without logging. The training does not change, bit for bit. Metrics of
    torchmetrics, and the module's public numbers, tensors, lists and dicts, are put back.

    Args:
        loss: ``loss(module, batch)`` in place of `training_step` (default: None). It is required
            with manual optimization.
        every: k, number of batches from one measurement to the next, at least 1 (default: 100).
        sink: as for `corridor.Probe`, like all that follow (default: None).
        f_star: lower bound of the loss (default: 0.0).
        step: step size of the secant, or a function of the measures (default: None).
        curvature: True adds the largest eigenvalue of the Hessian (default: False).
        engine: "auto" (default), or an engine of `corridor.geometry.jet`.
        across_ranks: True averages loss and derivatives over ranks (default: False).

    Returns:
        The callback. Its ``probe`` is the `corridor.Probe`, and None before the training starts.

    Raises:
        ImportError: Lightning is missing.

    Example:
        >>> callback = probe_callback(every=100, sink="probe.jsonl")  # Trainer(callbacks=[...])
    """
    options: dict[str, Any] = {"every": every, "sink": sink, "f_star": f_star, "step": step}
    options |= {"curvature": curvature, "engine": engine, "across_ranks": across_ranks}
    with _extras.required("lightning", extra="trainers"):
        from lightning.pytorch import Callback

    class ProbeCallback(Callback):
        """Call the probe at the start of every training batch."""

        probe: Any = None

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.probe = Probe(pl_module, **options)

        def on_train_batch_start(
            self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
        ) -> None:
            def closure() -> Any:
                context = trainer.precision_plugin.train_step_context()
                with _kept(pl_module), context:
                    if loss is not None:
                        return loss(pl_module, batch)
                    found = pl_module.training_step(batch, batch_idx)
                    return found["loss"] if isinstance(found, dict) else found

            self.probe(closure, at=trainer.fit_loop.total_batch_idx)  # counts on in a resumed run

    return ProbeCallback()


@contextmanager
def _kept(module: Any) -> Iterator[None]:
    """Log nothing, and put back what the module and its metrics count or collect in the block."""
    metrics = [part for part in module.modules() if _is_metric(part)]
    own = {k: v for k, v in vars(module).items() if not k.startswith("_")}
    backs = [(vars(part), _keep(vars(part))) for part in metrics]
    backs.append((vars(module), _keep(own)))
    for name in ("log", "log_dict"):
        object.__setattr__(module, name, lambda *_, **__: None)  # hides the method
    try:
        yield
    finally:
        del module.log, module.log_dict
        for attributes, back in backs:
            attributes.update(back())


def _is_metric(value: Any) -> bool:
    """Return True for a metric of torchmetrics, which need not be installed."""
    return hasattr(value, "_defaults") and hasattr(value, "_update_count")


def _keep(value: Any) -> Callable[[], Any]:
    """Return a function that puts back the content of a value, and returns the value."""
    if isinstance(value, torch.Tensor):
        content = value.detach().clone()
        return lambda: (value.data.copy_(content), value)[1]
    if _is_metric(value):
        attributes = _keep(dict(vars(value)))
        return lambda: (vars(value).update(attributes()), value)[1]
    if isinstance(value, dict):
        items = {k: _keep(v) for k, v in value.items()}
        return lambda: (value.clear(), value.update({k: b() for k, b in items.items()}), value)[2]
    if isinstance(value, list | deque):
        backs = [_keep(v) for v in value]
        return lambda: (value.clear(), value.extend([b() for b in backs]), value)[2]
    return lambda: value
