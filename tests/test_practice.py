"""The practice benchmark: entrants take steps, runs resume, and the report counts rightly."""

from __future__ import annotations

import importlib.util
import itertools
import math

import pytest
import torch
from benchmarks.practice import entrant as entrants
from benchmarks.practice import (
    pages,
    pictures,
    plan,
    problem,
    records,
    report,
    run,
    run_held_out,
    trial,
)
from benchmarks.practice.matrices import hidden, polar
from benchmarks.practice.problem import Problem, Task
from benchmarks.practice.records import Key
from torch import nn

STEPS = 12


def make_task(seed: int) -> Task:
    """Return a small network with all that entrants treat apart: a table, matrices, norms."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Embedding(10, 16), nn.Flatten(), nn.Linear(48, 20), nn.BatchNorm1d(20), nn.ReLU(),
        nn.Linear(20, 20), nn.Dropout(0.1), nn.Linear(20, 3),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)

    def batch():
        x = torch.randint(10, (32, 3), generator=generator)
        return x, x.sum(dim=1) % 3

    held = batch()

    def validate(model):
        model.eval()
        with torch.no_grad():
            return {"loss": loss(model, held).item(), "accuracy": 0.5}

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    return Task(model, (batch() for _ in itertools.count()), loss, validate)


SMALL = Problem("small", "test", STEPS, 32, make_task)


def train(name: str, what: Problem = SMALL, **changes):
    one = entrants.load(name)
    if one.package and importlib.util.find_spec(one.package) is None:
        pytest.skip(f"{one.package} is not installed")
    rate = one.rates[1] if one.rates else None
    return trial.train(what, one, Key("development", "small", name, rate, 0)._replace(**changes))


@pytest.mark.parametrize("name", entrants.names())
def test_every_entrant_takes_its_steps(name):
    found = train(name)
    assert not found["failure"].startswith("the optimizer")
    assert found["steps"] == STEPS
    assert len(found["losses"]) == len(found["accuracies"]) == len(trial.MARKS)
    assert all(math.isfinite(loss) for loss in found["losses"])


@pytest.mark.parametrize("name", ["averaged", "averaged_spectral", "adamw_cosine", "clr"])
def test_a_loss_without_a_known_bound_is_trained(name):
    found = train(name, Problem("small", "test", STEPS, 32, make_task, f_star=None))
    assert found["steps"] == STEPS
    assert found["losses"][-1] != found["start"]


@pytest.mark.parametrize("name", ["muon_cosine", "distance_muon", "sf_normuon"])
@pytest.mark.parametrize("matrices", [True, False])
def test_a_network_may_have_hidden_matrices_alone_or_none(name, matrices):
    def make(seed):
        task = make_task(seed)
        for p in task.model.parameters():
            p.requires_grad_((p.ndim == 2 and p.shape[0] == 20) is matrices)
        return task

    found = train(name, Problem("small", "test", STEPS, 32, make))
    assert found["steps"] == STEPS
    assert not found["failure"].startswith("the optimizer")


def test_the_seed_decides_everything():
    first, again = train("averaged_beta"), train("averaged_beta")
    other = train("averaged_beta", seed=1)
    assert first["losses"] == again["losses"] != other["losses"]


def test_validation_does_not_change_the_training(monkeypatch):
    whole = train("averaged")["losses"][-1]
    monkeypatch.setattr(trial, "MARKS", (1.0,))
    assert train("averaged")["losses"][-1] == whole


def test_a_loss_that_is_not_finite_ends_the_run(monkeypatch):
    monkeypatch.setattr(trial, "PATIENCE", 3)
    bad = Problem("small", "test", 40, 32, lambda seed: spoiled(make_task(seed)))
    found = train("adamw_constant", bad)
    assert (found["steps"], found["failure"]) == (2, "the loss is not finite")


def spoiled(task: Task) -> Task:
    return Task(task.model, task.batches, lambda m, b: task.loss(m, b) * math.nan, task.validate)


def test_an_optimizer_that_raises_has_failed(monkeypatch):
    def step(self, closure=None):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    words = "the optimizer raised ZeroDivisionError: division by zero"
    assert train("adamw_constant")["failure"] == words


def test_no_progress_is_a_failure():
    assert trial.verdict({"start": 1.0, "losses": [1.0]}) == "no better than at the start"
    assert trial.verdict({"start": 1.0, "losses": [0.9]}) == ""
    assert "finite" in trial.verdict({"start": 1.0, "losses": [None]})


# Records and plan


def queue_of(names, losses=None, problems=("a", "b"), **changes):
    picked = [entrants.load(name) for name in names]
    return run.Queue("development", problems, picked, plan.SEEDS, 1, losses or {}, **changes)


def drain(queue):
    return list(iter(queue.pop, None))


def key(problem="a", entrant="adamw_cosine", rate=None, seed=0):
    return Key("development", problem, entrant, rate, seed)


def record_of(one: Key, loss: float = 1.0, failure: str = ""):
    end = [] if failure else [2 * loss, loss, loss]
    return {
        **one._asdict(),
        "start": 0.0,
        "failure": failure,
        "losses": end,
        "seconds": 2.0,
        "peak_mb": 100.0,
    }


def test_tuned_adamw_comes_first_and_untuned_entrants_run_all_seeds():
    keys = drain(queue_of(["prodigy", "averaged", "adamw_cosine"], problems=("a",)))
    assert [k.entrant for k in keys] == ["adamw_cosine"] * 5 + ["averaged"] * 3 + ["prodigy"] * 3
    assert [k.seed for k in keys] == [0] * 5 + [0, 1, 2] * 2


def test_a_sweep_asks_for_its_best_rate_and_the_rates_beside_it():
    queue = queue_of(["adamw_cosine"], problems=("a",))
    for one in drain(queue):
        queue.ended(record_of(one, loss=abs(math.log(one.rate / 1e-2)) + 1))
    further = {(k.rate, k.seed) for k in drain(queue)}
    assert further == set(itertools.product((3e-3, 1e-2, 3e-2), (1, 2)))
    assert plan.neighbors((1.0, 2.0, 3.0), (0.5, 1.0, 1.0)) == [1.0, 2.0]


def test_a_sweep_that_fails_everywhere_asks_for_nothing():
    queue = queue_of(["adamw_cosine"], problems=("a",))
    for one in drain(queue):
        queue.ended(record_of(one, failure="the loss is not finite"))
    assert drain(queue) == []


def test_one_rate_is_calibrated_over_all_problems(monkeypatch):
    queue, rates = queue_of(["nadamw"]), entrants.load("nadamw").rates
    best = {"a": 1, "b": 3}
    for one in drain(queue):
        loss = 1.0 + 0.1 * (rates.index(one.rate) - best[one.problem]) ** 2
        queue.ended(record_of(one, loss=loss))
    assert {k.rate for k in drain(queue)} == {rates[2]}
    monkeypatch.setattr(plan, "calibrated", lambda: {"nadamw": rates[2]})
    fixed = plan.settled(entrants.load("nadamw"), "held_out", 1)
    assert len(plan.first_runs("held_out", "a", fixed, plan.SEEDS, 1)) == len(plan.SEEDS)
    monkeypatch.setattr(plan, "calibrated", dict)
    with pytest.raises(SystemExit, match="must be calibrated"):
        plan.settled(entrants.load("nadamw"), "held_out", 1)


def test_a_second_runner_skips_what_is_done(tmp_path, monkeypatch):
    path, done = tmp_path / "development.jsonl", []

    def work(queue, processes):
        for one in iter(queue.pop, None):
            done.append(one)
            found = record_of(one)
            queue.ended(found)
            yield one, found

    monkeypatch.setattr(run, "work", work)
    first = queue_of(["prodigy"])
    assert run.run_all(first, path, 1) == 0
    assert len(done) == 6
    path.write_bytes(path.read_bytes() + b'{"half": "devel')  # the runner was killed here
    again = queue_of(["prodigy", "averaged"], run.known(path, again=False))
    assert {k.entrant for k in drain(again)} == {"averaged"}
    assert len(records.read(path)) == 6
    monkeypatch.setattr(records, "source", lambda key: "another file")
    assert len(run.known(path, again=False)) == 6
    assert run.known(path, again=True) == {}


@pytest.mark.slow
def test_the_error_of_a_problem_comes_from_its_process():
    queue = queue_of(["adamw_constant"], problems=("no_such_problem",))
    ended = list(run.work(queue, 2))
    assert len(ended) == 3
    assert all(isinstance(error, ValueError) for _, error in ended)


def test_options_narrow_the_rates():
    one = run.narrowed(entrants.load("adamw_cosine"), [0.001])
    assert one.rates == (1e-3,)
    assert run.narrowed(entrants.load("prodigy"), [0.001]).rates is None
    with pytest.raises(SystemExit, match="rates must be among"):
        run.narrowed(one, [7.0])


def test_the_held_out_half_notes_when_it_was_run(tmp_path, monkeypatch):
    monkeypatch.setattr(run_held_out, "LOG", tmp_path / "log.json")
    assert "has not been run" in pages.last_run()
    run_held_out.note(["prodigy"], 1, 3)
    run_held_out.note(["prodigy", "clr"], 1, 3)
    assert "with 2 optimizers" in pages.last_run()
    assert "started 2 times" in pages.last_run()


# Report


def made_up():
    """Return records of three optimizers on three problems."""
    rates, found = entrants.load("adamw_cosine").rates, []
    for name, seed in itertools.product("abc", plan.SEEDS):
        losses = {rate: 1.0 if rate == 3e-3 else 2.0 for rate in rates}
        found += [record_of(key(name, rate=r, seed=seed), loss) for r, loss in losses.items()]
        factor = {"a": 0.9, "b": 1.04, "c": 1.5}[name] * (1 + 0.1 * (seed - 1))
        found.append(record_of(key(name, "averaged", seed=seed), factor))
        failure = "the loss is not finite" if (name, seed) == ("c", 1) else ""
        found.append(record_of(key(name, "prodigy", seed=seed), 1.0, failure))
    return found


def test_a_share_of_the_first_loss_is_added_to_both():
    own, yard = record_of(key("a"), 1e-3), record_of(key("a"), 1e-4)
    one = report.ratio({0: own | {"start": 2.0}}, {0: yard | {"start": 2.0}})
    assert one is not None
    assert one["ratio"] == pytest.approx((1e-3 + 0.02) / (1e-4 + 0.02))


def test_ratios_are_taken_seed_by_seed():
    found = report.compare(report.grouped(made_up()), {})
    assert found["yardstick"]["a"] == {"rate": 3e-3, "loss": 1.0}
    one = found["ratios"]["averaged"]["a"]
    assert one["ratio"] == pytest.approx(0.9 * (0.9 * 1.1) ** (1 / 3))
    assert (one["low"], one["high"]) == pytest.approx((0.81, 0.99))
    failed = found["ratios"]["prodigy"]["c"]
    assert (failed["ratio"], failed["failures"], failed["seeds"]) == (None, 1, 3)


def test_summaries_count_failures_as_infinitely_bad():
    found = report.compare(report.grouped(made_up()), {})["summary"]
    assert found["prodigy"]["worst"] is None
    assert found["prodigy"]["median"] == 1.0
    assert (found["prodigy"]["failures"], found["prodigy"]["within"]) == (1, pytest.approx(2 / 3))
    assert found["averaged"]["within"] == pytest.approx(2 / 3)
    assert found["averaged"]["seconds"] == 1.0
    assert found["adamw_cosine"]["within"] == 1.0


def test_each_rate_has_a_summary():
    found = report.compare(report.grouped(made_up()), {})["sensitivity"]
    assert list(found) == ["adamw_cosine"]
    assert found["adamw_cosine"]["0.003"]["median"] == 1.0
    assert found["adamw_cosine"]["0.01"]["within"] == 0.0


def test_the_best_rate_is_among_those_with_most_seeds():
    runs = [record_of(key(rate=1e-3, seed=0), 0.5)]
    runs += [record_of(key(rate=3e-3, seed=seed), 0.8) for seed in plan.SEEDS]
    assert report.best_rate(runs) == 3e-3


def test_a_kept_run_is_one_line():
    one = {**record_of(key(rate=1e-3), 0.5), "start": 2.0, "accuracies": [None, None, 0.25]}
    failed = {**record_of(key("b"), failure="a, b"), "start": 2.0, "accuracies": []}
    assert report.rows([failed, one]) == [
        "a,adamw_cosine,0.001,0,2,1,0.5,0.5,0.25,2,100,",
        "b,adamw_cosine,,0,2,,,,,2,100,a; b",
    ]
    assert all(row.count(",") == report.COLUMNS.count(",") for row in report.rows([one, failed]))


def results():
    described = {p: {"kind": "made up"} for p in "abc"}
    return {"entrants": report.who(), "problems": described,
            **report.compare(report.grouped(made_up()), {})}  # fmt: skip


def test_tables_show_ratio_interval_and_failures():
    found = results()
    assert pages.each(found).splitlines()[2] == "| *AdamW's best rate* | 0.003 | 0.003 | 0.003 |"
    assert "| averaged | 0.90 [0.81, 0.99] |" in pages.each(found)
    assert "fails (1 of 3)" in pages.each(found)
    assert pages.failures(found).splitlines() == [
        "- Prodigy fails on c.",
    ]
    assert pages.overall(None) == pages.state(None) == pages.NONE


def test_the_origin_says_what_is_missing():
    where = {"started": "2026-11-28T10:00:00", "cores": 2, "processor": "A", "torch": "2.13"}
    found = {**results(), "environment": where, "runs": [0] * 9, "missing": 3, "stale": 0}
    assert pages.state(found).endswith("torch 2.13: 9 runs. **3 runs are missing.**")
    assert "AdamW itself failed on c" in pages.state({**found, "without_yardstick": ["c"]})


def test_a_problem_without_a_yardstick_has_no_ratio():
    found = [one for one in made_up() if (one["problem"], one["entrant"]) != ("c", "adamw_cosine")]
    found += [record_of(key("c", rate=1e-3), failure="the loss is not finite")]
    compared = report.compare(report.grouped(found), {})
    assert compared["without_yardstick"] == ["c"]
    assert set(compared["ratios"]["averaged"]) == {"a", "b"}


def test_missing_runs_are_counted(monkeypatch):
    monkeypatch.setattr(problem, "names", lambda half: ["a", "b", "c"])
    found = made_up()
    assert report.missing(found, "development", 1) == 0
    left = [one for one in found if (one["entrant"], one["seed"]) != ("prodigy", 2)]
    assert report.missing(left, "development", 1) == 3


def test_pictures_show_every_optimizer():
    found = results()
    assert pictures.classes(found["ratios"]["averaged"]) == [2, 0, 1, 0]
    assert pictures.classes(found["ratios"]["prodigy"]) == [2, 0, 0, 1]
    for figure in (pictures.short(found), pictures.detailed(found)):
        shown = {text.get_text() for axes in figure.axes for text in axes.get_yticklabels()}
        assert {"averaged", "Prodigy"} <= shown
        pictures.pyplot().close(figure)


def test_the_page_has_the_tables_of_the_results():
    text = pages.PAGE.read_text(encoding="utf-8")
    assert pages.filled(text, pages.parts()) == text
    with pytest.raises(ValueError, match="once each"):
        pages.filled("no marks", {"development": ""})


def test_names_are_those_of_the_files():
    assert {entrants.load(name).family for name in entrants.names()} <= set(pages.FAMILIES)
    with pytest.raises(ValueError, match="entrant must be one of"):
        entrants.load("no_such_entrant")
    with pytest.raises(ValueError, match="problem must be one of"):
        problem.load("development", "no_such_problem")


def test_hidden_matrices_leave_out_tables_heads_and_small_sides():
    model = make_task(0).model
    assert hidden(model) == [model[2].weight, model[5].weight]
    assert hidden(model, smallest=21) == []
    factor = polar(torch.randn(20, 48, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(factor)
    assert 0.3 < float(values.min()) <= float(values.max()) < 1.3  # the quintic's known band
