"""What a training step and an evaluation compute, and the state they change."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from corridor import _reduce, models
from corridor import data as datasets
from corridor._tree import squared_norm
from corridor.data.rng import derive
from corridor.train import optimizers, probing
from corridor.train.config import Config
from corridor.train.processes import parallel
from corridor.train.processes.team import Team

Network = Callable[[Tensor], Tensor]


class StepNumbers(NamedTuple):
    """Numbers of one step, 0-dim tensors still on the device where they were made there.

    The loss is this rank's share: the mean over ranks is that of the batch. The limit that drift
    sets the step is there where the optimizer has one.
    """

    loss: Tensor
    grad_norm: Tensor
    effective_lr: Tensor | float
    skipped: Tensor | int
    drift_limit: Tensor | None = None


class Trainer:
    """Data, network, optimizer and schedule of a run.

    Args:
        config: What to train and how.
        device: Where to train.
        team: The processes that train it together; by default this one alone.

    Attributes:
        data: The data set.
        loader: Its batches; ``len`` of an epoch is ``loader.steps_per_epoch``.
        total: Optimizer steps of the whole run.
        parameters: The tensors that are trained.
        takes_loss: Whether the optimizer is handed the loss, and skips what is not finite.
        watches: Whether it is handed the loss by its graph.

    Raises:
        ValueError: If the config asks for something impossible, as batches that the processes
            cannot share.
    """

    def __init__(self, config: Config, device: torch.device, team: Team | None = None) -> None:
        self.config, self.device, self.team = config, device, team or Team()
        team = self.team
        self.model = team.together(self._prepare)
        team.check_alike(self.facts())
        self.total = config.steps or config.epochs * self.loader.steps_per_epoch
        self.spread = parallel.spread(self.model, config, team, device)
        # Batches have few shapes, and kernels for any shape fail in networks sharded part by part.
        self.forward = torch.compile(self.spread, dynamic=False) if config.compile else self.spread
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = team.together(lambda: optimizers.build(self.parameters, config))
        self.scheduler = optimizers.schedule(self.optimizer, config, self.total)
        self.takes_loss = optimizers.OPTIMIZERS[config.optimizer].takes_loss
        self.watches = optimizers.watches(config)
        self.probe = probing.make(self.parameters, self.optimizer, config, team.world > 1)
        if team.rank:  # weights are drawn alike everywhere, dropout is not
            torch.manual_seed(derive(config.seed, team.rank))

    def _prepare(self) -> nn.Module:
        """Open the data and build the network: all that one process does by itself."""
        config, team = self.config, self.team
        self.data = datasets.load(
            config.data,
            data_dir=config.data_dir,
            image_size=config.image_size,
            limit=config.train_limit,
        )
        self.loader = datasets.Loader(
            self.data,
            batch_size=config.batch_size,
            device=self.device,
            seed=config.seed,
            augment=config.augment,
            drop_last=config.drop_last,
            channels_last=config.channels_last,
            workers=config.workers,
            rank=team.rank,
            ranks=team.world,
        )
        self._check_shares()
        return self._build_model()

    def _check_shares(self) -> None:
        """Raise a ValueError if the processes cannot share the batches."""
        ranks, loader, config = self.team.world, self.loader, self.config
        if ranks == 1:
            return
        parts = ranks * config.accumulate
        what = f"{ranks} processes"
        what += f" x {config.accumulate} micro-batches" if config.accumulate > 1 else ""
        if loader.batch_size % parts:
            raise ValueError(
                f"batch_size must be divisible by {what}, got {loader.batch_size} images a batch"
            )
        last = loader.size(loader.steps_per_epoch - 1)
        if last < ranks or (config.accumulate > 1 and last % parts):
            raise ValueError(
                f"an epoch's last batch has {last} images, which {what} cannot share; "
                "use --drop-last, or another batch_size"
            )
        if config.probe_curvature and config.parallel == "fsdp":
            raise ValueError("probe_curvature needs whole parameters; use parallel ddp")
        if optimizers.watches(config) and config.parallel == "fsdp":
            what = "drift" if config.drift is not None else config.optimizer
            raise ValueError(f"{what} measures with whole parameters; use parallel ddp")
        if len(self.data.test) < ranks:
            raise ValueError(f"{len(self.data.test)} test images are too few for {what}")

    def facts(self) -> dict[str, Any]:
        """What of the data must be the same in every process, by name."""
        labels = self.data.train.labels.numpy().tobytes()
        return {
            "training images": len(self.data.train),
            "test images": len(self.data.test),
            "classes": len(self.data.classes),
            "labels of checksum": zlib.crc32(labels),
        }

    def _build_model(self) -> nn.Module:
        """The network, its weights drawn on the CPU so that they are the same on every device."""
        model = models.build(
            self.config.model,
            num_classes=len(self.data.classes),
            in_channels=self.data.channels,
            image_size=self.data.image_size,
            width=self.config.width,
        ).to(self.device)
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(f"model {self.config.model!r} has no parameters to train")
        if self.config.channels_last:
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return model.train()

    def step(self, images: Tensor, labels: Tensor, count: int | None = None) -> StepNumbers:
        """One optimizer step on a batch: images [b, c, h, w], labels [b].

        Args:
            images: This rank's part of the batch.
            labels: Of that part.
            count: Images in the whole batch, where this is a part.
        """
        loss = self._backward(images, labels, self._share(labels, count))
        group = self.optimizer.param_groups[0]
        if self.takes_loss:
            given: dict[str, Any] = {} if self.watches else {"loss": loss}
            self.optimizer.step(**given)
            # The next step writes over them in place.
            kept = [group[name].clone() for name in ("grad_norm", "effective_lr", "skipped")]
            limit = group["drift_limit"].clone() if "drift_limit" in group else None
            numbers = StepNumbers(loss, *kept, drift_limit=limit)
        else:
            grads = [p.grad for p in self.parameters if p.grad is not None]
            sharded = any(_reduce.is_sharded(g) for g in grads)
            grad_norm = parallel.norm(grads) if sharded else squared_norm(grads).sqrt()
            self.optimizer.step()
            numbers = StepNumbers(loss, grad_norm, group["lr"], 0)
        self.optimizer.zero_grad()
        if self.scheduler is not None:
            self.scheduler.step()
        return numbers

    def _share(self, labels: Tensor, count: int | None) -> float:
        """The images by which this rank's loss is divided: a batch's by the number of ranks."""
        return len(labels) if count is None else count / self.team.world

    def measure(
        self, images: Tensor, labels: Tensor, number: int, count: int | None = None
    ) -> dict[str, float]:
        """The landscape under a batch, if that step, counted from 0, is to be probed."""
        if self.probe is None or number % self.config.probe:
            return {}
        parts, share = self._micro_batches(images, labels), self._share(labels, count)

        def closure() -> Tensor:
            losses = [self._loss(*part, share, self.model) for part in parts]
            return torch.stack(losses).sum()

        return probing.numbers(self.probe, closure, number)

    def _backward(self, images: Tensor, labels: Tensor, share: float) -> Tensor:
        """Gradient of the mean loss of a batch, micro-batch by micro-batch; returns that loss."""
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

    def _loss(self, images: Tensor, labels: Tensor, of: float, network: Network) -> Tensor:
        """A micro-batch's share in the mean loss of a batch of so many."""
        loss = cross_entropy(self._outputs(images, network), labels)
        return loss if len(labels) == of else loss * (len(labels) / of)

    def _outputs(self, images: Tensor, network: Network) -> Tensor:
        if self.config.precision == "bfloat16":
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                return network(images).float()
        return network(images)

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Mean loss and accuracy, between 0 and 1, over the test images of all ranks."""
        parallel.settle_buffers(self.model, self.team)
        self.model.eval()
        sums, count = [], 0
        for images, labels in self.loader.test():
            outputs = self._outputs(images, self.forward)
            loss = cross_entropy(outputs, labels, reduction="sum")
            right = (outputs.argmax(1) == labels).sum()
            sums.append(torch.stack([loss.double(), right.double()]))
            count += len(labels)
        self.model.train()
        total = torch.stack(sums).sum(0)
        if self.team.world > 1:
            total, count = self.team.total(total), len(self.data.test)
        loss, accuracy = (total / count).tolist()
        return loss, accuracy

    def skipped(self) -> int:
        """Steps the optimizer has skipped so far."""
        return int(self.optimizer.param_groups[0].get("skipped", 0))

    def finite(self) -> bool:
        """Whether every parameter is a finite number, on every rank."""
        parts = [_reduce.local(p) for p in self.parameters]
        bad = not bool(torch.stack([p.isfinite().all() for p in parts]).all())
        return not self.team.largest(bad)[0]

    def state_dict(self) -> dict[str, Any]:
        """State dicts of network, optimizer and schedule."""
        parallel.settle_buffers(self.model, self.team)
        states = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.scheduler is not None:
            states["scheduler"] = self.scheduler.state_dict()
        if self.probe is not None:
            states["probe"] = self.probe.state_dict()
        return states

    def load_state_dict(self, states: dict[str, Any]) -> None:
        """Load what `state_dict` returned, in this or another number of processes."""
        self.model.load_state_dict(states["model"])
        self.optimizer.load_state_dict(states["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(states["scheduler"])
        if self.probe is not None and "probe" in states:
            self.probe.load_state_dict(states["probe"])

    def like(self) -> dict[str, Tensor]:
        """Return the tensors that give those in a checkpoint their device and their shards."""
        model = {f"states/model/{k}": v for k, v in self.model.state_dict().items()}
        optimizer = {f"states/optimizer/state/{i}": p for i, p in enumerate(self.parameters)}
        return {**model, **optimizer}
