"""A network, data and a loss of one's own, trained from Python."""

import math
from dataclasses import replace

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    TensorDataset,
)

from corridor.train import Config, Task, read_run, train
from corridor.train.task import TaskLoader


def line_data(count=48):
    x = torch.linspace(-1.0, 1.0, count).unsqueeze(1)
    return TensorDataset(x, 3 * x - 1)


class Noisy(Dataset):
    """Classes of a plane; each reading of a point adds noise from the global generator."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.randn(2) + 3 * (index % 2), index % 2


class Drawing(Noisy):
    """The same, from a generator of its own."""

    def __init__(self):
        self.generator = torch.Generator()

    def __getitem__(self, index):
        return torch.randn(2, generator=self.generator) + 3 * (index % 2), index % 2


def regression(train_data=None, test=None):
    torch.manual_seed(0)
    data = line_data() if train_data is None else train_data
    return Task(nn.Linear(1, 1), data, test, loss=nn.functional.mse_loss)


def classification(train_data=None):
    torch.manual_seed(0)
    return Task(nn.Linear(2, 2), Noisy() if train_data is None else train_data, Noisy())


def losses(out):
    return [line["loss"] for line in read_run(out).steps]


def test_a_regression_reaches_its_minimum_with_a_loss_of_its_own(tmp_path):
    task = regression(test=line_data(7))
    config = Config(batch_size=16, epochs=60, eval_every=30)
    summary = train(config, tmp_path, progress=False, task=task)
    assert summary.status == "finished"
    assert summary.images == 48
    assert summary.final_test_accuracy is None
    # The least squares are zero, at weight 3 and bias -1, and the last loss bounds the distance.
    assert task.model.weight.item() == pytest.approx(3, abs=1e-2)
    assert task.model.bias.item() == pytest.approx(-1, abs=1e-2)
    record = read_run(tmp_path)
    assert (record.config.data, record.config.model) == ("task", "task")
    x, y = line_data(7).tensors
    expected = nn.functional.mse_loss(task.model(x), y).item()
    assert record.evaluations[-1]["test_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_first_loss_is_that_of_the_first_batch(tmp_path):
    data = line_data()
    task = regression(DataLoader(data, batch_size=12))  # in order
    with torch.no_grad():
        expected = nn.functional.mse_loss(task.model(data.tensors[0][:12]), data.tensors[1][:12])
    train(Config(steps=1), tmp_path, progress=False, task=task)
    assert losses(tmp_path) == [expected.item()]
    assert read_run(tmp_path).config.batch_size == 12


def loaders():
    own = torch.Generator()
    return {
        "dataset": Noisy(),
        "loader": DataLoader(Noisy(), batch_size=8, shuffle=True),
        "loader with a generator": DataLoader(Noisy(), batch_size=8, shuffle=True, generator=own),
        "batch sampler": DataLoader(
            Noisy(), batch_sampler=BatchSampler(RandomSampler(range(40), generator=own), 8, False)
        ),
        "data set with a generator": Drawing(),
        "workers": DataLoader(Noisy(), batch_size=8, shuffle=True, num_workers=1),
    }


@pytest.mark.parametrize("name", loaders())
def test_a_run_repeats_and_resumes_within_an_epoch_to_the_same_bits(tmp_path, name):
    config = {"batch_size": 8, "lr": 0.1}
    for folder in ("a", "b"):
        task = classification(loaders()[name])
        train(Config(epochs=2, **config), tmp_path / folder, progress=False, task=task)
        torch.rand(3)
    for steps in (7, 10):
        task = classification(loaders()[name])
        train(
            Config(epochs=2, steps=steps, **config),
            tmp_path / "c",
            resume=True,
            progress=False,
            task=task,
        )
    assert len(losses(tmp_path / "a")) == 10
    assert losses(tmp_path / "a") == losses(tmp_path / "b") == losses(tmp_path / "c")
    assert len(set(losses(tmp_path / "a"))) == 10
    assert 0 <= read_run(tmp_path / "a").summary["final_test_accuracy"] <= 1


def test_a_sampler_is_given_the_epoch(tmp_path):
    def loader():
        sampler = DistributedSampler(range(40), num_replicas=1, rank=0)
        return DataLoader(
            TensorDataset(torch.arange(40.0)[:, None], torch.arange(40)), 8, sampler=sampler
        )

    orders = []
    for epoch in (0, 1, 0):
        batches = TaskLoader(classification(loader()), Config(), torch.device("cpu")).train(epoch)
        orders.append([int(i) for _, indices in batches for i in indices])
    assert orders[0] == orders[2] != orders[1]


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.ones(2), 1


class Mapped(Noisy):
    def __getitem__(self, index):
        return {"x": torch.ones(2), "y": 1}


@pytest.mark.parametrize(
    ("options", "data", "words"),
    [
        ({}, Endless(), "data of a task must have a length, got Endless"),
        ({}, Mapped(), "must be pairs .inputs, targets. of tensors, got dict"),
        (
            {},
            DataLoader(Noisy(), num_workers=1, persistent_workers=True),
            "persistent_workers must be False in a task, got True; leave it out",
        ),
        ({}, TensorDataset(torch.ones(0, 2), torch.ones(0)), "must have a batch, got none"),
        ({"train_limit": 3}, Noisy(), "train_limit must be left out with a task"),
    ],
)
def test_what_cannot_be_trained_is_one_line(tmp_path, options, data, words):
    task = classification(data)
    with pytest.raises(ValueError, match=words) as caught:
        train(Config(steps=1, **options), tmp_path, progress=False, task=task)
    assert "\n" not in str(caught.value)


def test_a_loss_must_be_one_number(tmp_path):
    task = Task(nn.Linear(1, 1), line_data(), loss=nn.MSELoss(reduction="none"))
    with pytest.raises(ValueError, match="loss must be a 0-dim tensor"):
        train(Config(steps=1), tmp_path, progress=False, task=task)


def test_other_data_are_noticed_and_the_task_must_be_given_again(refused, tmp_path):
    train(Config(steps=1), tmp_path / "a", progress=False, task=regression())
    for data in (line_data(49), TensorDataset(*(-part for part in line_data().tensors))):
        with pytest.raises(ValueError, match="data must be unchanged"):
            train(
                Config(steps=2), tmp_path / "a", resume=True, progress=False, task=regression(data)
            )
    train(Config(steps=1), tmp_path / "b", progress=False, task=regression(test=line_data(7)))
    zeros = TensorDataset(torch.zeros(7, 1), torch.zeros(7, 1))
    with pytest.raises(ValueError, match="got checksums of first batches"):
        train(
            Config(steps=2),
            tmp_path / "b",
            resume=True,
            progress=False,
            task=regression(test=zeros),
        )
    words = ("--steps", "2")
    assert "task must be given for this run" in refused("train", "--resume", "{tmp}/a", *words)


def test_targets_that_are_missing_do_not_stop_a_resume(tmp_path):
    x, y = line_data().tensors
    y = torch.where(torch.arange(48)[:, None] % 3 == 0, torch.nan, y)

    def loss(outputs, targets):
        known = ~targets.isnan()
        return nn.functional.mse_loss(outputs[known], targets[known])

    for steps in (2, 4):
        task = replace(regression(TensorDataset(x, y)), loss=loss)
        summary = train(
            Config(batch_size=16, steps=steps), tmp_path, resume=True, progress=False, task=task
        )
        assert (summary.status, summary.steps) == ("finished", steps)


def test_a_frozen_batch_norm_stays_frozen(tmp_path):
    norm = nn.BatchNorm1d(1)
    model = nn.Sequential(norm.requires_grad_(False).eval(), nn.Dropout(), nn.Linear(1, 1))
    data = TensorDataset(*(10 * part for part in line_data().tensors))
    task = Task(model, data, data, loss=nn.functional.mse_loss)
    train(Config(batch_size=16, epochs=2), tmp_path / "a", progress=False, task=task)
    assert norm.running_mean.item() == 0
    assert [part.training for part in model] == [False, True, True]
    model.eval()
    train(Config(batch_size=16, epochs=2), tmp_path / "b", progress=False, task=task)
    assert all(part.training for part in model)


class Scaled(nn.Linear):
    """A layer that adds to its state dict by torch's own way."""

    def __init__(self, scale):
        super().__init__(1, 1)
        self.own = scale

    def get_extra_state(self):
        return {"scale": self.own}

    def set_extra_state(self, state):
        self.own = state["scale"]


