import itertools
import math
import os
import signal

import pytest
import torch

from corridor.train.folder.checkpoint import export
from corridor.train.folder.files import locked
from corridor.train.folder.progress import Reporter
from corridor.train.folder.record import read_run
from corridor.train.loop import Loop, Rhythm, train
from corridor.train.processes import Interrupted
from corridor.train.processes.team import Team

# Sums over 650 parameters and 256 images in float32, in any order, at each of ten steps. The factor
# leaves room for the steps that carry the rounding on.
ROUNDING = 10 * (650 + 256) ** 0.5 * torch.finfo(torch.float32).eps * 20
NOISY = "tests.train.small_networks:noisy"


def parameters(out):
    return torch.load(export(out, out / "weights.pt"), weights_only=True)["model"]


def test_a_run_learns_and_leaves_a_complete_folder(tmp_path, small):
    config = small(epochs=6)
    summary = train(config, tmp_path / "run", progress=False)
    record = read_run(tmp_path / "run")
    assert record.config == config
    assert summary.status == "finished"
    assert summary.steps == 30 == len(record.steps)
    assert [line["step"] for line in record.steps] == list(range(1, 31))
    assert [line["epoch"] for line in record.steps] == [k // 5 for k in range(30)]
    assert [line["step"] for line in record.evaluations] == [5, 10, 15, 20, 25, 30]
    assert [line["epoch"] for line in record.evaluations] == [1, 2, 3, 4, 5, 6]
    assert summary.final_loss is not None
    assert summary.final_loss < record.steps[0]["loss"] / 3
    assert summary.final_test_accuracy is not None
    assert summary.final_test_accuracy > 0.8
    assert summary.parameters == 650
    assert summary.images_per_second > 0
    assert record.summary is not None
    assert record.summary["final_loss"] == summary.final_loss
    seconds = [line["seconds"] for line in record.steps]
    assert seconds == sorted(seconds)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    files = {"config.json", "environment.json", "metrics.jsonl", "summary.json", ".lock"}
    assert names == files | {"checkpoints"}


def test_the_final_loss_is_the_mean_over_the_last_epoch(tmp_path, small):
    summary = train(small(), tmp_path, progress=False)
    losses = [line["loss"] for line in read_run(tmp_path).steps]
    assert summary.final_loss == pytest.approx(sum(losses[-5:]) / 5, rel=1e-12)


def test_the_step_size_recorded_is_that_of_the_rule(tmp_path, small):
    train(small(lr=math.inf), tmp_path, progress=False)
    for line in read_run(tmp_path).steps:
        assert line["effective_lr"] == pytest.approx(line["loss"] / line["grad_norm"] ** 2, 1e-5)


def test_the_same_config_gives_the_same_bits_and_another_seed_does_not(tmp_path, small):
    config = {"model": NOISY, "steps": 4}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(small(seed=seed, **config), tmp_path / name, progress=False)
    losses = {n: [s["loss"] for s in read_run(tmp_path / n).steps] for n in "abc"}
    assert losses["a"] == losses["b"]
    assert losses["a"] != losses["c"]


def test_the_random_state_of_the_caller_is_left_alone(tmp_path, small):
    before = torch.get_rng_state()
    train(small(), tmp_path, progress=False)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("optimizer", ["clr", "sgd"])
def test_micro_batches_give_the_step_of_the_whole_batch(tmp_path, small, optimizer):
    lr = 0.5
    for name, parts in (("whole", 1), ("parts", 4)):
        config = small(optimizer=optimizer, lr=lr, accumulate=parts, drop_last=False)
        train(config, tmp_path / name, progress=False)
    whole, parts = (read_run(tmp_path / name).steps for name in ("whole", "parts"))
    for one, other in zip(whole, parts, strict=True):
        for key in ("loss", "effective_lr", "grad_norm"):
            assert one[key] == pytest.approx(other[key], rel=ROUNDING), (one["step"], key)


def test_steps_end_the_run_earlier_or_later_than_epochs(tmp_path, small):
    assert train(small(epochs=2, steps=3), tmp_path / "a", progress=False).steps == 3
    assert train(small(epochs=1, steps=7), tmp_path / "b", progress=False).steps == 7
    (evaluation,) = read_run(tmp_path / "a").evaluations
    assert evaluation["step"] == 3


def test_evaluation_can_wait_for_the_end(tmp_path, small):
    train(small(eval_every=0), tmp_path, progress=False)
    assert [line["step"] for line in read_run(tmp_path).evaluations] == [10]


def test_evaluation_changes_nothing_of_the_training(tmp_path, small):
    for every in (0, 1):
        config = small(model=NOISY, eval_every=every)
        train(config, tmp_path / str(every), progress=False)
    zero, one = (read_run(tmp_path / str(every)).steps for every in (0, 1))
    assert [s["loss"] for s in zero] == [s["loss"] for s in one]


def test_checkpoints_come_when_asked_for(tmp_path, small):
    train(small(checkpoint_every=3, keep=9), tmp_path, progress=False)
    names = sorted(path.stem for path in (tmp_path / "checkpoints").iterdir())
    assert names == [f"step-{k:09d}" for k in (3, 6, 9, 10)]


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"channels_last": True}])
def test_other_ways_to_compute_come_to_nearly_the_same(tmp_path, small, options):
    config = {
        "model": NOISY,
        "optimizer": "sgd",
        "lr": 0.05,
        "steps": 3,
    }
    train(small(**config), tmp_path / "plain", progress=False)
    train(small(**config, **options), tmp_path / "other", progress=False)
    plain, other = (read_run(tmp_path / name).steps for name in ("plain", "other"))
    for one, two in zip(plain, other, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=12 * torch.finfo(torch.bfloat16).eps)


