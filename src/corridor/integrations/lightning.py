"""The probe as a callback of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from corridor.geometry import Probe
from corridor.integrations._missing import missing


def probe_callback(*, loss: Callable[[Any, Any], Any] | None = None, **options: Any) -> Any:
    """A Lightning callback that measures the landscape every k training batches.

    It measures before the batch is trained on, under the Trainer's precision. By default the loss
    is what the module's `training_step` returns for the batch, its logging muted meanwhile; the
    training is bit for bit what it is without.

    Args:
        loss: ``loss(module, batch)``, in place of `training_step`; needed with manual optimization.
        options: those of `corridor.Probe`, such as ``every`` and ``sink``.

    Returns:
        The callback; its ``probe`` is the `Probe`, from the start of the training on.

    Raises:
        ValueError: Lightning is missing.

    Example:
        >>> callback = probe_callback(every=100, sink="probe.jsonl")  # Trainer(callbacks=[...])
        >>> callback.probe is None
        True
    """
    try:
        from lightning.pytorch import Callback
    except ModuleNotFoundError:
        raise missing("lightning") from None

    class ProbeCallback(Callback):
        """Calls the probe at the start of every training batch."""

        probe: Probe | None = None

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.probe = Probe(pl_module, **options)

        def on_train_batch_start(
            self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
        ) -> None:
            def closure() -> Any:
                with _muted(pl_module), trainer.precision_plugin.train_step_context():
                    if loss is not None:
                        return loss(pl_module, batch)
                    found = pl_module.training_step(batch, batch_idx)
                    return found["loss"] if isinstance(found, dict) else found

            assert self.probe is not None
            self.probe(closure)

    return ProbeCallback()


@contextmanager
def _muted(module: Any) -> Iterator[None]:
    """Inside, the module's logging goes nowhere."""
    names = ("log", "log_dict")
    for name in names:
        object.__setattr__(module, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name in names:
            object.__delattr__(module, name)