def test_extra_state_is_resumed_or_refused_before_the_first_step(tmp_path):
    def run(scale, steps, out):
        task = Task(Scaled(scale), line_data(), loss=nn.functional.mse_loss)
        config = Config(batch_size=16, steps=steps)
        train(config, tmp_path / out, progress=False, resume=True, task=task)
        return task.model.own

    for number, right in enumerate((2.0, torch.tensor([2.0]), [1, {"a": None}])):
        run(right, 2, str(number))
        assert run(None if number else 0.0, 4, str(number)) == right
    with pytest.raises(ValueError, match="states/model/_extra_state/scale must be a tensor or"):
        run(numpy.float64(2.0), 2, "refused")
    assert not (tmp_path / "refused" / "config.json").exists()


def evaluated(tmp_path, model, x, y, loss=nn.functional.cross_entropy):
    task = Task(model, TensorDataset(x, y.clamp(min=0)), TensorDataset(x, y), loss)
    train(Config(batch_size=4, steps=3), tmp_path, task=task, progress=False)
    return read_run(tmp_path).evaluations[-1]


@pytest.mark.parametrize("length", [5, 7])  # the last is the number of classes
def test_tokens_have_a_loss_and_no_accuracy(tmp_path, length):
    torch.manual_seed(0)
    x = torch.randint(0, 7, (22, length))
    model = nn.Sequential(nn.Embedding(7, 16), nn.Linear(16, 7))

    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    y = (x + 1) % 7
    y[:4] = -100  # a whole batch
    y[5, 1:] = -100
    found = evaluated(tmp_path, model, x, y, loss)
    assert "test_accuracy" not in found
    expected = float(loss(model(x), y).detach())
    assert found["test_loss"] == pytest.approx(expected, rel=22 * 7 * 2**-23)


def test_one_output_has_no_accuracy(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(22, 3)

    def loss(outputs, targets):
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float())

    assert "test_accuracy" not in evaluated(
        tmp_path, nn.Linear(3, 1), x, (x[:, 0] > 0).long(), loss
    )


def test_ignored_targets_count_in_neither_loss_nor_accuracy(tmp_path):
    torch.manual_seed(0)
    x, y = torch.randn(22, 3), torch.randint(0, 3, (22,))
    y[:10] = -100  # two whole batches, and a half
    model = nn.Linear(3, 3)
    found = evaluated(tmp_path, model, x, y)
    outputs = model(x).detach()
    expected = float(nn.functional.cross_entropy(outputs, y))
    assert found["test_loss"] == pytest.approx(expected, rel=22 * 2**-23)
    assert found["test_accuracy"] == float((outputs.argmax(1) == y)[10:].double().mean())


def test_only_ignored_targets_have_no_loss(tmp_path):
    found = evaluated(tmp_path, nn.Linear(3, 3), torch.randn(8, 3), torch.full((8,), -100))
    assert math.isnan(found["test_loss"])
    assert "test_accuracy" not in found
