"""Runs of one batched program against the same runs one by one."""

import dataclasses
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest
import torch
from tests.train.processes import environment

from corridor.train import train_batched
from corridor.train.config import Config
from corridor.train.folder import checkpoint
from corridor.train.folder.files import locked
from corridor.train.folder.record import read_run, read_summary
from corridor.train.loop import FLUSH_STEPS, train
from corridor.train.processes.signals import Interrupted
from corridor.train.sweep.batch_program import Program
from corridor.train.sweep.runs import Run, sweep
from corridor.train.sweep.workers import Workers

RULES = [
    {"optimizer": "clr"},
    {"optimizer": "clr", "lr": 0.05, "weight_decay": 0.1, "f_star": 0.01},
    {"optimizer": "clr", "scale": 0.5},
    {"optimizer": "sps-safe"},
    {"optimizer": "sgd", "lr": 0.03},
    {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3},
]
MLP = {"model": "mlp", "width": 32, "batch_size": 64, "steps": 50, "eval_every": 1}
CNN = {"model": "cnn", "width": 4, "batch_size": 64, "steps": 30, "augment": True}


def compared(configs, tmp_path):
    """Largest relative differences of losses and step sizes, over all steps of all runs."""
    together = [tmp_path / f"together{i}" for i in range(len(configs))]
    summaries = train_batched(configs, together)
    worst = {"loss": 0.0, "effective_lr": 0.0, "grad_norm": 0.0}
    for i, config in enumerate(configs):
        alone = train(config, tmp_path / f"alone{i}", progress=False)
        one, other = read_run(tmp_path / f"alone{i}"), read_run(together[i])
        assert len(one.steps) == len(other.steps) == config.steps
        for lines in ("steps", "evaluations"):
            keys = [[list(line) for line in getattr(record, lines)] for record in (one, other)]
            assert keys[0] == keys[1]
        for key in worst:
            for a, b in zip(one.steps, other.steps, strict=True):
                worst[key] = max(worst[key], abs(a[key] - b[key]) / max(abs(a[key]), 1e-3))
        assert [e["step"] for e in one.evaluations] == [e["step"] for e in other.evaluations]
        for a, b in zip(one.evaluations, other.evaluations, strict=True):
            assert b["test_loss"] == pytest.approx(a["test_loss"], rel=1e-3)
        assert summaries[i].final_loss == pytest.approx(alone.final_loss, rel=1e-4)
        assert (summaries[i].status, summaries[i].parameters) == (alone.status, alone.parameters)
        names = sorted(p.name for p in (tmp_path / f"alone{i}").iterdir())
        assert sorted(p.name for p in together[i].iterdir()) == names
    return worst


def test_the_numbers_of_a_network_are_those_of_runs_of_their_own(tmp_path):
    configs = [Config(**MLP, **rule, seed=seed) for rule in RULES for seed in (0, 1)]
    worst = compared(configs, tmp_path)
    assert max(worst.values()) < 2e-5, worst


def test_so_are_those_of_one_with_batch_norm_under_a_schedule(tmp_path):
    options = {**CNN, "schedule": "cosine"}
    rules = [{"optimizer": "clr", "lr": 0.1}, {"optimizer": "sgd", "lr": 0.1}]
    configs = [Config(**options, **rule, seed=seed) for rule in rules for seed in (0, 3)]
    worst = compared(configs, tmp_path)
    assert max(worst.values()) < 1e-3, worst
    saved = [tmp_path / f"{way}1" / "checkpoints" for way in ("alone", "together")]
    models = [
        torch.load(max(folder.glob("*.pt")), weights_only=True)["states"]["model"]
        for folder in saved
    ]
    assert models[0].keys() == models[1].keys()
    for name, value in models[0].items():  # running means and counts of batches, too
        assert torch.allclose(value.double(), models[1][name].double(), rtol=1e-3, atol=1e-5), name


def test_in_float64_batch_norm_differs_by_rounding_alone(tmp_path):
    options = {**CNN, "model": "tests.train.small_networks:double_cnn", "width": None}
    sgd = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}
    rules = [{"optimizer": "clr"}, {"optimizer": "sps-safe"}, sgd]
    configs = [Config(**options, **rule, seed=seed) for rule in rules for seed in (0, 3)]
    worst = compared(configs, tmp_path)
    assert max(worst.values()) < 1e-9, worst


def test_one_seed_for_all_shares_the_batches(tmp_path):
    configs = [Config(**MLP, **rule) for rule in RULES[:3]]
    assert max(compared(configs, tmp_path).values()) < 2e-5


