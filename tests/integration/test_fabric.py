"""Check that CLR in Lightning Fabric takes the steps of the plain loop."""

from __future__ import annotations

import pytest
import torch
from tests.integration import plain
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import StepLR

from corridor import CLR

fabric_module = pytest.importorskip("lightning.fabric", reason="Lightning is not installed")
MixedPrecision = fabric_module.plugins.MixedPrecision


def start(**options):
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1, **options)
    fabric.launch()
    return fabric


def fit(
    fabric,
    *,
    accumulate: int = 1,
    clip: float | None = None,
    scaler=None,
    halve_cap_every: int | None = None,
    steps: int = plain.STEPS,
    **options,
):
    """Train in a loop as Fabric's users write it. The wrapper from `setup` watches the loss."""
    original = plain.Network()
    model, opt = fabric.setup(original, plain.optimizer(original, **options))
    record = plain.Record().follow(opt.optimizer)
    scheduler = StepLR(opt, halve_cap_every, gamma=0.5) if halve_cap_every else None
    data = plain.batches(steps * accumulate)
    for i, (x, y) in enumerate(fabric.setup_dataloaders(data), 1):
        with fabric.no_backward_sync(model, enabled=i % accumulate != 0):
            fabric.backward(opt.watch(cross_entropy(model(x), y), scaler) / accumulate)
        if i % accumulate == 0:
            if clip is not None and scaler is not None:
                scaler.unscale_(opt.optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            elif clip is not None:
                fabric.clip_gradients(model, opt, max_norm=clip)
            opt.step()
            opt.zero_grad()
            if scheduler is not None:
                scheduler.step()
    return record.end(original)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}], ids=["plain", "momentum"])
def test_float32(options: dict):
    assert not plain.differences(fit(start(), **options), plain.train(**options))


def test_accumulation():
    assert not plain.differences(fit(start(), accumulate=4), plain.train(accumulate=4))


def test_clipping():
    assert not plain.differences(fit(start(), clip=0.5), plain.train(clip=0.5))


def test_a_scheduler_scales_the_cap():
    options = {"max_lr": 2.0, "halve_cap_every": 2}
    assert not plain.differences(fit(start(), **options), plain.train(**options))


def test_bfloat16():
    run = fit(start(precision="bf16-mixed"))
    assert not plain.differences(run, plain.train(autocast=torch.bfloat16))


@pytest.mark.parametrize("accumulate", [1, 4])
def test_16_mixed(accumulate: int):
    """Watch before `backward`: Fabric scales inside it, so the watched loss is unscaled."""
    expected = plain.train(accumulate=accumulate, scaler=plain.high_scaler())
    assert 0 < expected.skipped < plain.STEPS // 2
    plugin = MixedPrecision("16-mixed", "cpu", plain.high_scaler())
    assert not plain.differences(fit(start(plugins=[plugin]), accumulate=accumulate), expected)


def test_16_mixed_with_clipping():
    """Clip by two lines of torch, because Fabric does not clip for optimizers that unscale."""
    plugin = MixedPrecision("16-mixed", "cpu", plain.high_scaler())
    with pytest.raises(NotImplementedError, match="Gradient clipping is not implemented"):
        fit(start(plugins=[plugin]), clip=0.5)
    expected = plain.train(clip=0.5, scaler=plain.high_scaler())
    assert 0 < expected.skipped < plain.STEPS // 2
    plugin = MixedPrecision("16-mixed", "cpu", plain.high_scaler())
    assert not plain.differences(
        fit(start(plugins=[plugin]), clip=0.5, scaler=plugin.scaler), expected
    )


def test_a_closure():
    fabric, original = start(), plain.Network()
    model, opt = fabric.setup(original, plain.optimizer(original))
    record = plain.Record().follow(opt.optimizer)
    for x, y in plain.batches(plain.STEPS):

        def closure(x=x, y=y):
            opt.zero_grad()
            loss = cross_entropy(model(x), y)
            fabric.backward(loss)
            return loss

        opt.step(closure)
    assert not plain.differences(record.end(original), plain.train())


def test_the_wrapper_takes_no_loss():
    fabric, original = start(), plain.Network()
    model, opt = fabric.setup(original, plain.optimizer(original))
    x, y = next(iter(plain.batches(1)))
    loss = cross_entropy(model(x), y)
    fabric.backward(loss)
    with pytest.raises(TypeError, match="unexpected keyword argument 'loss'"):
        opt.step(loss=loss)
    with pytest.raises(ValueError, match="no loss reached the optimizer"):
        opt.step()
    assert isinstance(opt, CLR)


def test_a_saved_run_goes_on(tmp_path):
    """Half the steps, saved and loaded into fresh objects, then the other half."""
    data = [(x, y) for x, y in plain.batches(plain.STEPS)]
    record = plain.Record()
    for half in (data[: plain.STEPS // 2], data[plain.STEPS // 2 :]):
        fabric, original = start(), plain.Network()
        model, opt = fabric.setup(original, plain.optimizer(original, momentum=0.9))
        record.follow(opt.optimizer)
        state = {"model": model, "optimizer": opt}
        if record.sizes:
            fabric.load(tmp_path / "saved.ckpt", state)
        for x, y in half:
            opt.zero_grad()
            fabric.backward(opt.watch(cross_entropy(model(x), y)))
            opt.step()
        fabric.save(tmp_path / "saved.ckpt", state)
        record.end(original)
    assert not plain.differences(record, plain.train(momentum=0.9))