@pytest.mark.slow
def test_a_compiled_network_comes_to_nearly_the_same(tmp_path, small):
    for name, compiled in (("plain", False), ("compiled", True)):
        train(small(compile=compiled, steps=3), tmp_path / name, progress=False)
    plain, compiled = (read_run(tmp_path / name).steps for name in ("plain", "compiled"))
    for one, two in zip(plain, compiled, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=ROUNDING)
    assert "0.weight" not in parameters(tmp_path / "compiled")  # names are those of the network
    assert "1.weight" in parameters(tmp_path / "compiled")


def test_tensorboard_gets_the_scalars(tmp_path, small):
    train(small(tensorboard=True), tmp_path, progress=False)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    steps = read_run(tmp_path).steps
    logged = events.Scalars("train/effective_lr")
    assert [e.step for e in logged] == [s["step"] for s in steps]
    assert [e.value for e in logged] == pytest.approx([s["effective_lr"] for s in steps])
    assert len(events.Scalars("test/test_accuracy")) == 2


def test_a_divergent_run_ends_at_its_first_non_finite_step(tmp_path, small):
    config = small(model="mlp", optimizer="sgd", lr=1e6, epochs=200)
    summary = train(config, tmp_path, progress=False)
    steps = read_run(tmp_path).steps
    assert summary.status == "diverged"
    assert "not finite" in summary.message
    assert summary.steps == len(steps) < 1000
    bad = [not (math.isfinite(s["loss"]) and math.isfinite(s["grad_norm"])) for s in steps]
    assert bad.index(True) == len(steps) - 1
    before = (tmp_path / "metrics.jsonl").read_bytes()
    again = train(config, tmp_path, resume=True, progress=False)
    assert repr(again) == repr(summary)  # NaN is not equal to itself, but looks the same
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_clr_that_only_skips_is_given_up(tmp_path, small):
    config = small(model="tests.train.small_networks:hopeless", epochs=200)
    summary = train(config, tmp_path, progress=False)
    assert summary.status == "diverged"
    assert summary.steps == summary.skipped == 20
    assert "skipped" in summary.message


