"""Check that CLR in the Hugging Face Trainer takes the steps of the plain loop."""

from __future__ import annotations

import pytest
import torch
from tests.integration import plain
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import StepLR

transformers = pytest.importorskip("transformers", reason="Transformers is not installed")
pytest.importorskip("accelerate", reason="Accelerate, which its Trainer needs, is not installed")
IGNORED = -100


class HubModel(nn.Module):
    """Return the loss of the plain loop's network as models of the hub do."""

    def __init__(self) -> None:
        super().__init__()
        self.network = plain.Network()

    def forward(self, x, labels=None):
        scores = self.network(x)
        loss = None if labels is None else cross_entropy(scores, labels)
        return {"loss": loss, "logits": scores}


class Configured(HubModel):
    """Hold the configuration that label smoothing reads."""

    config = transformers.PretrainedConfig()


class CountingModel(HubModel):
    """Compute a mean over the labels of the whole step, as for language models with padding."""

    def forward(self, x, labels=None, **kwargs):
        scores = self.network(x)
        total = cross_entropy(scores, labels, ignore_index=IGNORED, reduction="sum")
        return {"loss": total / kwargs["num_items_in_batch"], "logits": scores}


class Wordless(HubModel):
    """Return no loss, so that the Trainer calls its `compute_loss_func`."""

    def forward(self, x, labels=None):
        return {"logits": self.network(x)}


def summed_loss(outputs, labels, num_items_in_batch=None):
    return cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


class Watching(transformers.Trainer):
    """Watch the result of `compute_loss`, for losses computed outside the model."""

    def compute_loss(self, *args, **kwargs):
        result = super().compute_loss(*args, **kwargs)
        self.optimizer.optimizer.watch(result[0] if isinstance(result, tuple) else result)
        return result


def items(micro_batches: int, ignored: bool = False) -> list[dict]:
    points = [{"x": x, "labels": y} for x, y in plain.dataset(micro_batches)]
    for i, item in enumerate(points if ignored else []):
        if i % 3 == 0 and (i // plain.MICRO_BATCH) % 2:  # every second micro-batch has fewer labels
            item["labels"] = torch.tensor(IGNORED)
    return points


def fit(
    model: HubModel,
    tmp_path,
    *,
    data=None,
    kind=None,
    attach: bool = True,
    half: bool = False,
    tell_scaler: bool = True,
    halve_cap_every: int | None = None,
    record: plain.Record | None = None,
    resume=None,
    clr: dict | None = None,
    **options,
):
    opt = plain.optimizer(model.network, **(clr or {}))
    record = (record or plain.Record()).follow(opt)
    scheduler = StepLR(opt, halve_cap_every, gamma=0.5) if halve_cap_every else None
    fixed = {
        "output_dir": str(tmp_path),
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "num_train_epochs": 1,
        "per_device_train_batch_size": plain.MICRO_BATCH,
        "train_sampling_strategy": "sequential",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "fp16": half,
    }
    arguments = transformers.TrainingArguments(**{**fixed, **options})
    micro_batches = plain.STEPS * arguments.gradient_accumulation_steps
    running = (kind or transformers.Trainer)(
        model,
        arguments,
        train_dataset=items(micro_batches) if data is None else data,
        optimizers=(opt, scheduler),
    )
    scaler = None
    if half:  # the Trainer makes a scaler on a GPU only
        scaler = plain.high_scaler()
        running.accelerator.native_amp, running.accelerator.scaler = True, scaler
    if attach:
        opt.attach(model, scaler if tell_scaler else None)
    running.train(resume_from_checkpoint=resume)
    return record.end(model.network)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}], ids=["plain", "momentum"])
def test_float32(options: dict, tmp_path):
    assert not plain.differences(fit(HubModel(), tmp_path, clr=options), plain.train(**options))


def test_accumulation(tmp_path):
    run = fit(HubModel(), tmp_path, gradient_accumulation_steps=4)
    assert not plain.differences(run, plain.train(accumulate=4))


