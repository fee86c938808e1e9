"""Check that CLR under Hugging Face Accelerate takes the steps of the plain loop."""

from __future__ import annotations

import pytest
import torch
from tests.integration import plain
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import StepLR

accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed")


@pytest.fixture(autouse=True)
def no_state_left():
    """Reset Accelerate's singletons."""
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def start(**options):
    return accelerate.Accelerator(cpu=True, **options)


def fit(
    accelerator,
    *,
    clip: float | None = None,
    scaler=None,
    halve_cap_every: int | None = None,
    steps: int = plain.STEPS,
    **options,
):
    """Train in a loop as Accelerate's users write it. `prepare` wraps the optimizer `clr`."""
    model = plain.Network()
    clr = plain.optimizer(model, **options)
    record = plain.Record().follow(clr)
    scheduler = StepLR(clr, halve_cap_every or 1, gamma=0.5 if halve_cap_every else 1.0)
    data = plain.batches(steps * accelerator.gradient_accumulation_steps)
    model, opt, data, scheduler = accelerator.prepare(model, clr, data, scheduler)
    for x, y in data:
        with accelerator.accumulate(model):
            accelerator.backward(clr.watch(cross_entropy(model(x), y), scaler))
            if clip is not None and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            opt.step()
            scheduler.step()
            opt.zero_grad()
    return record.end(accelerator.unwrap_model(model))


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}], ids=["plain", "momentum"])
def test_float32(options: dict):
    assert not plain.differences(fit(start(), **options), plain.train(**options))


def test_accumulate():
    run = fit(start(gradient_accumulation_steps=4))
    assert not plain.differences(run, plain.train(accumulate=4))


@pytest.mark.parametrize("accumulate", [1, 4])
def test_clipping(accumulate: int):
    run = fit(start(gradient_accumulation_steps=accumulate), clip=0.5)
    assert not plain.differences(run, plain.train(accumulate=accumulate, clip=0.5))


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_scheduler_scales_the_cap(accumulate: int):
    options = {"max_lr": 2.0, "halve_cap_every": 2}
    run = fit(start(gradient_accumulation_steps=accumulate), **options)
    assert not plain.differences(run, plain.train(accumulate=accumulate, **options))


def test_bfloat16():
    run = fit(start(mixed_precision="bf16"))
    assert not plain.differences(run, plain.train(autocast=torch.bfloat16))


def half(**options):
    """Return an Accelerator with the fp16 scaler that it makes on a GPU only."""
    accelerator = start(mixed_precision="fp16", **options)
    accelerator.native_amp, accelerator.scaler = True, plain.high_scaler()
    return accelerator


@pytest.mark.parametrize("accumulate", [1, 4])
def test_float16_with_a_scaler(accumulate: int):
    expected = plain.train(accumulate=accumulate, scaler=plain.high_scaler())
    assert 0 < expected.skipped < plain.STEPS // 2
    assert not plain.differences(fit(half(gradient_accumulation_steps=accumulate)), expected)


def test_float16_with_clipping_needs_the_scaler():
    """Clip: this unscales the gradients first, so the watched loss must be unscaled too."""
    with pytest.raises(ValueError, match=r"watch\(loss, scaler=scaler\)"):
        fit(half(), clip=0.5)
    accelerator = half()
    run = fit(accelerator, clip=0.5, scaler=accelerator.scaler)
    assert not plain.differences(run, plain.train(clip=0.5, scaler=plain.high_scaler()))


def test_a_closure():
    accelerator, network = start(), plain.Network()
    clr = plain.optimizer(network)
    record = plain.Record().follow(clr)
    model, opt, data = accelerator.prepare(network, clr, plain.batches(plain.STEPS))
    for x, y in data:

        def closure(x=x, y=y):
            opt.zero_grad()
            loss = cross_entropy(model(x), y)
            accelerator.backward(loss)
            return loss

        opt.step(closure)
    assert not plain.differences(record.end(network), plain.train())


def test_the_wrapper_takes_no_loss():
    accelerator, network = start(), plain.Network()
    model, opt = accelerator.prepare(network, plain.optimizer(network))
    x, y = next(iter(plain.batches(1)))
    loss = cross_entropy(model(x), y)
    accelerator.backward(loss)
    with pytest.raises(TypeError, match="unexpected keyword argument 'loss'"):
        opt.step(loss=loss)
    with pytest.raises(ValueError, match="no loss reached the optimizer"):
        opt.step()
    with pytest.raises(AttributeError, match="watch"):
        opt.watch(loss)  # so that the page says to watch on the optimizer within


def test_a_saved_run_goes_on(tmp_path):
    """Make half the steps, save, load into new objects, and make the other half."""
    data = [(x, y) for x, y in plain.batches(plain.STEPS)]
    record = plain.Record()
    for half in (data[: plain.STEPS // 2], data[plain.STEPS // 2 :]):
        accelerator, network = start(), plain.Network()
        clr = plain.optimizer(network, momentum=0.9)
        model, opt = accelerator.prepare(network, clr)
        if record.sizes:
            accelerator.load_state(tmp_path)
        record.follow(clr)
        for x, y in half:
            accelerator.backward(clr.watch(cross_entropy(model(x), y)))
            opt.step()
            opt.zero_grad()
        accelerator.save_state(tmp_path)
        record.end(network)
    assert not plain.differences(record, plain.train(momentum=0.9))
