"""Check that the probe in other trainers measures the batch and does not change the training."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch
from tests.integration import plain
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import corridor.integrations
from corridor.geometry import measure
from corridor.integrations import lightning as for_lightning
from corridor.integrations import transformers as for_transformers

pl = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
MeanMetric = pytest.importorskip("torchmetrics", reason="comes with Lightning").MeanMetric
transformers = pytest.importorskip("transformers", reason="Transformers is not installed")
EVERY = 3


def network() -> nn.Module:
    """Return the plain loop's network with batch normalization and dropout."""
    return nn.Sequential(nn.BatchNorm1d(plain.FEATURES), nn.Dropout(0.2), plain.Network())


class Classifier(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.accuracy = MeanMetric()
        self.unregistered = {"losses": [MeanMetric()]}
        self.calls, self.seen, self.total = 0, [], torch.zeros(())

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = cross_entropy(self.network(x), y)
        self.accuracy(loss.detach())
        self.unregistered["losses"][0].update(loss.detach())
        self.calls += 1
        self.seen.append(loss.item())
        self.total += loss.detach()
        self.log("loss", loss, on_epoch=True)
        return {"loss": loss}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def with_lightning(*callbacks: Any, precision: str = "32-true") -> tuple[list[torch.Tensor], float]:
    torch.manual_seed(5)
    module = Classifier()
    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=list(callbacks),
        precision=precision,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(plain.dataset(plain.STEPS), plain.MICRO_BATCH, shuffle=True)
    trainer.fit(module, loader)
    logged = float(trainer.logged_metrics["loss_epoch"])
    metrics = (module.accuracy, module.unregistered["losses"][0])
    assert [m._update_count for m in metrics] == [module.calls] * 2 == [plain.STEPS] * 2
    assert [float(m.compute()) for m in metrics] == pytest.approx([logged] * 2)
    assert len(module.seen) == plain.STEPS
    assert float(module.total) == pytest.approx(sum(module.seen))
    return [*module.state_dict().values(), torch.get_rng_state()], logged


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.filterwarnings("ignore")
def test_lightning_trains_bit_for_bit_the_same(precision: str):
    history: dict[str, list[float]] = {}
    callback = for_lightning.probe_callback(every=EVERY, sink=history, step=0.1)
    without, logged = with_lightning(precision=precision)
    probed, seen = with_lightning(callback, precision=precision)
    assert all(torch.equal(a, b) for a, b in zip(without, probed, strict=True))
    assert logged == seen  # the log holds no loss of the probe
    assert history["step"] == [0, 3, 6]
    assert callback.probe.history == history


@pytest.mark.filterwarnings("ignore")
def test_steps_of_lightning_count_on_in_a_resumed_run(tmp_path):
    steps = []
    for epochs, resumed in ((1, None), (2, tmp_path / "last.ckpt")):
        callback = for_lightning.probe_callback(every=EVERY)
        trainer = pl.Trainer(
            max_epochs=epochs,
            callbacks=[callback],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loader = DataLoader(plain.dataset(plain.STEPS), plain.MICRO_BATCH)
        trainer.fit(Classifier(), loader, ckpt_path=resumed)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        steps += callback.probe.history["step"]
    assert steps == list(range(0, 2 * plain.STEPS, EVERY))


@pytest.mark.filterwarnings("ignore")
def test_lightning_measures_the_current_batch():
    seen = []

    def loss(module, batch):
        x, y = batch
        seen.append(float(measure(lambda: cross_entropy(module.network(x), y), module).rho))
        return cross_entropy(module.network(x), y)

    callback = for_lightning.probe_callback(every=EVERY, loss=loss)
    with_lightning(callback)
    assert callback.probe.history["rho"] == seen


class HubModel(nn.Module):
    def __init__(self, named: bool = True) -> None:
        super().__init__()
        self.network, self.named = network(), named

    def forward(self, x, labels=None):
        scores = self.network(x)
        loss = None if labels is None else cross_entropy(scores, labels)
        return {"loss": loss, "logits": scores} if self.named else {"logits": scores}


def with_transformers(
    tmp_path, *callbacks: Any, accumulate: int = 1, model: nn.Module | None = None
) -> list[torch.Tensor]:
    torch.manual_seed(5)
    model = model or HubModel()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=plain.MICRO_BATCH,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=1,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    points = [{"x": x, "labels": y} for x, y in plain.dataset(plain.STEPS * accumulate)]
    transformers.Trainer(model, arguments, train_dataset=points, callbacks=list(callbacks)).train()
    return [*model.state_dict().values(), torch.get_rng_state()]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.filterwarnings("ignore")
def test_the_hugging_face_trainer_trains_bit_for_bit_the_same(tmp_path, accumulate: int):
    callback = for_transformers.probe_callback(every=EVERY, step=0.1)
    without = with_transformers(tmp_path, accumulate=accumulate)
    probed = with_transformers(tmp_path, callback, accumulate=accumulate)
    assert all(torch.equal(a, b) for a, b in zip(without, probed, strict=True))
    assert callback.probe.history["step"] == [0, 3, 6]
    assert all(r > 0 for r in callback.probe.history["rho"])


class SharingModel(HubModel):
    """Divide the sum of losses by the number of labels of the whole step, as models of the hub."""

    def forward(self, x, labels=None, num_items_in_batch=None, **kwargs):
        scores = self.network(x)
        total = cross_entropy(scores, labels, reduction="sum")
        return {"loss": total / (num_items_in_batch or len(x)), "logits": scores}


@pytest.mark.filterwarnings("ignore")
def test_the_loss_of_a_micro_batch_is_its_own_mean(tmp_path):
    callback, other = (for_transformers.probe_callback(every=EVERY) for _ in range(2))
    with_transformers(tmp_path, callback, accumulate=2, model=SharingModel())
    with_transformers(tmp_path, other, accumulate=2)
    assert callback.probe.history["loss"][0] == pytest.approx(other.probe.history["loss"][0])
    assert callback.probe.history["clr"][0] == pytest.approx(other.probe.history["clr"][0])


@pytest.mark.filterwarnings("ignore")
def test_the_hugging_face_trainer_measures_the_last_inputs(tmp_path):
    seen = []

    def loss(model, inputs):
        scores = model.network(inputs["x"])
        seen.append(len(inputs["labels"]))
        return cross_entropy(scores, inputs["labels"])

    torch.manual_seed(5)
    ours = for_transformers.probe_callback(every=EVERY, loss=loss)
    with_transformers(tmp_path, ours)
    own = for_transformers.probe_callback(every=EVERY)
    with_transformers(tmp_path, own)
    assert seen == [plain.MICRO_BATCH] * 3
    assert ours.probe.history["rho"] == own.probe.history["rho"]
    with pytest.raises(ValueError, match=r"give probe_callback\(loss="):
        for_transformers._loss_of({"logits": torch.ones(2)})


def test_one_import_gives_both_callbacks():
    assert corridor.integrations.lightning is for_lightning
    assert corridor.integrations.transformers is for_transformers


def test_a_missing_library_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for module in (for_lightning, for_transformers):
        with pytest.raises(ImportError, match=r'pip install "corridor\[trainers\]"'):
            module.probe_callback()


@pytest.mark.filterwarnings("ignore")
def test_the_state_of_the_hugging_face_trainer_is_json(tmp_path):
    model = HubModel()
    opt = torch.optim.SGD(model.parameters(), lr=float("inf"))
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        logging_steps=1,
        max_grad_norm=0.0,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        lr_scheduler_type="constant",
    )
    points = [{"x": x, "labels": y} for x, y in plain.dataset(plain.STEPS)]
    callback = for_transformers.probe_callback(every=EVERY)
    trainer = transformers.Trainer(
        model, arguments, train_dataset=points, optimizers=(opt, None), callbacks=[callback]
    )
    trainer.train()
    trainer.save_state()

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    text = (tmp_path / "trainer_state.json").read_text()
    history = json.loads(text, parse_constant=refuse)["log_history"]
    assert [line["learning_rate"] for line in history if "loss" in line] == ["inf", "inf"]