def test_accumulation_normalised_by_labels(tmp_path):
    data = items(4 * plain.STEPS, ignored=True)
    inputs = torch.stack([item["x"] for item in data]).split(plain.MICRO_BATCH)
    labels = torch.stack([item["labels"] for item in data]).split(plain.MICRO_BATCH)
    assert len({int((y != IGNORED).sum()) for y in labels}) > 1
    step = iter(range(plain.STEPS))

    def terms(model, group):
        first = 4 * next(step)
        count = sum(int((y != IGNORED).sum()) for y in labels[first : first + 4])
        for i in range(first, first + 4):
            total = cross_entropy(model(inputs[i]), labels[i], reduction="sum")
            yield total / count

    run = fit(CountingModel(), tmp_path, data=data, gradient_accumulation_steps=4)
    assert not plain.differences(run, plain.train(accumulate=4, terms=terms))


def test_clipping(tmp_path):
    run = fit(HubModel(), tmp_path, max_grad_norm=0.5)
    assert not plain.differences(run, plain.train(clip=0.5))


def test_a_scheduler_scales_the_cap(tmp_path):
    run = fit(HubModel(), tmp_path, clr={"max_lr": 2.0}, halve_cap_every=2)
    assert not plain.differences(run, plain.train(max_lr=2.0, halve_cap_every=2))


def test_bfloat16(tmp_path):
    run = fit(HubModel(), tmp_path, bf16=True)
    assert not plain.differences(run, plain.train(autocast=torch.bfloat16))


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_float16(clip: float, accumulate: int, tmp_path):
    options = {"gradient_accumulation_steps": accumulate, "max_grad_norm": clip}
    run = fit(HubModel(), tmp_path, half=True, **options)
    scaler = plain.high_scaler()
    expected = plain.train(accumulate=accumulate, clip=clip or None, scaler=scaler)
    assert 0 < expected.skipped < plain.STEPS // 2
    assert not plain.differences(run, expected)


def test_float16_needs_the_scaler(tmp_path):
    """Train in float16 without the scaler: the Trainer unscales before every step for its log."""
    with pytest.raises(ValueError, match=r"attach\(model, scaler=scaler\)"):
        fit(HubModel(), tmp_path, half=True, tell_scaler=False)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_loss_computed_outside_the_model(accumulate: int, tmp_path):
    class Trainer(Watching):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, compute_loss_func=summed_loss, **kwargs)

    options = {"attach": False, "gradient_accumulation_steps": accumulate}
    run = fit(Wordless(), tmp_path, kind=Trainer, **options)
    assert not plain.differences(run, plain.train(accumulate=accumulate))


def test_attach_cannot_see_a_loss_computed_outside_the_model(tmp_path):
    class Trainer(transformers.Trainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, compute_loss_func=summed_loss, **kwargs)

    with pytest.raises(ValueError, match="no loss reached the optimizer"):
        fit(Wordless(), tmp_path, kind=Trainer)


def test_label_smoothing(tmp_path):
    """Smooth labels, which the Trainer does outside the model."""
    with pytest.raises(ValueError, match="no loss reached the optimizer"):
        fit(Configured(), tmp_path, label_smoothing_factor=0.1)

    def terms(model, group):
        for x, y in group:
            yield cross_entropy(model(x), y, label_smoothing=0.1)

    options = {"attach": False, "label_smoothing_factor": 0.1, "kind": Watching}
    run = fit(Configured(), tmp_path, clr={"f_star": 0.3}, **options)
    # Its formula differs from torch's, so every loss is rounded differently.
    assert not plain.differences(run, plain.train(terms=terms, f_star=0.3), rtol=1e-5)


def test_a_bare_trainer_is_told_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"attach\(model\) for trainers"):
        fit(HubModel(), tmp_path, attach=False)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    """Continue in a second trainer from the checkpoint of the first at half the steps."""
    half, options = plain.STEPS // 2, {"momentum": 0.9}
    saving = {"save_strategy": "steps", "save_steps": half, "clr": options}
    record = fit(HubModel(), tmp_path, max_steps=half, **saving)
    checkpoint = str(tmp_path / f"checkpoint-{half}")
    fit(HubModel(), tmp_path, record=record, resume=checkpoint, **saving)
    assert not plain.differences(record, plain.train(**options))
