"""Use a probe as a callback of the Hugging Face Trainer."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from corridor import _extras
from corridor.geometry import Probe
from corridor.geometry.point import Step


def probe_callback(
    *,
    every: int = 100,
    step: Step | None = None,
    curvature: bool = False,
    sink: Any = None,
    loss: Callable[[Any, dict], Any] | None = None,
    f_star: float = 0.0,
    engine: str = "auto",
    across_ranks: bool = False,
) -> Any:
    """Return a Hugging Face callback that measures every k optimizer steps.

    It measures just before the optimizer's step, on the last inputs of the model. Under gradient
    accumulation these are the last micro-batch. The training does not change, bit for bit. Logged
    numbers that are not finite are strings in trainer_state.json.

    Args:
        loss: ``loss(model, inputs)``. It is required if the output of the model holds no loss
            (default: None).
        every: k, number of optimizer steps from one measurement to the next (default: 100).
        sink: as for `corridor.Probe`, like all that follow (default: None).
        f_star: lower bound of the loss (default: 0.0).
        step: step size of the secant, or a function of the measures (default: None).
        curvature: True adds the largest eigenvalue of the Hessian (default: False).
        engine: "auto" (default), or an engine of `corridor.geometry.jet`.
        across_ranks: True averages loss and derivatives over ranks (default: False).

    Returns:
        The callback. Its ``probe`` is the `corridor.Probe`, and None before the training starts.

    Raises:
        ImportError: Transformers is missing.
    """
    with _extras.required("transformers", extra="trainers"):
        from transformers import TrainerCallback
    options: dict[str, Any] = {"every": every, "step": step, "curvature": curvature, "sink": sink}
    options |= {"f_star": f_star, "engine": engine, "across_ranks": across_ranks}

    class ProbeCallback(TrainerCallback):
        """Keep the last inputs of the model, and call the probe before the optimizer's step."""

        probe: Any = None
        inputs: Any = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.model = kwargs["model"]
            self.alone = args.gradient_accumulation_steps * args.world_size == 1
            self.hook = self.model.register_forward_pre_hook(self._see, with_kwargs=True)
            self.probe = Probe(self.model, **options)

        def _see(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            if module.training and torch.is_grad_enabled():  # not the evaluation in between
                # A share of all batches of the step would make the loss of one batch too small.
                shared = {} if self.alone else {"num_items_in_batch"}
                self.inputs = {name: kwargs[name] for name in kwargs.keys() - shared}

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.probe is not None and self.inputs is not None:
                self.probe(self._closure, at=state.global_step)

        def _closure(self) -> Any:
            if loss is not None:
                return loss(self.model, dict(self.inputs))  # the user may change the copy
            return _loss_of(self.model(**self.inputs))

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # The Trainer writes the log to trainer_state.json, and JSON has no infinite numbers.
            for line in state.log_history[-1:]:
                for name, value in line.items():
                    if isinstance(value, float) and not math.isfinite(value):
                        line[name] = str(value)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.hook.remove()
            self.inputs = None

    return ProbeCallback()


def _loss_of(output: Any) -> Any:
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if found is None:
        raise ValueError("output must hold a loss, got none; give probe_callback(loss=...)")
    return found
