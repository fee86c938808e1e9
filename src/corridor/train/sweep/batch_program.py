"""One optimizer step of many networks of one shape, as one program over stacked parameters."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from corridor.optim import step_size
from corridor.train.config import FREE_ON_RESUME, Config

Named = dict[str, Tensor]
# The optimizers whose step is a formula of each run's own loss and squared gradient norm, and SGD.
RULES = ("clr", "sps-safe", "sgd")
# Options in which the runs of one program may differ.
OWN = frozenset({"seed", "optimizer", "lr", "momentum", "weight_decay", "f_star", "scale"})
# Options that one program has at one value only, or not at all.
FIXED = {
    "accumulate": 1,
    "precision": "float32",
    "compile": False,
    "channels_last": False,
    "tensorboard": False,
    "probe": 0,
    "drift": None,
}
DROPOUT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


def check(config: Config) -> None:
    """Raise one line of ValueError if a config does not go into a batched program."""
    for name, value in FIXED.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"engine batched needs {name}={value}, got {getattr(config, name)}; "
                "use another engine"
            )
    if config.optimizer not in RULES:
        raise ValueError(
            f"engine batched knows the optimizers {', '.join(RULES)}, got {config.optimizer}; "
            "use another engine"
        )
    if config.momentum and config.optimizer != "sgd":
        raise ValueError("engine batched has momentum for sgd only; use another engine")


def check_together(configs: Sequence[Config]) -> None:
    """Raise one line of ValueError if configs do not go into one batched program."""
    for config in configs:
        check(config)
    odd = next((c for c in configs if program_key(c) != program_key(configs[0])), None)
    if odd is not None:
        one, other = asdict(configs[0]), asdict(odd)
        names = [n for n in one if n not in OWN | FREE_ON_RESUME and one[n] != other[n]]
        raise ValueError(
            f"the configs differ in {', '.join(names)}; one batched program takes "
            f"runs that differ in {', '.join(sorted(OWN))} only"
        )


def program_key(config: Config) -> Config:
    """What runs of one program have in common."""
    plain = Config()
    shared = {name: getattr(plain, name) for name in OWN | FREE_ON_RESUME}
    return replace(config, **shared)


class Numbers(NamedTuple):
    """Of one step, an entry a run."""

    loss: Tensor
    grad_norm: Tensor
    effective_lr: Tensor
    skipped: Tensor


class Program:
    """Networks of one shape, stacked, and their optimizers.

    What happens in one run stays there: every number of the program belongs to one run, and a
    run whose loss is not finite changes no other.

    Args:
        models: The networks, freshly built; they are copied.
        configs: Their optimizer, lr, momentum, weight_decay, f_star and scale are used.
        rates: Caps (clr and relatives) or learning rates (sgd), before any schedule.

    Attributes:
        params: Trained tensors by name, a row a run.
        buffers: The others, such as running means, likewise.
        velocity: SGD's momentum buffers, likewise; zero where there is none.
        skipped: Steps skipped so far, a number a run.

    Raises:
        ValueError: The networks draw random numbers in training, or cannot be batched.
    """

    def __init__(
        self, models: Sequence[nn.Module], configs: Sequence[Config], rates: Sequence[float]
    ) -> None:
        if any(isinstance(module, DROPOUT) for module in models[0].modules()):
            raise ValueError(
                f"engine batched cannot train {configs[0].model}: its dropout would draw other "
                "numbers than in runs of their own; use another engine"
            )
        if not all(p.requires_grad for p in models[0].parameters()):
            raise ValueError(
                f"engine batched trains all parameters of a network, and some of "
                f"{configs[0].model} are fixed; use another engine"
            )
        self.model = configs[0].model
        self.params, self.buffers = stack_module_state(list(models))
        self.params = {name: p.detach() for name, p in self.params.items()}
        self.training = copy.deepcopy(models[0]).to("meta").train()
        self.testing = copy.deepcopy(self.training).eval()
        first = next(iter(self.params.values()))
        device, dtype = first.device, torch.promote_types(first.dtype, torch.float32)

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        self.rates = column(rates)
        self.f_star = column([c.f_star for c in configs])
        self.scale = column([c.scale for c in configs])
        self.decay = column([c.weight_decay for c in configs])
        self.momentum = column([c.momentum for c in configs])
        self.by_loss = torch.tensor([c.optimizer != "sgd" for c in configs], device=device)
        self.safe = torch.tensor([c.optimizer == "sps-safe" for c in configs], device=device)
        self.skipped = torch.zeros(len(configs), dtype=torch.int64, device=device)
        moving = any(c.momentum for c in configs)
        self.velocity = {n: torch.zeros_like(p) for n, p in self.params.items()} if moving else {}
        self.begun = torch.zeros(len(configs), dtype=torch.bool, device=device)

    def step(self, images: Tensor, labels: Tensor, factor: float, alive: Tensor) -> Numbers:
        """One step of every run that is alive.

        Args:
            images: [runs, b, c, h, w], or [b, c, h, w] where all runs see the same.
            labels: [runs, b], or [b] likewise.
            factor: Of a schedule, on all rates.
            alive: Which runs go on, bool [runs].
        """
        shared = None if images.dim() == 4 else 0
        gradient = vmap(grad_and_value(self._loss, has_aux=True), in_dims=(0, 0, shared, shared))
        grads, (loss, buffers) = self._called(
            lambda: gradient(self.params, self.buffers, images, labels)
        )
        norm_sq = torch.stack([g.flatten(1).square().sum(1) for g in grads.values()]).sum(0)
        skip = self.by_loss & ~step_size.usable(loss, norm_sq)
        step = self._sizes(loss, norm_sq, skip, factor)
        self.skipped += skip & alive
        self._move(grads, step, alive & ~skip)
        self.buffers = {n: _where(alive, new, self.buffers[n]) for n, new in buffers.items()}
        return Numbers(loss, norm_sq.sqrt(), step, self.skipped.clone())

    def _loss(
        self, params: Named, buffers: Named, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Named]:
        mine = {name: buffer.clone() for name, buffer in buffers.items()}
        outputs = functional_call(self.training, (params, mine), (images,))
        return cross_entropy(outputs, labels), mine

    def _sizes(self, loss: Tensor, norm_sq: Tensor, skip: Tensor, factor: float) -> Tensor:
        rates = self.rates * factor
        gap = loss - self.f_star
        clr = step_size.ratio(self.scale * gap, norm_sq)
        safe = step_size.sps_safe(gap, norm_sq)
        step = torch.minimum(torch.where(self.safe, safe, clr), rates).clamp(min=0.0)
        step = torch.where(skip, torch.zeros_like(step), step)
        return torch.where(self.by_loss, step, rates)

    def _move(self, grads: Named, step: Tensor, moves: Tensor) -> None:
        """Decay is decoupled where the step follows from the loss, and in SGD part of g."""
        keep = torch.where(self.by_loss, (1.0 - self.decay * step).clamp(min=0.0), 1.0)
        inside = torch.where(self.by_loss, 0.0, self.decay)
        for name, p in self.params.items():
            along = grads[name] + _rows(inside, p) * p
            if self.velocity:
                beta = torch.where(self.begun, self.momentum, 0.0)  # SGD begins with v = g
                along = _rows(beta, p) * self.velocity[name] + along
                self.velocity[name] = _where(moves, along, self.velocity[name])
            new = _rows(keep, p) * p - _rows(step, p) * along
            self.params[name] = _where(moves, new, p)
        self.begun = self.begun | moves

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the losses and number of right answers over images that all runs see."""

        def outcome(params: Named, buffers: Named) -> tuple[Tensor, Tensor]:
            outputs = functional_call(self.testing, (params, buffers), (images,))
            right = (outputs.argmax(1) == labels).sum()
            return cross_entropy(outputs, labels, reduction="sum"), right

        return self._called(lambda: vmap(outcome)(self.params, self.buffers))

    def finite(self) -> Tensor:
        """Whether all parameters of a run are finite numbers, bool [runs]."""
        rows = [p.isfinite().flatten(1).all(1) for p in self.params.values()]
        return torch.stack(rows).all(0)

    def _called(self, call: Callable[[], tuple]) -> tuple:
        try:
            return call()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"engine batched cannot train {self.model} ({reason}); use another engine"
            ) from error


def _rows(column: Tensor, like: Tensor) -> Tensor:
    return column.view(-1, *[1] * (like.dim() - 1))


def _where(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(_rows(rows, old), new, old)
