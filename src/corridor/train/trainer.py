"""Compute the steps and evaluations of a run, and hold the state that they change."""

import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from corridor import _reduce, models
from corridor import data as datasets
from corridor._tree import squared_norm
from corridor.data.decode import read_image
from corridor.data.rng import derive
from corridor.geometry import Probe
from corridor.train import optimizers
from corridor.train.config import Config, differences
from corridor.train.processes import generators, parallel
from corridor.train.processes.team import Team
from corridor.train.task import NAME as TASK
from corridor.train.task import Task, TaskLoader, check_network, evaluating

# Images of a streaming split whose pixels are in the checksum of the data.
SAMPLED = 64
IGNORED = -100  # target that has no part in torch's cross-entropy
LOADER = ("batch_size", "seed", "augment", "drop_last", "channels_last", "workers")
# What an optimizer that takes the loss leaves in its group.
NUMBERS = ("effective_lr", "grad_norm", "skipped", "drift_limit")
# Every line of the metrics has these, for the same batch at the same point.
KNOWN = frozenset({"step", "loss", "grad_norm"})

Network = Callable[[Tensor], Tensor]


class Trainer:
    """Hold data, network, optimizer and schedule of a run; `facts` must be equal on all ranks."""

    def __init__(
        self,
        config: Config,
        device: torch.device,
        team: Team | None = None,
        task: Task | None = None,
    ) -> None:
        self.config, self.device, self.team = config, device, team or Team()
        self.loader: Any = None  # datasets.Loader, or TaskLoader
        self.loss = cross_entropy if task is None else task.loss
        row, team = optimizers.OPTIMIZERS[config.optimizer], self.team
        self.takes_loss, self.watches = row.takes_loss, row.watches or config.drift is not None
        self.model = team.together(lambda: self._own(task) if task else self._prepare())
        team.require_equal(self.facts)
        self.total = config.steps or config.epochs * self.loader.steps_per_epoch
        self.spread = parallel.spread(self.model, config, team, device)
        # Batches have few shapes, and kernels for any shape fail in networks sharded part by part.
        self.forward = torch.compile(self.spread, dynamic=False) if config.compile else self.spread
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = team.together(
            lambda: optimizers.build(config.optimizer, self.parameters, vars(config))
        )
        self.scheduler = optimizers.schedule(self.optimizer, config.schedule, self.total)
        self.probe = None
        if config.probe:
            self.probe = Probe(
                self.parameters,
                every=config.probe,
                f_star=config.f_star,
                step=optimizers.next_step(self.optimizer),
                curvature=config.probe_curvature,
                across_ranks=team.world > 1,
            )
        if team.rank:  # initial weights are equal on all ranks, dropout differs
            generators.seed(derive(config.seed, team.rank))

    def _prepare(self) -> nn.Module:
        """Open the data and return the network, without the other processes."""
        config, team = self.config, self.team
        if config.data == TASK:
            raise ValueError("task must be given for this run, got None; use train(..., task=...)")
        self.data = datasets.load(
            config.data,
            data_dir=config.data_dir,
            image_size=config.image_size,
            limit=config.train_limit,
        )
        options: dict[str, Any] = {name: getattr(config, name) for name in LOADER}
        self.loader = datasets.Loader(
            self.data, device=self.device, rank=team.rank, ranks=team.world, **options
        )
        self.title, self.images = self.data.title, len(self.data.train)
        self.classes = len(self.data.classes)
        if team.world > 1:
            self._validate_shares()
        self.facts = _facts(self.data)
        return self._network()

    def _own(self, task: Task) -> nn.Module:
        """Take the batches of a task and return its network."""
        world = self.team.world
        if world > 1:
            raise ValueError(f"a task must be trained by one process, got {world}; use 1 process")
        self.loader = TaskLoader(task, self.config, self.device)
        self.title, self.images, self.classes = "own data", self.loader.images, 0
        self.facts = self.loader.facts()
        model = task.model.to(self.device)
        return model if model.training else model.train()

    def _validate_shares(self) -> None:
        """Raise a ValueError if the processes cannot share the batches or the parameters."""
        ranks, loader, config = self.team.world, self.loader, self.config
        parts = ranks * config.accumulate
        what = f"{ranks} processes"
        what += f" x {config.accumulate} micro-batches" if config.accumulate > 1 else ""
        if loader.batch_size % parts:
            raise ValueError(
                f"batch_size must be divisible by {what}, got {loader.batch_size} images per batch"
            )
        last = loader.size(loader.steps_per_epoch - 1)
        if last < ranks or (config.accumulate > 1 and last % parts):
            condition = "have an image for each of" if last < ranks else "be divisible by"
            raise ValueError(
                f"an epoch's last batch must {condition} {what}, got {last} images; "
                "use --drop-last, or another batch_size"
            )
        if config.parallel == "fsdp" and (config.probe_curvature or self.watches):
            what = "drift" if config.drift is not None else f"optimizer {config.optimizer!r}"
            what = "probe_curvature" if config.probe_curvature else what
            raise ValueError(f"parallel must be ddp with {what}, got fsdp; use parallel ddp")
        if len(self.data.test) < ranks:
            raise ValueError(f"test images must be at least {ranks}, got {len(self.data.test)}")

    def _network(self) -> nn.Module:
        """Return the network; its weights are drawn on the CPU, so they are equal on any device."""
        config, data, loader, ranks = self.config, self.data, self.loader, self.team.world
        model = models.build(
            config.model,
            num_classes=self.classes,
            in_channels=data.channels,
            image_size=data.image_size,
            width=config.width,
        ).to(self.device)
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(f"model must have parameters to train, got {config.model!r}")
        layout = torch.contiguous_format
        if config.channels_last:
            layout = torch.channels_last
            model.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        # The network is tried on two images, or on one if some micro-batch has a single image.
        smallest = 2
        for count in (loader.batch_size, loader.size(loader.steps_per_epoch - 1)):
            size = -(-(count // ranks) // config.accumulate)
            smallest = min(smallest, (count // ranks) % size or size)
        blank = torch.zeros(smallest, data.channels, data.image_size, data.image_size)
        blank = blank.to(self.device, memory_format=layout)
        check_network(model, self._outputs, blank, self.classes)
        return model

    def step(self, images: Tensor, labels: Tensor, count: int | None = None) -> dict[str, Any]:
        """Make a step on this rank's part of a batch of `count` images; return its numbers."""
        loss = self._backward(images, labels, (count or len(labels)) / self.team.world)
        group = self.optimizer.param_groups[0]
        if self.takes_loss:
            # A watched loss and a loss argument together are an error.
            given: dict[str, Any] = {} if self.watches else {"loss": loss}
            self.optimizer.step(**given)
            names = [name for name in NUMBERS if name in group]
            # The next step overwrites these tensors.
            numbers = {name: group[name].clone() for name in names}
        else:
            grads = [p.grad for p in self.parameters if p.grad is not None]
            if any(_reduce.is_sharded(g) for g in grads):
                grad_norm = _reduce.whole(nn.utils.get_total_norm(grads))
            else:
                grad_norm = squared_norm(grads).sqrt()
            self.optimizer.step()
            numbers = {"effective_lr": group["lr"], "grad_norm": grad_norm, "skipped": 0}
        self.optimizer.zero_grad()
        if self.scheduler is not None:
            self.scheduler.step()
        return {"loss": loss, **numbers}

    def measure(
        self, images: Tensor, labels: Tensor, number: int, count: int | None = None
    ) -> dict[str, float]:
        """Return the measures of a batch before step `number`; empty if the step is not probed."""
        if self.probe is None or number % self.config.probe:
            return {}
        parts, share = self._micro_batches(images, labels), (count or len(labels)) / self.team.world

        def closure() -> Tensor:
            losses = [self._loss(*part, share, self.model) for part in parts]
            return torch.stack(losses).sum()

        with generators.kept():  # the probe itself puts torch's generators back, on any device
            self.probe.now(closure, number)
        return {k: v[-1] for k, v in self.probe.history.items() if k not in KNOWN}

    def _backward(self, images: Tensor, labels: Tensor, share: float) -> Tensor:
        """Compute the gradient of a batch's mean loss by micro-batches, and return that loss."""
        losses = []
        parts = self._micro_batches(images, labels)
        for number, (some, answers) in enumerate(parts, 1):
            with parallel.exchange(self.spread, number == len(parts)):
                loss = self._loss(some, answers, share, self.forward)
                if self.watches:
                    self.optimizer.watch(loss)  # pyright: ignore[reportAttributeAccessIssue]
                loss.backward()
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _micro_batches(self, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        size = -(-len(labels) // self.config.accumulate)
        return list(zip(images.split(size), labels.split(size), strict=True))

    def _loss(self, images: Tensor, labels: Tensor, total: float, network: Network) -> Tensor:
        """Return the part of a micro-batch in the mean loss over `total` images."""
        loss = self.loss(self._outputs(images, network), labels)
        if loss.dim():
            raise ValueError(f"loss must be a 0-dim tensor, got {list(loss.shape)}; take its mean")
        return loss if len(labels) == total else loss * (len(labels) / total)

    def _outputs(self, images: Tensor, network: Network) -> Tensor:
        if self.config.precision == "bfloat16":
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                return network(images).float()
        return network(images)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the mean test loss, and the accuracy of outputs [b, classes]; empty: no data."""
        parallel.settle_buffers(self.model)
        sums: list[Tensor] = []
        with generators.kept(self.device), evaluating(self.model):
            for images, labels in self.loader.test():
                outputs = self._outputs(images, self.forward)
                # Float32 would lose digits in sums over all test images.
                loss = self.loss(outputs, labels).double()
                weight, right, of = loss.new_tensor([len(labels), 0, 0])
                if not labels.is_floating_point() and outputs.dim() == labels.dim() + 1:
                    weight = weight * (labels != IGNORED).double().mean()
                    if labels.dim() == 1 < outputs.shape[1]:
                        right = (outputs.argmax(1) == labels).double().sum()
                        of = ((labels >= 0) & (labels < outputs.shape[1])).double().sum()
                loss = torch.where(weight > 0, loss * weight, 0.0)
                sums.append(torch.stack([loss, right, weight, of]))
        if not sums:
            return {}
        loss, right, count, of = self.team.total(torch.stack(sums).sum(0)).tolist()
        accuracy = {"test_accuracy": right / of} if of else {}
        return {"test_loss": loss / count if count else math.nan, **accuracy}

    def finite(self) -> bool:
        """Return True if all parameters are finite on all ranks."""
        parts = [_reduce.local(p) for p in self.parameters]
        bad = not bool(torch.stack([p.isfinite().all() for p in parts]).all())
        return not self.team.largest(bad)[0]

    def state_dict(self) -> dict[str, Any]:
        """Return the state dicts of all that changes, and the facts of the data."""
        parallel.settle_buffers(self.model)
        parts: dict[str, Any] = {"model": self.model, "optimizer": self.optimizer}
        parts |= {"scheduler": self.scheduler, "probe": self.probe}
        states = {name: part.state_dict() for name, part in parts.items() if part is not None}
        return {"data": self.facts, "config": self.config.to_dict(), **states}

    def load_state_dict(self, states: dict[str, Any]) -> None:
        """Load what `state_dict` returned in any number of processes, or raise ValueError."""
        self.team.together(lambda: self._require_same(states))
        try:
            self.model.load_state_dict(states["model"])
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]
            raise ValueError(
                f"model must be the checkpoint's model, got another model ({reason}); put it back"
            ) from error
        self.optimizer.load_state_dict(states["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(states["scheduler"])
        if self.probe is not None and "probe" in states:
            self.probe.load_state_dict(states["probe"])

    def _require_same(self, states: dict[str, Any]) -> None:
        """Raise ValueError for data or a config that the checkpoint was not written with."""
        # Checkpoints of older versions have no config and other facts.
        was, now = Config.from_dict(states.get("config", self.config.to_dict())), self.config
        for name in differences(was, now, other_length=True):
            raise ValueError(
                f"config.json must be the config of the checkpoints, got {name} "
                f"{getattr(now, name)} in place of {getattr(was, name)}; put it back"
            )
        for name, value in states.get("data", {}).items():
            if self.facts.get(name, value) != value:
                raise ValueError(
                    f"data must be unchanged, got {name} {self.facts.get(name)}"
                    f" in place of {value}; put the data back, or give a new folder"
                )

    def like(self) -> dict[str, Any]:
        """Return the values that give the tensors of a checkpoint their device and shards."""
        model = {f"states/model/{k}": v for k, v in self.model.state_dict().items()}
        optimizer = {f"states/optimizer/state/{i}": p for i, p in enumerate(self.parameters)}
        return {**model, **optimizer}


def _facts(data: datasets.Data) -> dict[str, Any]:
    """Return facts that are equal when the data are."""
    splits = (data.train, data.test)
    return {
        "training images": len(data.train),
        "test images": len(data.test),
        "classes": len(data.classes),
        "a mean pixel of": [round(value, 4) for value in data.mean],  # of images left out, too
        "a checksum of labels": _checksum(split.labels.contiguous().numpy() for split in splits),
        "a checksum of images": _checksum(part for split in splits for part in _content(split)),
    }


def _checksum(parts: Iterable[Any]) -> int:
    return reduce(lambda check, part: zlib.crc32(part, check), parts, 0)


def _content(split: Any) -> Iterator[Any]:
    """Yield the pixels of images in memory, or the names and a sample of files that stream."""
    if not isinstance(split, datasets.StreamSplit):
        yield split.images.contiguous().numpy()
        return
    chosen, cells = split.indices.tolist(), split.rows.cells
    if isinstance(cells, list) and isinstance(cells[0], str):
        for i in chosen:  # the folder may move; its classes and names stay
            yield "/".join(cells[i].split(os.sep)[-2:]).encode()
    for i in chosen[:: max(1, len(chosen) // SAMPLED)]:
        yield read_image(split.rows, i, 3).tobytes()