def test_a_run_that_diverges_ends_and_leaves_the_others_as_they_are(tmp_path):
    good = [Config(**MLP, seed=seed) for seed in (0, 1)]
    bad = Config(**MLP, optimizer="sgd", lr=1e9)
    train_batched(good, [tmp_path / "a", tmp_path / "b"])
    folders = [tmp_path / "c", tmp_path / "bad", tmp_path / "d"]
    summaries = train_batched([good[0], bad, good[1]], folders)
    assert [summary.status for summary in summaries] == ["finished", "diverged", "finished"]
    assert summaries[1].message.startswith("loss or gradient: not finite at step")
    assert summaries[1].steps == len(read_run(folders[1]).steps) < 50
    alone = train(bad, tmp_path / "alone", progress=False)
    assert alone.steps == summaries[1].steps
    for one, other in (("a", "c"), ("b", "d")):
        losses = [[s["loss"] for s in read_run(tmp_path / x).steps] for x in (one, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_skipped_steps_are_counted_and_many_in_a_row_end_the_run(tmp_path, small):
    hopeless = small(model="tests.train.small_networks:hopeless", steps=40)
    (summary,) = train_batched([hopeless], [tmp_path / "a"])
    alone = train(hopeless, tmp_path / "b", progress=False)
    assert (summary.status, summary.skipped, summary.message) == (
        alone.status,
        alone.skipped,
        alone.message,
    )


@pytest.mark.parametrize("resume", ["batched", "train"])
def test_runs_go_on_from_their_checkpoints_on_either_engine(tmp_path, resume):
    momentum = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9}
    short = [Config(**{**MLP, "steps": 20}, **rule) for rule in (momentum, {})]
    full = [Config(**MLP, **rule) for rule in (momentum, {})]
    folders = [tmp_path / "a", tmp_path / "b"]
    train_batched(short, folders)
    whole = [tmp_path / "c", tmp_path / "d"]
    train_batched(full, whole)
    if resume == "batched":
        train_batched(full, folders)
    else:
        for config, folder in zip(full, folders, strict=True):
            train(config, folder, resume=True, progress=False)
    for one, other in zip(folders, whole, strict=True):
        losses = [[s["loss"] for s in read_run(folder).steps] for folder in (one, other)]
        assert len(losses[0]) == 50
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_sweep_makes_a_program_of_what_goes_together(tmp_path):
    few = {"batch_size": 256, "steps": 3}
    runs = [
        Run(f"{model}{seed}", Config(**few, model=model, width=8, seed=seed))
        for model in ("mlp", "cnn")
        for seed in range(2)
    ]
    folders = sweep(runs, tmp_path, processes=Workers(engine="batched"), progress=False)
    assert [read_summary(folder).status for folder in folders] == ["finished"] * 4
    stamps = [(folder / "metrics.jsonl").stat().st_mtime_ns for folder in folders]
    shutil.rmtree(folders[3])  # the others are not made again
    sweep(runs, tmp_path, processes=Workers(engine="batched"), progress=False)
    again = [(folder / "metrics.jsonl").stat().st_mtime_ns for folder in folders]
    assert again[:3] == stamps[:3]
    assert read_summary(folders[3]).steps == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "adamw"}, "knows the optimizers clr, sps-safe, sgd, got adamw"),
        ({"momentum": 0.9}, "momentum for sgd only"),
        ({"precision": "bfloat16"}, "needs precision=float32, got bfloat16"),
        ({"probe": 2}, "needs probe=0"),
        ({"drift": 0.5}, "needs drift=None, got 0.5"),
        ({"optimizer": "clr-adam"}, "knows the optimizers clr, sps-safe, sgd, got clr-adam"),
    ],
)
def test_configs_that_do_not_go_are_refused_before_anything_runs(tmp_path, options, words):
    runs = [Run("good", Config(**MLP)), Run("bad", Config(**{**MLP, **options}))]
    with pytest.raises(ValueError, match=words):
        sweep(runs, tmp_path, processes=Workers(engine="batched"), progress=False)
    assert not (tmp_path / "good").exists()


def test_a_program_that_cannot_be_made_leaves_the_others(tmp_path, small):
    runs = [Run("bad", small(model="tests.train.small_networks:broken")), Run("good", small())]
    folders = sweep(runs, tmp_path, processes=Workers(engine="batched"), progress=False)
    assert [read_summary(folder).status for folder in folders] == ["failed", "finished"]
    assert "cannot be built" in read_summary(folders[0]).message


