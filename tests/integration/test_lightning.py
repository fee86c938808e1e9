"""Check that CLR in the Lightning Trainer takes the steps of the plain loop."""

from __future__ import annotations

import warnings

import pytest
import torch
from tests.integration import plain
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import StepLR

from corridor import CLR

pl = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
MixedPrecision = pl.plugins.precision.MixedPrecision


class Classifier(pl.LightningModule):
    """Train the network of the plain loop. `on_before_backward` is the one line that CLR needs."""

    def __init__(self, halve_cap_every: int | None = None, **options) -> None:
        super().__init__()
        self.network = plain.Network()
        self.optimizer = plain.optimizer(self.network, **options)
        self.record = plain.Record().follow(self.optimizer)
        self.halve_cap_every = halve_cap_every

    def training_step(self, batch, batch_idx):
        x, y = batch
        return cross_entropy(self.network(x), y)

    def on_before_backward(self, loss):
        self.optimizers().watch(loss)

    def configure_optimizers(self):
        if self.halve_cap_every is None:
            return self.optimizer
        scheduler = StepLR(self.optimizer, self.halve_cap_every, gamma=0.5)
        schedule = {"scheduler": scheduler, "interval": "step"}
        return {"optimizer": self.optimizer, "lr_scheduler": schedule}


class Unwatched(Classifier):
    """Change nothing except the optimizer, as a user may."""

    def on_before_backward(self, loss):
        pass


class WatchedEarly(Unwatched):
    """Watch the loss before Lightning clears the gradients, as `attach` does."""

    def training_step(self, batch, batch_idx):
        return self.optimizers().watch(super().training_step(batch, batch_idx))


class ClippedUnderScaler(Classifier):
    """Clip by hand, because Lightning does not clip for optimizers that unscale."""

    @property
    def scaler(self):
        return self.trainer.precision_plugin.scaler

    def on_before_backward(self, loss):
        self.optimizers().watch(loss, scaler=self.scaler)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val, gradient_clip_algorithm):
        self.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)


class Manual(Classifier):
    """Train by manual optimization, with micro-batches."""

    def __init__(self, accumulate: int, **options) -> None:
        super().__init__(**options)
        self.automatic_optimization = False
        self.accumulate = accumulate

    def training_step(self, batch, batch_idx):
        x, y = batch
        opt = self.optimizers()
        self.manual_backward(cross_entropy(self.network(x), y) / self.accumulate)
        if (batch_idx + 1) % self.accumulate == 0:
            opt.step()
            opt.zero_grad()


class Two(pl.LightningModule):
    """Train two networks by two optimizers, as the page on trainers says."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.networks = nn.ModuleList([plain.Network() for _ in range(2)])
        self.owned = [plain.optimizer(network) for network in self.networks]
        self.records = [plain.Record().follow(opt) for opt in self.owned]

    def first_loss(self, batch):
        return cross_entropy(self.networks[0](batch[0]), batch[1])

    def second_loss(self, batch):
        """Pass a gradient to the first network as well, as a discriminator's loss does."""
        return cross_entropy(self.networks[1](batch[0]), batch[1]) + 0.0 * self.first_loss(batch)

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        for opt, loss_of in ((first, self.first_loss), (second, self.second_loss)):
            opt.zero_grad()
            self.manual_backward(opt.watch(loss_of(batch)))
            opt.step()

    def configure_optimizers(self):
        return self.owned


def trainer(tmp_path, **options):
    quiet = dict.fromkeys(
        ("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger"), False
    )
    fixed = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "default_root_dir": tmp_path}
    return pl.Trainer(**{**quiet, **fixed, **options})


def half() -> dict:
    """Train in 16-mixed from a scale that overflows at first, to compare skipped steps too."""
    return {"plugins": [MixedPrecision("16-mixed", "cpu", plain.high_scaler())]}


def fit(model: Classifier, tmp_path, *, micro_batches: int = plain.STEPS, resume=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers and logging
        running = trainer(tmp_path, **options)
        running.fit(model, plain.batches(micro_batches), ckpt_path=resume)
    return model.record.end(model.network)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}], ids=["plain", "momentum"])
@pytest.mark.parametrize("kind", [Classifier, Unwatched])
def test_float32(kind: type[Classifier], options: dict, tmp_path):
    assert not plain.differences(fit(kind(**options), tmp_path), plain.train(**options))


