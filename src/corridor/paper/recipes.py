"""Recipes: functions from a scale to the complete configs of an experiment's runs.

A scale keeps an experiment's question and shrinks its work: ``demo`` runs on embedded digits in
minutes on two cores, ``laptop`` on a part of CIFAR-10, ``paper`` with the paper's networks on all
of the paper's data. A run's name tells its optimizer, its cap or rate, its batch size and its seed,
so that figures that ask for the same run share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from corridor.optim.clr import DEFAULT_MAX_LR
from corridor.train.config import Config
from corridor.train.sweep.runs import Run

SCALES = ("demo", "laptop", "paper")
FIXED_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
FEWER_RATES = (0.01, 0.1, 0.3, 1.0, 3.0, 30.0)
SLOW_RATES = (0.1, 0.3, 1.0, 3.0)
IMAGENET_CAP = 10.0
SMALL_BATCHES = {"demo": (16, 64, 256, 1024), "laptop": (16, 64, 250, 1000)}
BATCHES = {**SMALL_BATCHES, "paper": (16, 64, 256, 1024, 4096)}
IMAGENET_BATCHES = {"demo": (32, 128, 512), "laptop": (32, 100, 250), "paper": (256, 1024, 4096)}
UNCAPPED: dict[str, Any] = {"optimizer": "clr", "lr": math.inf}
DEFAULT: dict[str, Any] = {"optimizer": "clr", "lr": DEFAULT_MAX_LR}
DRIFT: dict[str, Any] = {"optimizer": "clr", "drift": 1.0}
FORMS = (UNCAPPED, DEFAULT, DRIFT)
_END = 10**9  # runs of seconds: one checkpoint, at the end

_DIGITS = {"data": "digits", "model": "cnn", "width": 16, "checkpoint_every": _END}
_CIFAR_PART = {"data": "cifar10", "image_size": 16, "checkpoint_every": 500, "keep": 1}
_FULL = {"precision": "bfloat16", "channels_last": True}
_CIFAR_FULL = {"data": "cifar10", "epochs": 100, "batch_size": 4096, **_FULL}

_RESNET18: dict[str, dict[str, Any]] = {
    "demo": {**_DIGITS, "batch_size": 512, "epochs": 60},
    "laptop": {
        **_CIFAR_PART,
        "train_limit": 1000,
        "model": "resnet8",
        "batch_size": 250,
        "epochs": 60,
        "eval_every": 20,
    },
    "paper": {**_CIFAR_FULL, "model": "resnet18"},
}
# ResNet-50 with one block a stage: the whole one hardly moves in the steps of a small machine.
_BOTTLENECK = {"model": "resnet14", "width": 8}
_IMAGENET: dict[str, dict[str, Any]] = {
    "demo": {**_DIGITS, "augment": True, "batch_size": 512, "epochs": 15, "eval_every": 5},
    "laptop": {
        **_CIFAR_PART,
        **_BOTTLENECK,
        "width": 16,
        "train_limit": 2000,
        "augment": True,
        "batch_size": 250,
        "epochs": 10,
        "eval_every": 5,
    },
    "paper": {
        "data": "imagenet",
        "model": "resnet50",
        "augment": True,
        "batch_size": 4096,
        "epochs": 90,
        "workers": 12,
        **_FULL,
    },
}
_RESNET50: dict[str, dict[str, Any]] = {
    "demo": {**_DIGITS, **_BOTTLENECK, "batch_size": 128, "epochs": 8},
    "laptop": {
        **_CIFAR_PART,
        **_BOTTLENECK,
        "train_limit": 1000,
        "batch_size": 100,
        "epochs": 20,
        "eval_every": 10,
    },
    "paper": {**_CIFAR_FULL, "model": "resnet50"},
}
_VGG: dict[str, dict[str, Any]] = {
    "demo": {**_DIGITS, "model": "vgg16", "width": 8, "batch_size": 128, "epochs": 6},
    "laptop": {
        **_CIFAR_PART,
        "model": "vgg16",
        "width": 16,
        "train_limit": 1000,
        "batch_size": 100,
        "epochs": 20,
        "eval_every": 10,
    },
    "paper": {**_CIFAR_FULL, "model": "vgg16"},
}
_PROBED: dict[str, dict[str, Any]] = {
    "demo": {**_DIGITS, "batch_size": 256, "epochs": 30, "probe": 2},
    "laptop": {
        **_CIFAR_PART,
        "train_limit": 1000,
        "model": "resnet8",
        "batch_size": 250,
        "epochs": 40,
        "eval_every": 20,
        "probe": 8,
    },
    "paper": {
        "data": "cifar10",
        "model": "resnet18",
        "batch_size": 4096,
        "epochs": 100,
        "channels_last": True,
        "probe": 10,
    },
}
_CAPPED: dict[str, dict[str, Any]] = {
    "demo": {**_DIGITS, "batch_size": 512, "epochs": 60},
    "laptop": {
        **_CIFAR_PART,
        "train_limit": 5000,
        "model": "resnet8",
        "batch_size": 500,
        "steps": 160,
        "eval_every": 8,
    },
    "paper": {**_CIFAR_FULL, "model": "resnet8"},
}
_FEW_IMAGES: dict[str, dict[str, Any]] = {
    "demo": {**_DIGITS, "model": "cnn", "batch_size": 512, "epochs": 40},
    "laptop": {
        **_CIFAR_PART,
        "train_limit": 500,
        "model": "resnet8",
        "batch_size": 250,
        "steps": 100,
        "eval_every": 0,
    },
    "paper": {
        **_CIFAR_FULL,
        "train_limit": 500,
        "model": "resnet8",
        "batch_size": 250,
        "steps": 400,
        "eval_every": 20,
    },
}


def setting_name(config: Config) -> str:
    """Optimizer, cap or rate, and batch size of a config, as its run's folder spells them.

    Example:
        >>> setting_name(Config(optimizer="clr", lr=math.inf, batch_size=512))
        'clr-uncapped_b512'
    """
    rate = f"-{config.lr:g}".replace("-inf", "-uncapped")
    if config.drift is not None:
        rate = f"-drift{config.drift:g}" + rate.replace("-uncapped", "")
    return f"{config.optimizer}{rate}_b{config.batch_size}"


def figure2(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """CLR against a sweep of fixed learning rates, training from scratch: the paper's figure 2.

    Three forms of CLR run: the paper's own, without a cap, the library's default, and that under a
    limit on the drift. The rates of plain gradient descent span four decades; the largest is beyond
    what the network can follow.

    Args:
        scale: demo, laptop or paper.
        seeds: seeds of every setting.
        overrides: `Config` fields that replace the recipe's own, such as ``model="resnet8"``.

    Returns:
        One run for each setting and seed; the name of its folder tells both.

    Raises:
        ValueError: the scale is unknown, an override is no valid config, or it would make settings
            that the recipe compares one.

    Example:
        >>> runs = figure2("demo", seeds=(0,))
        >>> runs[0].name, runs[0].config.optimizer, runs[0].config.data
        ('clr-uncapped_b512_seed0', 'clr', 'digits')
    """
    rates = FEWER_RATES if scale == "laptop" else FIXED_RATES
    return _runs(_RESNET18, scale, seeds, [*FORMS, *map(_sgd, rates)], overrides)


def figure3(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """ResNet-50 on ImageNet at several batch sizes, CLR capped at 10: the paper's figure 3.

    Below paper scale a stand-in: augmented images of another data set, so that the network cannot
    learn them by heart, and a smaller network.

    Example:
        >>> [run.name for run in figure3("demo", seeds=(0,))]
        ['clr-10_b32_seed0', 'clr-10_b128_seed0', 'clr-10_b512_seed0']
    """
    check_scale(scale)
    settings = [
        {"optimizer": "clr", "lr": IMAGENET_CAP, "batch_size": size}
        for size in IMAGENET_BATCHES[scale]
    ]
    return _runs(_IMAGENET, scale, seeds, settings, overrides)


def figure4(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """CLR's step size along training on both data sets: those runs of figures 2 and 3.

    Example:
        >>> [run.name for run in figure4("demo", seeds=(0,))][:2]
        ['clr-uncapped_b512_seed0', 'clr-1_b512_seed0']
    """
    return _runs(_RESNET18, scale, seeds, FORMS, overrides)


def figure5(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """ResNet-50 on CIFAR-10: the paper's figure 5; below paper scale ResNet-14 in its place.

    Example:
        >>> figure5("paper", seeds=(0,))[0].config.model
        'resnet50'
    """
    return _runs(_RESNET50, scale, seeds, [UNCAPPED, DEFAULT], overrides)


def figure6(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """VGG on CIFAR-10: the paper's figure 6.

    Example:
        >>> figure6("paper", seeds=(0,))[0].config.model
        'vgg16'
    """
    return _runs(_VGG, scale, seeds, [UNCAPPED, DEFAULT], overrides)


def figure7(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """Runs of CLR with the landscape under them: the paper's figure 7, and more of it.

    Args:
        scale: demo, laptop or paper.
        seeds: one run each.
        overrides: `Config` fields that replace the recipe's own.

    Raises:
        ValueError: the scale is unknown, or an override is no valid config.

    Example:
        >>> runs = figure7("demo", seeds=(0,))
        >>> runs[0].name, runs[0].config.optimizer, runs[0].config.probe
        ('clr-1_b256_seed0', 'clr', 2)
    """
    return _runs(_PROBED, scale, seeds, [{**DEFAULT, "probe_curvature": True}], overrides)


def figure8(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """Figure 3's largest batch, and gradient descent at fixed rates beside it: figure 8.

    CLR's default cap and its limit on the drift run, too, which the paper does not have.

    Example:
        >>> [run.name for run in figure8("demo", seeds=(0,))][2:4]
        ['clr-drift1_b512_seed0', 'sgd-0.1_b512_seed0']
    """
    check_scale(scale)
    size = {"batch_size": IMAGENET_BATCHES[scale][-1]}
    ten = {"optimizer": "clr", "lr": IMAGENET_CAP}
    settings = [{**form, **size} for form in (ten, DEFAULT, DRIFT)]
    settings += [{**_sgd(rate), **size} for rate in SLOW_RATES]
    return _runs(_IMAGENET, scale, seeds, settings, overrides)


def figure9(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """Figure 2's network over a wide range of batch sizes: the paper's figure 9.

    Beside the forms of CLR, two fixed rates run at the smallest batch. At laptop scale the smallest
    batch gets half the epochs, and the largest, of which an epoch is one step, twice as many.

    Example:
        >>> {run.config.batch_size for run in figure9("demo", seeds=(0,))} == {16, 64, 256, 1024}
        True
    """
    check_scale(scale)
    sizes = BATCHES[scale]
    own = {16: 30, 1000: 120} if scale == "laptop" else {}
    lengths = {b: {"epochs": own[b], "eval_every": own[b] // 3} if b in own else {} for b in sizes}
    settings = [{**form, "batch_size": b, **lengths[b]} for b in sizes for form in FORMS]
    least = {"batch_size": sizes[0], **lengths[sizes[0]]}
    settings += [{**_sgd(rate), **least} for rate in (0.01, 0.1)]
    bases = {**_RESNET18, "demo": {**_RESNET18["demo"], "epochs": 15}}  # small batches: many steps
    return _runs(bases, scale, seeds, settings, overrides)


def caps(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """Where CLR without a cap fails, and what mends it: a cap, a limit on the drift, and others.

    At laptop scale a network that cannot interpolate its data quickly (ResNet-8, 5,000 images).

    Example:
        >>> [run.name for run in caps("laptop", seeds=(0,))][:2]
        ['clr-uncapped_b500_seed0', 'clr-1_b500_seed0']
    """
    settings = [
        *FORMS,
        {"optimizer": "sps-safe"},
        {"optimizer": "half-polyak", "lr": math.inf},
    ]
    return _runs(_CAPPED, scale, seeds, settings, overrides)


def narrow(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """A narrow network on few images, which it learns slowly: CLR's forms.

    Example:
        >>> narrow("laptop", seeds=(0,))[0].config.width
        16
    """
    width = 2 if scale == "demo" else 16
    return _runs(_FEW_IMAGES, scale, seeds, FORMS, {"width": width, **overrides})


def wide(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """A network four times as wide on the same images, which it learns quickly: CLR's forms.

    On digits, where the narrow one has two planes, eight times.

    Example:
        >>> wide("laptop", seeds=(0,))[0].config.width
        64
    """
    width = 16 if scale == "demo" else 64
    return _runs(_FEW_IMAGES, scale, seeds, FORMS, {"width": width, **overrides})


def _sgd(rate: float) -> dict[str, Any]:
    return {"optimizer": "sgd", "lr": rate}


def _runs(
    bases: dict[str, dict[str, Any]],
    scale: str,
    seeds: Sequence[int],
    settings: Sequence[dict[str, Any]],
    overrides: dict[str, Any],
) -> list[Run]:
    """A run for each seed and setting; what the caller overrides holds for all of them."""
    check_scale(scale)
    if "seed" in overrides:
        raise ValueError("a recipe sets the seed of each of its runs; give seeds in place of seed")
    base = dict(bases[scale])
    if "model" in overrides:
        base.pop("width", None)  # another network has its own
    if overrides.keys() & {"data", "data_dir", "model"}:
        base.pop("checkpoint_every", None)  # it may take long
    runs: dict[str, Run] = {}
    for seed in dict.fromkeys(seeds):
        for setting in settings:
            config = Config(**{**base, **setting, **overrides, "seed": seed})
            run = Run(f"{setting_name(config)}_seed{seed}", config)
            if run.name in runs:
                own = ", ".join(sorted({key for s in settings for key in s} & overrides.keys()))
                raise ValueError(
                    f"the recipe compares runs that differ in {own}; leave {own} out, or sweep a "
                    "grid of your own"
                )
            runs[run.name] = run
    return list(runs.values())


def check_scale(scale: str) -> None:
    """One line of ValueError for a scale that is none."""
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")


RECIPES: dict[str, Callable[..., list[Run]]] = {
    "figure2": figure2,
    "figure3": figure3,
    "figure4": figure4,
    "figure5": figure5,
    "figure6": figure6,
    "figure7": figure7,
    "figure8": figure8,
    "figure9": figure9,
    "caps": caps,
    "narrow": narrow,
    "wide": wide,
}