def test_ctrl_c_saves_all_runs_at_one_step_and_the_sweep_goes_on(tmp_path):
    few = ["--model", "mlp", "--width", "8", "--batch-size", "64", "--seeds", "2"]
    command = [sys.executable, "-m", "corridor", "sweep", "--out", str(tmp_path), *few]
    command += ["--engine", "batched", "--no-progress"]
    process = subprocess.Popen(
        [*command, "--epochs", "100000"], env=environment(), stderr=subprocess.PIPE, text=True
    )
    folders = [tmp_path / "seed-0", tmp_path / "seed-1"]
    end = time.monotonic() + 60
    while not all((f / "metrics.jsonl").exists() and read_run(f).steps for f in folders):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert "stopped; the same sweep" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    (steps,) = {len(read_run(folder).steps) for folder in folders}
    assert all((f / "checkpoints" / f"step-{steps:09d}.pt").exists() for f in folders)
    configs = [dataclasses.replace(read_run(f).config, steps=steps + 5) for f in folders]
    assert [summary.steps for summary in train_batched(configs, folders)] == [steps + 5] * 2
    assert [line["step"] for line in read_run(folders[0]).steps] == list(range(1, steps + 6))


def test_configs_of_two_programs_are_refused_by_name(tmp_path):
    configs = [Config(**MLP), Config(**{**MLP, "batch_size": 32})]
    with pytest.raises(ValueError, match="differ in batch_size"):
        train_batched(configs, [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ValueError, match="as many folders as configs"):
        train_batched(configs, [tmp_path])


def test_a_program_waits_until_a_worker_of_an_earlier_sweep_has_left(tmp_path, small):
    folder = tmp_path / "a"
    folder.mkdir()
    worker = ExitStack()
    worker.enter_context(locked(folder))
    threading.Timer(0.3, worker.close).start()
    batched = Workers(engine="batched")
    sweep([Run("a", small(model="mlp"))], tmp_path, processes=batched, progress=False)
    summary = read_summary(folder)
    assert summary is not None
    assert summary.status == "finished", summary.message


def test_dropout_is_refused(tmp_path):
    config = Config(**{**MLP, "model": "tests.train.small_networks:noisy", "width": None})
    with pytest.raises(ValueError, match="dropout"):
        train_batched([config], [tmp_path / "a"])


def test_an_infinite_cap_is_no_cap(tmp_path):
    config = Config(**{**MLP, "steps": 5}, lr=math.inf)
    train_batched([config], [tmp_path / "a"])
    train(config, tmp_path / "b", progress=False)
    sizes = [[s["effective_lr"] for s in read_run(tmp_path / x).steps] for x in "ab"]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-5)


@pytest.mark.parametrize("every", [0, 20])
def test_checkpoints_come_when_they_do_in_a_run_of_its_own(tmp_path, every):
    config = Config(**MLP, checkpoint_every=every, keep=100)
    train(config, tmp_path / "a", progress=False)
    train_batched([config], [tmp_path / "b"])
    saved = [sorted(p.name for p in (tmp_path / x / "checkpoints").iterdir()) for x in "ab"]
    assert saved[0] == saved[1]
    assert len(saved[0]) == 3


def test_all_runs_are_saved_when_one_is_due(tmp_path):
    configs = [Config(**MLP, checkpoint_every=every, keep=100) for every in (20, 30)]
    folders = [tmp_path / "a", tmp_path / "b"]
    train_batched(configs, folders)
    for folder in folders:
        assert [int(p.stem[5:]) for p in checkpoint.paths(folder)] == [20, 30, 40, 50]


def test_the_speed_of_a_run_that_diverged_is_that_of_its_own_steps(tmp_path):
    configs = [Config(**MLP), Config(**MLP, optimizer="sgd", lr=1e9)]
    bad = train_batched(configs, [tmp_path / "a", tmp_path / "b"])[1]
    assert bad.status == "diverged"
    assert bad.images_per_second * bad.seconds == pytest.approx(64 * bad.steps, rel=0.01)


def test_a_program_ends_when_all_its_runs_have(tmp_path, monkeypatch):
    step, made = Program.step, []
    monkeypatch.setattr(Program, "step", lambda *given: made.append(1) or step(*given))
    config = Config(**{**MLP, "batch_size": 4, "steps": 300}, optimizer="sgd", lr=1e9)
    (summary,) = train_batched([config], [tmp_path])
    assert summary.status == "diverged"
    assert len(made) == FLUSH_STEPS  # of an epoch of 359


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_programs_last_evaluation_stops_the_sweep(tmp_path, monkeypatch, number):
    evaluate = Program.evaluate

    def interrupted(*given):
        os.kill(os.getpid(), number)
        return evaluate(*given)

    monkeypatch.setattr(Program, "evaluate", interrupted)
    few = {"batch_size": 256, "steps": 3, "width": 8}
    runs = [Run(model, Config(**few, model=model)) for model in ("mlp", "cnn")]
    with pytest.raises(Interrupted, match="the same sweep") as caught:
        sweep(runs, tmp_path, processes=Workers(engine="batched"), progress=False)
    assert caught.value.number == number
    assert read_summary(tmp_path / "mlp").status == "finished"
    assert not (tmp_path / "cnn").exists()