def test_drift_is_measured_though_gradients_are_cleared_after_the_forward(tmp_path):
    run = fit(WatchedEarly(drift=1e9, every=2), tmp_path)  # a limit that is never met
    assert not plain.differences(run, plain.train())


def test_accumulation(tmp_path):
    run = fit(Classifier(), tmp_path, micro_batches=4 * plain.STEPS, accumulate_grad_batches=4)
    assert not plain.differences(run, plain.train(accumulate=4))


def test_accumulation_needs_the_watched_loss(tmp_path):
    """Step without watch: Lightning's closure returns a quarter of the last micro-loss."""
    run = fit(Unwatched(), tmp_path, micro_batches=4 * plain.STEPS, accumulate_grad_batches=4)
    expected = plain.train(accumulate=4)
    assert run.norms[0] == pytest.approx(expected.norms[0], rel=plain.RTOL)
    assert run.sizes[0] < 0.5 * expected.sizes[0]


@pytest.mark.parametrize("accumulate", [1, 4])
def test_manual_optimization(accumulate: int, tmp_path):
    run = fit(Manual(accumulate), tmp_path, micro_batches=accumulate * plain.STEPS)
    assert not plain.differences(run, plain.train(accumulate=accumulate))


def test_two_optimizers(tmp_path):
    model = Two()
    trainer(tmp_path).fit(model, plain.batches(plain.STEPS))
    for record, network in zip(model.records, model.networks, strict=True):
        assert not plain.differences(record.end(network), plain.train())


def test_clipping(tmp_path):
    expected = plain.train(clip=0.5)
    assert max(expected.norms) < 0.5 * (1 + 1e-4)
    assert not plain.differences(fit(Classifier(), tmp_path, gradient_clip_val=0.5), expected)


def test_a_scheduler_scales_the_cap(tmp_path):
    options = {"max_lr": 2.0, "halve_cap_every": 2}
    expected = plain.train(**options)
    assert expected.caps == [2.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert not plain.differences(fit(Classifier(**options), tmp_path), expected)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_16_mixed(accumulate: int, tmp_path):
    expected = plain.train(accumulate=accumulate, scaler=plain.high_scaler())
    assert 0 < expected.skipped < plain.STEPS // 2
    run = fit(
        Classifier(),
        tmp_path,
        micro_batches=accumulate * plain.STEPS,
        accumulate_grad_batches=accumulate,
        **half(),
    )
    assert not plain.differences(run, expected)


def test_16_mixed_needs_the_watched_loss(tmp_path):
    with pytest.raises(ValueError, match="no loss reached the optimizer"):
        fit(Unwatched(), tmp_path, **half())


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_bfloat16(precision: str, tmp_path):
    """Ask for 16-mixed on a CPU: Lightning warns and takes bfloat16, without a scaler."""
    run = fit(Classifier(), tmp_path, precision=precision)
    assert not plain.differences(run, plain.train(autocast=torch.bfloat16))


def test_16_mixed_with_clipping(tmp_path):
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        fit(Classifier(), tmp_path, gradient_clip_val=0.5, **half())
    expected = plain.train(clip=0.5, scaler=plain.high_scaler())
    assert 0 < expected.skipped < plain.STEPS // 2
    assert max(expected.norms) < 0.501
    assert not plain.differences(
        fit(ClippedUnderScaler(), tmp_path, gradient_clip_val=0.5, **half()), expected
    )


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    """Resume with momentum and a schedule, which need the state of the optimizer."""
    options = {"momentum": 0.9, "max_lr": 2.0, "halve_cap_every": 3}
    first = Classifier(**options)
    fit(first, tmp_path, enable_checkpointing=True)
    [checkpoint] = tmp_path.rglob("*.ckpt")
    second = Classifier(**options)
    fit(second, tmp_path, resume=checkpoint, max_epochs=2)
    second.record.sizes[:0] = first.record.sizes
    second.record.norms[:0] = first.record.norms
    second.record.caps[:0] = first.record.caps
    assert not plain.differences(second.record, plain.train(epochs=2, **options))


def test_the_wrapped_optimizer_is_still_clr(tmp_path):
    model = Classifier()
    fit(model, tmp_path)
    assert isinstance(model.optimizers(), CLR)
    assert float(model.optimizers().param_groups[0]["effective_lr"]) == model.record.sizes[-1]
