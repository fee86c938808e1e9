"""Train a small problem in plain torch, for comparison with every trainer.

The loop passes the loss by ``step(loss=...)``, and trainers pass it by hooks. So the comparison is
between two ways for the loss to arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from corridor import CLR

Batch = tuple[Tensor, Tensor]
STEPS, MICRO_BATCH, FEATURES, CLASSES = 8, 8, 12, 4
# A trainer does the operations of the plain loop in its order. Only sums of micro-losses may round
# differently, by 6e-8 per step in float32, and eight steps carry this on. A wrong loss changes the
# steps by percents.
RTOL = 1e-6


class Network(nn.Module):
    """Compute scores of a few classes. A fixed seed makes all runs start equal."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def dataset(micro_batches: int) -> TensorDataset:
    """Return points around the directions of the classes, with noise."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(CLASSES, FEATURES, generator=generator)
    labels = torch.randint(CLASSES, (micro_batches * MICRO_BATCH,), generator=generator)
    noise = torch.randn(len(labels), FEATURES, generator=generator)
    return TensorDataset(directions[labels] + noise, labels)


def batches(micro_batches: int) -> DataLoader:
    """Return the micro-batches in a fixed order."""
    return DataLoader(dataset(micro_batches), batch_size=MICRO_BATCH)


def optimizer(model: nn.Module, **options) -> CLR:
    """Return CLR with the paper's cap for large data sets, which has no effect here."""
    return CLR(model.parameters(), **{"max_lr": 10.0, **options})


def high_scaler() -> torch.amp.GradScaler:
    """Return a scaler whose first scales overflow float16."""
    return torch.amp.GradScaler("cpu", init_scale=2.0**20)


@dataclass
class Record:
    """Hold step sizes, norms and caps after each step of a run, and its last weights."""

    sizes: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    caps: list[float] = field(default_factory=list)
    skipped: int = 0
    weights: list[Tensor] = field(default_factory=list)

    def follow(self, opt: CLR) -> Record:
        """Record every step that the optimizer makes from now on."""

        def note(stepped, args, kwargs) -> None:
            first = stepped.param_groups[0]
            self.sizes.append(float(first["effective_lr"]))
            skipped = int(first["skipped"]) > self.skipped
            # An overflow leaves inf or NaN, as the trainer's own arithmetic on it has it.
            self.norms.append(0.0 if skipped else float(first["grad_norm"]))
            self.caps.append(float(first["lr"]))
            self.skipped = int(first["skipped"])

        opt.register_step_post_hook(note)
        return self

    def end(self, model: nn.Module) -> Record:
        """Keep the weights."""
        self.weights = [p.detach().clone() for p in model.parameters()]
        return self


def differences(run: Record, expected: Record, rtol: float = RTOL) -> list[str]:
    """List the differences of two runs. Weights may differ by ``rtol`` of the largest."""
    pairs = {
        "steps skipped": (run.skipped, expected.skipped),
        "caps": (run.caps, expected.caps),
        "step sizes": (run.sizes, pytest.approx(expected.sizes, rel=rtol)),
        "norms": (run.norms, pytest.approx(expected.norms, rel=rtol)),
        "numbers of weights": (len(run.weights), len(expected.weights)),
    }
    found = [
        f"{name}: {got}, expected {want}" for name, (got, want) in pairs.items() if got != want
    ]
    for index, (got, want) in enumerate(zip(run.weights, expected.weights, strict=False)):
        near = rtol * float(want.abs().max())
        if got.dtype != want.dtype or not torch.allclose(got, want, rtol=rtol, atol=near):
            found.append(f"weights {index}: {got}, expected {want}")
    return found


def mean_losses(model: nn.Module, group: Sequence[Batch]) -> Iterable[Tensor]:
    """Yield the terms of the mean loss over micro-batches."""
    for x, y in group:
        yield cross_entropy(model(x), y) / len(group)


def train(
    *,
    accumulate: int = 1,
    clip: float | None = None,
    halve_cap_every: int | None = None,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    epochs: int = 1,
    steps: int = STEPS,
    terms: Callable[[nn.Module, Sequence[Batch]], Iterable[Tensor]] = mean_losses,
    **options,
) -> Record:
    """Train in plain torch, without a trainer. A scaler implies autocast to float16."""
    autocast = torch.float16 if scaler else autocast
    model = Network()
    opt = optimizer(model, **options)
    record = Record().follow(opt)
    scheduler = StepLR(opt, halve_cap_every, gamma=0.5) if halve_cap_every else None
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    for _ in range(epochs):
        data: list[Batch] = [(x, y) for x, y in batches(steps * accumulate)]
        for i in range(steps):
            opt.zero_grad()
            loss = torch.zeros(())
            with torch.autocast("cpu", autocast, enabled=autocast is not None):
                for term in terms(model, data[i * accumulate : (i + 1) * accumulate]):
                    scaler.scale(term).backward()
                    loss += term.detach()
            if clip is not None:
                scaler.unscale_(opt)
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            scaler.step(opt, loss=loss)
            scaler.update()
            if scheduler is not None:
                scheduler.step()
    assert len(set(record.sizes)) > steps // 2  # else the cap, not the loss, is being compared
    return record.end(model)