def test_runs_that_have_ended_are_left_alone_and_the_rest_is_trained(tmp_path):
    bad = Config(**MLP, optimizer="sgd", lr=1e9)
    good = [Config(**MLP, seed=seed) for seed in (0, 1, 2)]
    folders = [tmp_path / name for name in ("a", "bad", "b", "c")]
    first = train_batched([good[0], bad, good[1]], folders[:3])
    kept = [(folder / "metrics.jsonl").stat().st_mtime_ns for folder in folders[:3]]
    told = []
    configs = [good[2], good[0], bad, good[1]]
    places = [folders[3], *folders[:3]]
    again = train_batched(configs, places, report=lambda *news: told.append(news))
    assert [summary.status for summary in again] == ["finished", "finished", "diverged", "finished"]
    assert repr(again[1:]) == repr(first)  # NaN is not equal to itself, but looks the same
    assert [(folder / "metrics.jsonl").stat().st_mtime_ns for folder in folders[:3]] == kept
    assert {(index, 1.0) for index in range(4)} <= set(told)
    assert len(read_run(folders[3]).steps) == 50


def test_what_goes_on_with_more_steps_leaves_a_run_that_diverged(tmp_path):
    def configs(steps):
        options = {**MLP, "steps": steps}
        return [Config(**options), Config(**options, optimizer="sgd", lr=1e9)]

    folders = [tmp_path / "a", tmp_path / "bad"]
    first = train_batched(configs(20), folders)
    again = train_batched(configs(30), folders)
    assert (again[0].status, again[0].steps) == ("finished", 30)
    assert repr(again[1]) == repr(first[1])


def test_fewer_steps_than_were_made_are_refused(tmp_path):
    train_batched([Config(**MLP)], [tmp_path])
    before = {path: path.read_bytes() for path in tmp_path.glob("*.json*")}
    with pytest.raises(ValueError, match="made 50 steps already, more than the 20"):
        train_batched([Config(**{**MLP, "steps": 20})], [tmp_path])
    assert {path: path.read_bytes() for path in tmp_path.glob("*.json*")} == before


def test_a_run_that_diverged_is_summed_up_even_if_the_others_are_stopped(tmp_path):
    configs = [Config(**MLP), Config(**MLP, optimizer="sgd", lr=1e9)]
    folders = [tmp_path / "a", tmp_path / "bad"]

    def interrupted(index, fraction):
        if index == 0:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped at step 23 of 50"):
        train_batched(configs, folders, report=interrupted)
    assert [read_summary(folder) is None for folder in folders] == [True, False]
    statuses = [summary.status for summary in train_batched(configs, folders)]
    assert statuses == ["finished", "diverged"]


def test_a_program_that_fails_leaves_a_run_that_had_diverged(tmp_path, monkeypatch):
    def broken(*given):
        raise RuntimeError("no evaluation")

    monkeypatch.setattr(Program, "evaluate", broken)
    runs = [Run("a", Config(**MLP)), Run("bad", Config(**MLP, optimizer="sgd", lr=1e9))]
    folders = sweep(runs, tmp_path, processes=Workers(engine="batched"), progress=False)
    assert [read_summary(folder).status for folder in folders] == ["failed", "diverged"]


def sweep_to_go_on(tmp_path):
    """Two runs of one program whose summaries are not written yet."""
    runs = [Run(str(seed), Config(**{**MLP, "steps": 4}, seed=seed)) for seed in range(2)]
    folders = sweep(runs, tmp_path, processes=Workers(engine="batched"), progress=False)
    for folder in folders:
        (folder / "summary.json").unlink()
    return runs, folders


def test_a_sweep_that_goes_on_reads_each_checkpoint_once(tmp_path, monkeypatch):
    runs, folders = sweep_to_go_on(tmp_path)
    load, read = torch.load, []
    monkeypatch.setattr(torch, "load", lambda path, **how: read.append(path) or load(path, **how))
    sweep(runs, tmp_path, processes=Workers(engine="batched"), progress=False)
    assert [path.parents[1] for path in read if path.name.startswith("step-")] == folders
    assert [read_summary(folder).steps for folder in folders] == [4, 4]


def test_a_run_whose_checkpoints_are_all_damaged_fails_alone(tmp_path):
    runs, folders = sweep_to_go_on(tmp_path)
    for path in checkpoint.paths(folders[0]):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"):
        sweep(runs, tmp_path, processes=Workers(engine="batched"), progress=False)
    assert [read_summary(folder).status for folder in folders] == ["failed", "finished"]
    assert "all checkpoints in" in read_summary(folders[0]).message
