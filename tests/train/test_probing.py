"""A probed run computes what an unprobed one does, and its metrics hold the landscape."""

import itertools
import math
import shutil

import pytest
import torch
from torch.nn.functional import cross_entropy

from corridor.geometry import measure
from corridor.train.config import Config
from corridor.train.folder import checkpoint
from corridor.train.folder.files import read_lines
from corridor.train.folder.record import TRAINING, read_run
from corridor.train.loop import train
from corridor.train.revisit import measure_checkpoints
from corridor.train.trainer import Trainer

NOISY = {"model": "tests.train.small_networks:noisy", "batch_size": 64, "steps": 9, "seed": 3}


def lines(out):
    plain = TRAINING - {"seconds"}
    return [{k: v for k, v in line.items() if k in plain} for line in read_run(out).steps]


def states(out):
    saved = checkpoint.load(out)
    tensors = [*saved.states["model"].values(), *saved.random.values()]
    for state in saved.states["optimizer"]["state"].values():
        tensors += [v for v in state.values() if isinstance(v, torch.Tensor)]
    return tensors


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "clr"},
        {"optimizer": "clr", "momentum": 0.9, "augment": True},
        {"optimizer": "sgd", "lr": 0.1, "accumulate": 2, "schedule": "cosine"},
        {"optimizer": "adamw", "precision": "bfloat16"},
    ],
    ids=lambda o: " ".join(map(str, o.values())),
)
def test_a_probed_run_is_bit_for_bit_the_unprobed_one(tmp_path, options):
    config = {**NOISY, **options}
    train(Config(**config), tmp_path / "plain", progress=False)
    train(Config(**config, probe=2, probe_curvature=True), tmp_path / "probed", progress=False)
    assert lines(tmp_path / "plain") == lines(tmp_path / "probed")
    pairs = zip(states(tmp_path / "plain"), states(tmp_path / "probed"), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    probed = [line["step"] for line in read_run(tmp_path / "probed").steps if "rho" in line]
    assert probed == [1, 3, 5, 7, 9]


@pytest.mark.slow
def test_a_compiled_network_is_probed_eagerly_and_trained_the_same(tmp_path):
    config = {**NOISY, "steps": 4, "compile": True}
    train(Config(**config), tmp_path / "plain", progress=False)
    train(Config(**config, probe=2), tmp_path / "probed", progress=False)
    assert lines(tmp_path / "plain") == lines(tmp_path / "probed")
    assert "rho" in read_run(tmp_path / "probed").steps[2]


@pytest.mark.parametrize("options", [{"optimizer": "clr"}, {"optimizer": "sgd", "lr": 0.2}])
def test_the_secant_is_over_the_step_that_was_made(tmp_path, options):
    train(Config(**{**NOISY, **options}, probe=1), tmp_path / "run", progress=False)
    for line in read_run(tmp_path / "run").steps:
        assert line["secant_step"] == pytest.approx(line["effective_lr"], rel=1e-4)
        assert line["clr"] == pytest.approx(line["loss"] / line["grad_norm"] ** 2, rel=1e-4)


def test_the_numbers_are_those_of_the_batch_before_the_step(tmp_path, small):
    train(small(optimizer="sgd", lr=0.1, steps=3, probe=3), tmp_path / "run", progress=False)
    torch.manual_seed(0)
    trainer = Trainer(small(), torch.device("cpu"))
    images, labels = next(iter(trainer.loader.train(0)))
    found = measure(lambda: cross_entropy(trainer.model(images), labels), trainer.parameters)
    line = read_run(tmp_path / "run").steps[0]
    assert line["rho"] == pytest.approx(float(found.rho), rel=1e-3)


@pytest.mark.parametrize("curvature", [False, True])
def test_a_resumed_run_measures_what_an_uninterrupted_one_does(tmp_path, curvature):
    options = {**NOISY, "probe": 2, "probe_curvature": curvature}
    train(Config(**options), tmp_path / "whole", progress=False)
    train(Config(**{**options, "steps": 5}), tmp_path / "parts", progress=False)
    train(Config(**options), tmp_path / "parts", resume=True, progress=False)
    whole, parts = ([*read_run(tmp_path / name).steps] for name in ("whole", "parts"))
    for line in (*whole, *parts):
        line.pop("seconds")
    assert whole == parts
    assert ("sharpness" in whole[-1]) is curvature


def test_a_probe_may_be_added_on_resume_and_a_divergent_run_still_ends(tmp_path, small):
    train(small(steps=4), tmp_path / "run", progress=False)
    summary = train(small(steps=6, probe=2), tmp_path / "run", resume=True, progress=False)
    assert summary.status == "finished"
    assert "rho" in read_run(tmp_path / "run").steps[4]
    hopeless = small(model="tests.train.small_networks:hopeless", steps=30, probe=1)
    assert train(hopeless, tmp_path / "bad", progress=False).status == "diverged"
    assert math.isnan(read_run(tmp_path / "bad").steps[0]["rho"])


def test_tensorboard_shows_the_landscape_by_itself(tmp_path, small):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(small(steps=2, probe=1, tensorboard=True), tmp_path / "run", progress=False)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert {"geometry/rho", "train/loss"} <= set(events.Tags()["scalars"])
    assert "train/rho" not in events.Tags()["scalars"]


def test_what_makes_no_sense_is_one_line():
    with pytest.raises(ValueError, match="probe must be at least 0"):
        Config(probe=-1)
    with pytest.raises(ValueError, match="probe must be at least 1 with probe_curvature"):
        Config(probe_curvature=True)


def test_checkpoints_are_measured_over_many_batches(tmp_path):
    config = Config(**{**NOISY, "checkpoint_every": 3, "keep": 9})
    train(config, tmp_path / "run", progress=False)
    path = measure_checkpoints(tmp_path / "run", batches=4)
    found = read_lines(path)
    assert [line["step"] for line in found] == [3, 6, 9]
    trainer = Trainer(config, torch.device("cpu"))
    trainer.load_state_dict(checkpoint.read(checkpoint.paths(tmp_path / "run")[1]).states)
    trainer.model.eval()  # without dropout the loss is another
    parts = list(itertools.islice(trainer.loader.train(0), 4))
    mean = sum(cross_entropy(trainer.model(x), y).item() for x, y in parts) / 4
    assert found[1]["loss"] != pytest.approx(mean, rel=1e-3)
    assert found[1]["sharpness"] > 0
    assert found[2]["noise_scale"] > 0
    assert read_lines(measure_checkpoints(tmp_path / "run", batches=4)) == found


def test_a_network_is_measured_with_the_buffers_that_it_was_trained_with(tmp_path, small):
    config = small(model="tests.train.small_networks:fourier", seed=3, steps=2)
    train(config, tmp_path, progress=False)
    train(small(**{**config.to_dict(), "steps": 3}), tmp_path, resume=True, progress=False)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, _ = read_lines(measure_checkpoints(tmp_path, batches=3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    trainer = Trainer(config, torch.device("cpu"))
    trainer.load_state_dict(checkpoint.read(checkpoint.paths(tmp_path)[0]).states)
    parts = list(itertools.islice(trainer.loader.train(0), 3))
    mean = sum(cross_entropy(trainer.model(x), y).item() for x, y in parts) / 3
    # Sums over 64 inputs, 16 features and 256 images in float32, in any order.
    assert first["loss"] == pytest.approx(mean, rel=(64 + 16 + 256) * torch.finfo().eps)


def test_checkpoints_that_cannot_be_measured_are_one_line(tmp_path, small):
    with pytest.raises(FileNotFoundError, match="no run in"):
        measure_checkpoints(tmp_path / "nothing")
    train(small(steps=2), tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="batches must be"):
        measure_checkpoints(tmp_path / "run", batches=0)
    (checkpoint.paths(tmp_path / "run")[0] / "plain.pt").write_bytes(b"torn")
    with pytest.raises(ValueError, match="is damaged"):
        measure_checkpoints(tmp_path / "run")
    shutil.rmtree(checkpoint.paths(tmp_path / "run")[0])
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        measure_checkpoints(tmp_path / "run")
