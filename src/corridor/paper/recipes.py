"""Recipes: functions from a scale to the complete configs of an experiment's runs.

A scale keeps an experiment's question and shrinks its work: ``demo`` runs on embedded digits in
minutes on two cores, ``laptop`` on a part of CIFAR-10, ``paper`` with the paper's networks on all
of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from corridor.train.config import Config
from corridor.train.sweep import Run

SCALES = ("demo", "laptop", "paper")


def figure2(scale: str, seeds: Sequence[int] = (0, 1, 2), **overrides: Any) -> list[Run]:
    """CLR against a sweep of fixed learning rates, training from scratch: the paper's figure 2.

    Both forms of CLR run: the paper's own, without a cap, and the library's default. The rates of
    plain gradient descent span four decades; the largest is beyond what the network can follow.

    Args:
        scale: demo, laptop or paper.
        seeds: seeds of every setting.
        overrides: `Config` fields that replace the recipe's own, such as ``model="resnet8"``.

    Returns:
        One run for each setting and seed; the name of its folder tells both.

    Raises:
        ValueError: the scale is unknown, or an override is no valid config.

    Example:
        >>> runs = figure2("demo", seeds=(0,))
        >>> runs[0].name, runs[0].config.optimizer, runs[0].config.data
        ('clr-uncapped_seed0', 'clr', 'digits')
    """
    base = _figure2_base(scale)
    if "model" in overrides:
        base.pop("width", None)  # another network has its own
    if overrides.keys() & {"data", "data_dir", "model"}:
        base.pop("checkpoint_every", None)  # it may take long
    base |= overrides
    settings = {
        "clr-uncapped": {"optimizer": "clr", "lr": math.inf},
        "clr": {"optimizer": "clr"},
        **{f"sgd-{lr:g}": {"optimizer": "sgd", "lr": lr} for lr in FIXED_RATES},
    }
    return [
        Run(f"{name}_seed{seed}", replace(Config(**base), **setting, seed=seed))
        for seed in seeds
        for name, setting in settings.items()
    ]


FIXED_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def _figure2_base(scale: str) -> dict[str, Any]:
    check_scale(scale)
    demo = {"data": "digits", "model": "cnn", "width": 16, "batch_size": 512, "epochs": 60}
    laptop = {
        "data": "cifar10",
        "image_size": 16,
        "train_limit": 10_000,
        "model": "resnet8",
        "batch_size": 1000,
        "epochs": 30,
    }
    paper = {
        "data": "cifar10",
        "model": "resnet18",
        "batch_size": 4096,
        "epochs": 100,
        "precision": "bfloat16",
        "channels_last": True,
    }
    demo["checkpoint_every"] = 10**9  # seconds long: one checkpoint, at the end
    return {"demo": demo, "laptop": laptop, "paper": paper}[scale]


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
        ('clr_seed0', 'clr', 2)
    """
    check_scale(scale)
    demo = {"data": "digits", "model": "cnn", "width": 16, "batch_size": 256, "epochs": 30}
    laptop = {
        "data": "cifar10",
        "train_limit": 10_000,
        "model": "resnet8",
        "batch_size": 250,
        "epochs": 20,
    }
    paper = {
        "data": "cifar10",
        "model": "resnet18",
        "batch_size": 4096,
        "epochs": 100,
        "channels_last": True,
    }
    every = {"demo": 2, "laptop": 8, "paper": 10}[scale]
    base = {"demo": demo, "laptop": laptop, "paper": paper}[scale]
    if "model" in overrides:
        base.pop("width", None)
    base |= {"optimizer": "clr", "probe": every, "probe_curvature": True, **overrides}
    return [Run(f"clr_seed{seed}", replace(Config(**base), seed=seed)) for seed in seeds]


def check_scale(scale: str) -> None:
    """One line of ValueError for a scale that is none."""
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")


RECIPES: dict[str, Callable[..., list[Run]]] = {"figure2": figure2, "figure7": figure7}
