"""Check that a probe records the results of `measure` and does not change the training."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import corridor
from corridor.geometry import Probe, measure, sharpness


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip


def train(make: Any, probing: dict[str, Any] | None, epochs: int = 2) -> tuple[list, list[float]]:
    """Return parameters, state and random state after a run, and its losses."""
    model = network()
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(40, 1, 6, 6, generator=generator), torch.randint(0, 3, (40,))
    loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)  # drawn globally
    opt = make(model.parameters())
    probe = Probe(model, **probing) if probing is not None else None
    losses = []
    for _ in range(epochs):
        for inputs, targets in loader:

            def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
                return cross_entropy(model(inputs), targets)

            if probe is not None:
                probe(closure)
            loss = closure()
            loss.backward()
            if isinstance(opt, corridor.CLR):
                opt.step(loss=loss)
            else:
                opt.step()
            losses.append(loss.item())
            opt.zero_grad()
    left = [*model.state_dict().values(), torch.get_rng_state()]
    for state in opt.state.values():
        left += [v for v in state.values() if isinstance(v, Tensor)]
    return left, losses


OPTIMIZERS = {
    "clr": corridor.CLR,
    "clr momentum": lambda p: corridor.CLR(p, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("engine", ["auto", "forward_over_reverse", "central_differences"])
def test_training_is_bit_for_bit_what_it_is_without(name: str, engine: str):
    plain, losses = train(OPTIMIZERS[name], None)
    probing = {"every": 2, "step": 0.1, "curvature": engine == "auto", "engine": engine}
    probed, seen = train(OPTIMIZERS[name], probing)
    assert losses == seen
    assert len(plain) == len(probed)
    assert all(torch.equal(a, b) for a, b in zip(plain, probed, strict=True))


def test_it_records_what_measure_and_sharpness_find():
    model = network().double()
    x = torch.randn(8, 1, 6, 6, dtype=torch.float64)

    def closure() -> Tensor:
        return model(x).square().mean()

    torch.manual_seed(3)
    probe = Probe(model, every=3, step=lambda m: m.clr, curvature=True)
    found = [probe(closure) for _ in range(7)]
    assert [m is not None for m in found] == [True, False, False] * 2 + [True]
    assert probe.history["step"] == [0, 3, 6]
    torch.manual_seed(3)
    expected = measure(closure, model, step=lambda m: m.clr)
    assert probe.history["rho"][0] == float(expected.rho)
    assert expected.secant is not None
    assert probe.history["secant_decrease"][0] == float(expected.secant.decrease)
    top = sharpness(closure, model, tolerance=1e-5)
    assert probe.history["sharpness"] == pytest.approx([top.value] * 3, rel=1e-3)
    gap = probe.history["secant_step"][0] * probe.history["sharpness"][0] - 2
    assert probe.history["stability_gap"][0] == pytest.approx(gap)


def test_a_resumed_run_counts_on():
    x = nn.Parameter(torch.ones(2))
    probe = Probe([x], every=10)
    for step in range(95, 125):
        probe(lambda: x.square().sum(), at=step)
    assert probe.history["step"] == [100, 110, 120]


def test_numbers_go_to_every_sink(tmp_path: Path):
    class Writer:
        def __init__(self) -> None:
            self.scalars: list[tuple[str, float, int]] = []

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.scalars.append((name, value, step))

    writer, table, seen, path = Writer(), {}, [], tmp_path / "new" / "probe.jsonl"
    x = nn.Parameter(torch.tensor([3.0, 4.0]))
    probe = Probe([x], every=5, sink=[writer, table, seen.append, path])
    for _ in range(6):
        probe(lambda: x.norm())
    assert table == probe.history
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 5]
    assert lines[1]["clr"] == pytest.approx(5.0)
    assert [v["step"] for v in seen] == [0, 5]
    assert ("geometry/clr", pytest.approx(5.0), 5) in writer.scalars
    assert not any(name == "geometry/step" for name, *_ in writer.scalars)


def test_tensorboard_gets_them(tmp_path: Path):
    from torch.utils.tensorboard import SummaryWriter

    x = nn.Parameter(torch.ones(2))
    with SummaryWriter(str(tmp_path)) as writer:
        Probe([x], sink=writer)(lambda: x.square().sum())
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Scalars("geometry/rho")[0].value == pytest.approx(0.25)


def test_a_loss_that_is_not_finite_is_recorded_and_stops_nothing(tmp_path: Path):
    x = nn.Parameter(torch.ones(9))
    path = tmp_path / "probe.jsonl"
    probe = Probe([x], sink=path, step=0.1, curvature=True)
    probe(lambda: x.sum() * float("nan"))
    assert math.isnan(probe.history["rho"][0])
    assert json.loads(path.read_text())["loss"] == "nan"
    probe.now(lambda: x.square().sum(), 1)  # and the next one is as good as ever
    assert probe.history["sharpness"][1] == pytest.approx(2.0)


def test_wrong_input_is_one_clear_line(tmp_path: Path):
    x = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="every must be"):
        Probe([x], every=0)
    with pytest.raises(ValueError, match="sink must be"):
        Probe([x], sink=3)
    with pytest.raises(ValueError, match=r"\.jsonl"):
        Probe([x], sink=tmp_path / "table.csv")
    with pytest.raises(ValueError, match="one real number"):
        Probe([x])(lambda: x)


def test_the_model_may_be_copied_and_the_probe_with_it():
    model = nn.Linear(2, 1)
    probe = Probe(model, every=1)
    probe(lambda: model(torch.ones(1, 2)).square().sum())
    twin = copy.deepcopy(model)
    assert torch.equal(twin.weight, model.weight)
