"""Train a network of your own on data of your own, with a loss of your own."""

import copy
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from corridor._extras import reason
from corridor.data.rng import derive
from corridor.train.config import Config
from corridor.train.processes import generators

NAME = "task"
_PREPARED = ("data_dir", "image_size", "train_limit", "augment", "width", "channels_last")


@dataclass(frozen=True)
class Task:
    """Hold a network, data and a loss for `corridor.train.train`.

    Attributes:
        model: The network; the run trains it in place.
        train: A `Dataset` of pairs (input, target), or a `DataLoader` of batches of such pairs. It
            must have a length. A `Dataset` is shuffled in batches of the config.
        test: Data of the evaluations, of the same form (default: None, no evaluation).
        loss: Function of outputs and targets that returns the mean loss of a batch, a 0-dim tensor
            (default: cross-entropy).

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> x = torch.linspace(-1.0, 1.0, 32).unsqueeze(1)
        >>> task = Task(nn.Linear(1, 1), TensorDataset(x, 2 * x), loss=nn.functional.mse_loss)
    """

    model: nn.Module
    train: Dataset | DataLoader
    test: Dataset | DataLoader | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy

    def config(self, config: Config) -> Config:
        """Return the config that the run folder gets, or raise ValueError."""
        for name in _PREPARED:
            got = getattr(config, name)
            if got not in (None, False):
                raise ValueError(
                    f"{name} must be left out with a task, got {got}; prepare the data in the task"
                )
        size = getattr(self.train, "batch_size", None) or config.batch_size
        return replace(config, data=NAME, model=NAME, batch_size=size)


class TaskLoader:
    """Make the batches of a task, as functions of (seed, epoch, index), as `data.Loader` does."""

    def __init__(self, task: Task, config: Config, device: torch.device) -> None:
        self.seed, self.device = config.seed, device
        self._train = _batches(task.train, config, shuffle=True)
        self._test = None if task.test is None else _batches(task.test, config, shuffle=False)
        self.steps_per_epoch, self.images = len(self._train), 0
        with suppress(TypeError):
            self.images = len(self._train.dataset)  # pyright: ignore[reportArgumentType]

    def train(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the training batches of an epoch, from the index `start` (default: 0)."""
        return self._drawn(self._train, (self.seed, epoch), start)

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the test batches; none without test data."""
        return iter(()) if self._test is None else self._drawn(self._test, (self.seed,), 0)

    def facts(self) -> dict[str, Any]:
        """Return facts that are equal when the data are."""
        first = [next(self.train(0), ()), next(self.test(), ())]
        return {
            "training batches": self.steps_per_epoch,
            "training images": self.images,
            "test batches": 0 if self._test is None else len(self._test),
            "first batches of": [[list(part.shape) for part in batch] for batch in first],
            "checksums of first batches": [[_checksum(part) for part in batch] for batch in first],
        }

    def _drawn(
        self, loader: DataLoader, numbers: tuple[int, ...], start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        batches, grouped = None, loader.batch_sampler
        samplers = loader.sampler, grouped, getattr(grouped, "sampler", None)
        for part in (loader, loader.dataset, *samplers):
            if isinstance(own := getattr(part, "generator", None), torch.Generator):
                own.manual_seed(derive(*numbers))
            if set_epoch := getattr(part, "set_epoch", None):
                set_epoch([*numbers, 0][1])
        for index in range(len(loader)):
            with generators.kept(self.device):  # random transforms repeat
                generators.seed(derive(*numbers, index))
                batches = batches or iter(loader)
                batch = next(batches, None)
            if batch is None:
                return
            pair = isinstance(batch, list | tuple) and len(batch) == 2
            if not pair or not all(isinstance(part, Tensor) for part in batch):
                raise ValueError(
                    "batches of a task must be pairs (inputs, targets) of tensors, got "
                    f"{type(batch).__name__}; give a Dataset of such pairs, or a collate_fn"
                )
            if index >= start:
                inputs, targets = batch
                yield inputs.to(self.device), targets.to(self.device)


def _checksum(part: Tensor) -> int:
    """Return the CRC-32 of a tensor's bytes, which NaN does not change."""
    plain = part.detach().cpu().to_dense().resolve_conj()
    return zlib.crc32(plain.flatten().view(torch.uint8).numpy().tobytes())


def _batches(data: Any, config: Config, *, shuffle: bool) -> DataLoader:
    """Return the batches of a data set; a loader makes its batches itself."""
    try:
        loader = data
        if not isinstance(data, DataLoader):
            loader = DataLoader(
                data,
                min(config.batch_size, len(data)) or 1,
                shuffle=shuffle and len(data) > 0,
                drop_last=shuffle and config.drop_last,
                num_workers=config.workers,
            )
        count = len(loader)
    except TypeError as error:
        raise ValueError(
            f"data of a task must have a length, got {type(data).__name__}; give a Dataset with "
            "__len__, or a DataLoader of it"
        ) from error
    if not count:
        raise ValueError("data of a task must have a batch, got none; give more data")
    if loader.persistent_workers:  # their random state goes on from epoch to epoch
        raise ValueError("persistent_workers must be False in a task, got True; leave it out")
    return loader


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode during the block; modules that were frozen stay frozen."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    yield
    network.train(modes[network])  # networks can override it
    for module, mode in modes.items():
        module.training = mode


def check_network(
    network: nn.Module, outputs: Callable[[Tensor, nn.Module], Tensor], images: Tensor, classes: int
) -> None:
    """Raise ValueError unless a network maps images to one number per class."""

    def tried(network: nn.Module) -> Tensor:
        wanted, got = [len(images), classes], ""
        try:
            found = outputs(images, network)
            got = type(found).__name__
            if isinstance(found, Tensor):
                got = f"{found.dtype} {list(found.shape)}"
                if found.is_floating_point() and list(found.shape) == wanted:
                    return found
        except Exception as error:
            got = reason(error)
        mode = "training" if network.training else "evaluation"
        raise ValueError(
            f"model must map images {list(images.shape)} to numbers {wanted} in {mode} mode, "
            f"got {got}; correct the network"
        )

    if not network.training:
        network.train()
    with generators.kept(images.device):
        with torch.no_grad(), evaluating(network):  # first: lazy modules make parameters here
            tried(network)
        try:  # on a copy, so that averages and counters do not change
            trial = copy.deepcopy(network)
        except Exception:  # networks can hold anything
            return
        if not tried(trial).requires_grad:
            raise ValueError(
                "model must have outputs that depend on its parameters, got outputs without a "
                "graph; leave out detach, no_grad and item"
            )
