"""The probe as a callback of the Hugging Face Trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from corridor.geometry import Probe
from corridor.integrations._missing import missing


def probe_callback(*, loss: Callable[[Any, dict], Any] | None = None, **options: Any) -> Any:
    """A Hugging Face callback that measures the landscape every k optimizer steps.

    It measures just before the optimizer's step, on the inputs the model saw last: under gradient
    accumulation on the last micro-batch. The training is bit for bit what it is without.

    Args:
        loss: ``loss(model, inputs)``, where the model's output holds none.
        options: those of `corridor.Probe`, such as ``every`` and ``sink``.

    Returns:
        The callback; its ``probe`` is the `Probe`, from the start of the training on.

    Raises:
        ValueError: Transformers is missing.

    Example:
        >>> callback = probe_callback(every=100, sink="probe.jsonl")  # Trainer(callbacks=[...])
        >>> callback.probe is None
        True
    """
    try:
        from transformers import TrainerCallback
    except ModuleNotFoundError:
        raise missing("transformers") from None

    class ProbeCallback(TrainerCallback):
        """Remembers the model's inputs and calls the probe before the optimizer's step."""

        probe: Probe | None = None
        inputs: dict[str, Any] | None = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.model = kwargs["model"]
            self.probe = Probe(self.model, **options)
            self.hook = self.model.register_forward_pre_hook(self._see, with_kwargs=True)

        def _see(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            if module.training and torch.is_grad_enabled():
                self.inputs = kwargs

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.probe is not None and self.inputs is not None:
                self.probe(self._closure, at=state.global_step)

        def _closure(self) -> Any:
            assert self.inputs is not None
            if loss is not None:
                return loss(self.model, dict(self.inputs))
            return _loss_of(self.model(**self.inputs))

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.hook.remove()
            self.inputs = None

    return ProbeCallback()


def _loss_of(output: Any) -> Any:
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if found is None:
        raise ValueError(
            "the model's output holds no loss to measure; give probe_callback(loss=...)"
        )
    return found
