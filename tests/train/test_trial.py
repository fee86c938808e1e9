"""What a network is asked before the first step, and what a run says of one that cannot do it."""

import pytest
import torch
from torch import nn

from corridor.train.folder.record import read_run
from corridor.train.loop import train
from corridor.train.task import check_network

FLAT = nn.Flatten
HERE = "tests.train.small_networks"


class Returns(nn.Linear):
    """A linear network whose outputs go through a function."""

    def __init__(self, change, training=None):
        super().__init__(64, 10)
        self.change, self.mode, self.count = change, training, 0

    def forward(self, input):
        self.count += 1
        found = super().forward(input.flatten(1))
        return self.change(found) if self.mode in (None, self.training) else found


def tried(network, count=2, classes=10, call=lambda images, network: network(images)):
    check_network(network, call, torch.zeros(count, 1, 8, 8), classes)


@pytest.mark.parametrize(
    ("network", "got"),
    [
        (nn.Sequential(FLAT(), nn.Linear(64, 12)), r"evaluation mode, got torch.float32 \[2, 12\]"),
        (nn.Sequential(FLAT(), nn.Linear(64, 1)), r"got torch.float32 \[2, 1\]"),
        (nn.Linear(8, 10), r"got torch.float32 \[2, 1, 8, 10\]"),
        (nn.Conv2d(3, 10, 8), "got RuntimeError: .*expected input"),
        (nn.Bilinear(64, 64, 10), "got TypeError: .* missing 1 required positional argument"),
        (Returns(lambda x: (x, x)), "evaluation mode, got tuple"),
        (Returns(lambda x: (x, x), training=True), "training mode, got tuple"),
        (Returns(lambda x: {"logits": x}), "got dict"),
        (Returns(lambda x: None), "got NoneType"),
        (Returns(lambda x: x.argmax(1)), r"got torch.int64 \[2\]"),
        (Returns(lambda x: x > 0), r"got torch.bool \[2, 10\]"),
        (Returns(lambda x: x[:1]), r"got torch.float32 \[1, 10\]"),
        (Returns(lambda x: 1 / 0), "got ZeroDivisionError"),
    ],
)
def test_a_network_that_does_something_else_is_one_line(network, got):
    with pytest.raises(ValueError, match=got) as caught:
        tried(network)
    message = str(caught.value)
    assert message.startswith("model must map images [2, 1, 8, 8] to numbers [2, 10] in ")
    assert "\n" not in message


def test_outputs_without_a_graph():
    with pytest.raises(ValueError, match="model must have outputs that depend on its parameters"):
        tried(Returns(torch.Tensor.detach))


def test_one_image_per_batch_under_batch_norm():
    flat = nn.Sequential(FLAT(), nn.Linear(64, 10), nn.BatchNorm1d(10))
    tried(flat, count=2)
    with pytest.raises(ValueError, match="training mode, got ValueError: Expected more than 1"):
        tried(flat, count=1)


def test_nothing_of_the_network_or_of_the_random_numbers_changes():
    noisy = nn.Sequential(Returns(torch.clone), nn.BatchNorm1d(10), nn.Dropout())
    before, state = {k: v.clone() for k, v in noisy.state_dict().items()}, torch.get_rng_state()
    tried(noisy)
    assert all(torch.equal(before[k], v) for k, v in noisy.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert noisy.training
    assert all(p.grad is None for p in noisy.parameters())
    assert noisy[0].count == 1  # the pass in training mode was another network's


def test_lazy_networks_are_made_and_those_that_cannot_be_copied_pass():
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(10), nn.LazyBatchNorm1d())
    tried(lazy)
    assert lazy[1].weight.shape == (10, 64)
    held = Returns(torch.clone)
    held.lock = (x for x in ())  # pyright: ignore[reportArgumentType]
    tried(held)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "torch.nn:Identity"}, "model must have parameters to train"),
        ({"model": f"{HERE}:tuples"}, "got tuple; correct the network"),
        ({"model": f"{HERE}:broken"}, "got RuntimeError: this network cannot"),
        ({"model": f"{HERE}:normed", "batch_size": 1}, "Expected more than 1"),
        (  # 1437 images: two batches of 718, and one image
            {"model": f"{HERE}:normed", "batch_size": 718, "drop_last": False},
            "Expected more than 1",
        ),
        ({"seed": 2**64}, "seed must be below 2\\*\\*64, got 18446744073709551616"),
    ],
)
def test_a_run_ends_before_its_first_step(tmp_path, small, options, words):
    with pytest.raises(ValueError, match=words) as caught:
        train(small(**options), tmp_path, progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_largest_seed_trains(tmp_path, small):
    assert train(small(seed=2**64 - 1, steps=1), tmp_path, progress=False).steps == 1


def test_f_star_above_the_losses_is_a_warning(tmp_path, small):
    with pytest.warns(UserWarning, match="f_star 5 is above all of the first losses .*largest 2.4"):
        train(small(steps=3, f_star=5.0), tmp_path, progress=False)
    assert {line["effective_lr"] for line in read_run(tmp_path).steps} == {0.0}
    train(small(steps=3, f_star=0.5), tmp_path / "below", progress=False)