def test_no_resume_into_a_folder_with_something_in_it(tmp_path, small):
    (tmp_path / "mine.txt").write_text("precious")
    for resume in (False, True):
        with pytest.raises(ValueError, match="give a new folder"):
            train(small(), tmp_path, resume=resume, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_resume_of_nothing_begins(tmp_path, small):
    assert train(small(), tmp_path / "new", resume=True, progress=False).steps == 10
    (tmp_path / "empty").mkdir()
    assert train(small(), tmp_path / "empty", resume=True, progress=False).steps == 10


def test_resume_of_a_finished_run_does_nothing(tmp_path, small):
    train(small(), tmp_path, progress=False)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert train(small(), tmp_path, resume=True, progress=False).status == "finished"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


def test_resume_with_another_config_names_the_differences(tmp_path, small):
    train(small(), tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"lr 1\.0 -> 0\.5, seed 0 -> 3") as caught:
        train(small(lr=0.5, seed=3), tmp_path, resume=True, progress=False)
    assert "\n" not in str(caught.value)


def test_a_finished_run_can_be_lengthened(tmp_path, small):
    network = {"model": NOISY, "momentum": 0.9}
    train(small(epochs=1, **network), tmp_path / "grown", progress=False)
    train(small(epochs=2, **network), tmp_path / "grown", resume=True, progress=False)
    train(small(epochs=2, **network), tmp_path / "whole", progress=False)
    grown, whole = (read_run(tmp_path / name) for name in ("grown", "whole"))
    assert [s["loss"] for s in grown.steps] == [s["loss"] for s in whole.steps]
    assert grown.config.epochs == 2
    with pytest.raises(ValueError, match=r"at least the 10 steps .* made already, got 5"):
        train(small(epochs=1, **network), tmp_path / "grown", resume=True, progress=False)


def test_a_cosine_run_cannot_be_lengthened(tmp_path, small):
    options = {"optimizer": "sgd", "lr": 0.1, "schedule": "cosine"}
    train(small(epochs=1, **options), tmp_path, progress=False)
    with pytest.raises(ValueError, match="epochs 1 -> 2"):
        train(small(epochs=2, **options), tmp_path, resume=True, progress=False)


class SignalAt(Reporter):
    """Sends this process a signal at the end of an epoch."""

    def __init__(self, number):
        self.number = number

    def epoch(self, epoch, accuracy):
        if epoch == 2:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, small, number):
    config = small(epochs=4, model=NOISY, checkpoint_every=1000)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"step 11 of 20.*--resume"):
        train(config, tmp_path / "a", progress=SignalAt(number))
    assert signal.getsignal(number) is before
    assert read_run(tmp_path / "a").summary is None
    train(config, tmp_path / "a", resume=True, progress=False)
    train(config, tmp_path / "b", progress=False)
    a, b = (read_run(tmp_path / name).steps for name in "ab")
    assert [s["loss"] for s in a] == [s["loss"] for s in b]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "mnist-of-my-dreams"}, "mnist-of-my-dreams"),
        ({"model": "resnet9000"}, "resnet9000"),
        ({"device": "cuda:99"}, "CUDA devices that torch finds, got cuda:99"),
    ],
)
def test_what_is_unknown_leaves_no_trace(tmp_path, small, options, words):
    with pytest.raises(ValueError, match=words):
        train(small(**options), tmp_path / "run", progress=False)
    assert {path.name for path in tmp_path.rglob("*")} <= {"run", ".lock"}


def test_an_out_that_is_a_file_is_said(tmp_path, small):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"cannot write to .*give a folder"):
            train(small(), out, progress=False)


def test_ranks_look_up_twice_a_second_even_where_every_step_is_written(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("corridor.train.loop.perf_counter", lambda: now[0])
    rhythm = Rhythm(Team(0, 2), 0)
    monkeypatch.setattr(rhythm.team, "largest", lambda *values: list(values))
    looks = []
    for step in range(1, 200):
        now[0] += 0.2
        if rhythm.after(step, 0)[1]:
            looks.append(now[0])
        rhythm.fetched = now[0]  # a checkpoint a step
    assert max(b - a for a, b in itertools.pairwise(looks)) < 0.7


def test_a_folder_that_another_process_holds_is_refused(tmp_path, small, monkeypatch):
    monkeypatch.setattr("corridor.train.loop.HELD_SECONDS", 0.0)
    with locked(tmp_path), pytest.raises(OSError, match="another process is writing to"):
        train(small(), tmp_path, progress=False)


def test_a_killed_decoder_is_one_line(tmp_path, small, monkeypatch):
    def killed(self):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr(Loop, "run", killed)
    with pytest.raises(OSError, match="fewer --workers, and go on with --resume"):
        train(small(), tmp_path, progress=False)


def test_the_folder_is_looked_at_again_once_it_is_held(tmp_path, small, monkeypatch):
    def late(folder, **options):
        monkeypatch.setattr("corridor.train.loop.locked", locked)
        train(small(steps=2), folder, progress=False)  # another process was faster
        return locked(folder, **options)

    for resume, said in ((False, "holds a run"), (True, "seed 0 -> 1")):
        monkeypatch.setattr("corridor.train.loop.locked", late)
        with pytest.raises(ValueError, match=said):
            train(small(steps=2, seed=1), tmp_path / said, resume=resume, progress=False)
        assert read_run(tmp_path / said).config.seed == 0
    monkeypatch.setattr("corridor.train.loop.locked", late)
    assert train(small(steps=2), tmp_path / "c", resume=True, progress=False).steps == 2


def test_a_layer_frozen_by_its_network_stays_frozen(tmp_path, small):
    train(small(model="tests.train.small_networks:frozen"), tmp_path, progress=False)
    assert parameters(tmp_path)["1.running_mean"].eq(0).all()
