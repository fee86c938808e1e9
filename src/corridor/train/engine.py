"""What a training step and an evaluation compute, and the state they change."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from corridor import data as datasets
from corridor import models
from corridor._tree import squared_norm
from corridor.train import measured, optimizers
from corridor.train.config import Config


class StepNumbers(NamedTuple):
    """Numbers of one step, 0-dim tensors still on the device where they were made there."""

    loss: Tensor
    grad_norm: Tensor
    effective_lr: Tensor | float
    skipped: Tensor | int


class Engine:
    """Data, network, optimizer and schedule of a run.

    Args:
        config: What to train and how.
        device: Where to train.

    Attributes:
        data: The data set.
        loader: Its batches; ``len`` of an epoch is ``loader.steps_per_epoch``.
        total: Optimizer steps of the whole run.
        parameters: The tensors that are trained.
        takes_loss: Whether the optimizer is handed the loss, and skips what is not finite.
        watches: Whether it is handed the loss by its graph.
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.data = datasets.load(
            config.data,
            data_dir=config.data_dir,
            image_size=config.image_size,
            limit=config.train_limit,
        )
        self.loader = datasets.Loader(
            self.data,
            batch_size=config.batch_size,
            device=device,
            seed=config.seed,
            augment=config.augment,
            drop_last=config.drop_last,
            channels_last=config.channels_last,
            workers=config.workers,
        )
        self.total = config.steps or config.epochs * self.loader.steps_per_epoch
        self.model = self._build_model()
        self.forward = torch.compile(self.model) if config.compile else self.model
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = optimizers.build(self.parameters, config)
        self.scheduler = optimizers.schedule(self.optimizer, config, self.total)
        self.takes_loss = optimizers.OPTIMIZERS[config.optimizer].takes_loss
        self.watches = config.drift is not None  # the drift is measured on the loss' graph
        self.probe = measured.make(self.parameters, self.optimizer, config)

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

    def step(self, images: Tensor, labels: Tensor) -> StepNumbers:
        """One optimizer step on a batch: images [b, c, h, w], labels [b]."""
        loss = self._backward(images, labels)
        group = self.optimizer.param_groups[0]
        if self.takes_loss:
            given: dict[str, Any] = {} if self.watches else {"loss": loss}
            self.optimizer.step(**given)
            # The next step writes over them in place.
            kept = [group[name].clone() for name in ("grad_norm", "effective_lr", "skipped")]
            numbers = StepNumbers(loss, *kept)
        else:
            grads = [p.grad for p in self.parameters if p.grad is not None]
            grad_norm = squared_norm(grads).sqrt()
            self.optimizer.step()
            numbers = StepNumbers(loss, grad_norm, group["lr"], 0)
        self.optimizer.zero_grad()
        if self.scheduler is not None:
            self.scheduler.step()
        return numbers

    def measure(self, images: Tensor, labels: Tensor, number: int) -> dict[str, float]:
        """The landscape under a batch, if that step, counted from 0, is to be probed."""
        if self.probe is None or number % self.config.probe:
            return {}
        parts = self._micro_batches(images, labels)

        def closure() -> Tensor:
            return torch.stack([self._loss(*part, len(labels)) for part in parts]).sum()

        return measured.numbers(self.probe, closure, number)

    def _backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Gradient of the mean loss of a batch, micro-batch by micro-batch; returns that loss."""
        losses = []
        for some, answers in self._micro_batches(images, labels):
            loss = self._loss(some, answers, len(labels))
            if self.watches:
                self.optimizer.watch(loss)  # pyright: ignore[reportAttributeAccessIssue]
            loss.backward()
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _micro_batches(self, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        size = -(-len(labels) // self.config.accumulate)
        return list(zip(images.split(size), labels.split(size), strict=True))

    def _loss(self, images: Tensor, labels: Tensor, of: int) -> Tensor:
        """A micro-batch's share in the mean loss of a batch of so many."""
        loss = cross_entropy(self._outputs(images), labels)
        return loss if len(labels) == of else loss * (len(labels) / of)

    def _outputs(self, images: Tensor) -> Tensor:
        if self.config.precision == "bfloat16":
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                return self.forward(images).float()
        return self.forward(images)

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Mean loss and accuracy, between 0 and 1, over the test images."""
        self.model.eval()
        sums, count = [], 0
        for images, labels in self.loader.test():
            outputs = self._outputs(images)
            loss = cross_entropy(outputs, labels, reduction="sum")
            right = (outputs.argmax(1) == labels).sum()
            sums.append(torch.stack([loss.double(), right.double()]))
            count += len(labels)
        self.model.train()
        loss, accuracy = (torch.stack(sums).sum(0) / count).tolist()
        return loss, accuracy

    def skipped(self) -> int:
        """Steps the optimizer has skipped so far."""
        return int(self.optimizer.param_groups[0].get("skipped", 0))

    def finite(self) -> bool:
        """Whether every parameter is a finite number."""
        return bool(torch.stack([p.isfinite().all() for p in self.parameters]).all())

    def state_dict(self) -> dict[str, Any]:
        """State dicts of network, optimizer and schedule."""
        states = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.scheduler is not None:
            states["scheduler"] = self.scheduler.state_dict()
        if self.probe is not None:
            states["probe"] = self.probe.state_dict()
        return states

    def load_state_dict(self, states: dict[str, Any]) -> None:
        """Load what ``state_dict`` gave."""
        self.model.load_state_dict(states["model"])
        self.optimizer.load_state_dict(states["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(states["scheduler"])
        if self.probe is not None and "probe" in states:
            self.probe.load_state_dict(states["probe"])
