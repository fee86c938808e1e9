"""Define the runs of each experiment at three scales.

Each scale asks the question of the paper with a different amount of work. ``demo`` trains on
embedded digits in minutes on two cores. ``laptop`` trains on a part of CIFAR-10. ``paper`` trains
the networks of the paper on all of its data. The name of a run contains optimizer, cap or rate,
batch size and seed, so that figures share runs of equal names.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from corridor.optim.clr import DEFAULT_MAX_LR
from corridor.train.config import Config
from corridor.train.sweep.runs import Run

Options = dict[str, Any]

SCALES = ("demo", "laptop", "paper")
FIXED_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
FEWER_RATES = (0.01, 0.1, 0.3, 1.0, 3.0, 30.0)
SLOW_RATES = (0.1, 0.3, 1.0, 3.0)
BATCHES = {
    "demo": (16, 64, 256, 1024),
    "laptop": (16, 64, 250, 1000),
    "paper": (16, 64, 256, 1024, 4096),
}
IMAGENET_BATCHES = {"demo": (32, 128, 512), "laptop": (32, 100, 250), "paper": (256, 1024, 4096)}
UNCAPPED: Options = {"optimizer": "clr", "lr": math.inf}
DEFAULT: Options = {"optimizer": "clr", "lr": DEFAULT_MAX_LR}
DRIFT: Options = {"optimizer": "clr", "drift": 1.0}
CAP_10: Options = {"optimizer": "clr", "lr": 10.0}
FORMS = (UNCAPPED, DEFAULT, DRIFT)

# ResNet-14 has one block per stage: ResNet-50 hardly trains in the steps of a small machine.
_NARROW_RESNET14: Options = {"model": "resnet14", "width": 8}


def _digits(**options: Any) -> Options:
    # Runs of seconds need one checkpoint, at the end.
    base = {"data": "digits", "model": "cnn", "width": 16, "checkpoint_every": 10**9}
    return base | options


def _cifar_part(**options: Any) -> Options:
    base = {"data": "cifar10", "image_size": 16, "checkpoint_every": 500, "keep": 1}
    return base | {"model": "resnet8", "train_limit": 1000, "batch_size": 250} | options


def _cifar(**options: Any) -> Options:
    base = {"data": "cifar10", "epochs": 100, "batch_size": 4096}
    return base | {"precision": "bfloat16", "channels_last": True} | options


_RESNET18 = {
    "demo": _digits(batch_size=512, epochs=60),
    "laptop": _cifar_part(epochs=60, eval_every=20),
    "paper": _cifar(model="resnet18"),
}
_IMAGENET = {
    "demo": _digits(augment=True, batch_size=512, epochs=15, eval_every=5),
    "laptop": _cifar_part(
        model="resnet14", width=16, train_limit=2000, augment=True, epochs=10, eval_every=5
    ),
    "paper": _cifar(data="imagenet", model="resnet50", augment=True, epochs=90, workers=12),
}
_RESNET50 = {
    "demo": _digits(**_NARROW_RESNET14, batch_size=128, epochs=8),
    "laptop": _cifar_part(**_NARROW_RESNET14, batch_size=100, epochs=20, eval_every=10),
    "paper": _cifar(model="resnet50"),
}
_VGG = {
    "demo": _digits(model="vgg16", width=8, batch_size=128, epochs=6),
    "laptop": _cifar_part(model="vgg16", width=16, batch_size=100, epochs=20, eval_every=10),
    "paper": _cifar(model="vgg16"),
}
_PROBED = {
    "demo": _digits(batch_size=256, epochs=30, probe=2),
    "laptop": _cifar_part(epochs=40, eval_every=20, probe=8),
    "paper": _cifar(model="resnet18", precision="float32", probe=10),
}
_CAPPED = {
    "demo": _digits(batch_size=512, epochs=60),
    "laptop": _cifar_part(train_limit=5000, batch_size=500, steps=160, eval_every=8),
    "paper": _cifar(model="resnet8"),
}
_FEW_IMAGES = {
    "demo": _digits(batch_size=512, epochs=40),
    "laptop": _cifar_part(train_limit=500, steps=100, eval_every=0),
    "paper": _cifar(model="resnet8", train_limit=500, batch_size=250, steps=400, eval_every=20),
}


@dataclass(frozen=True)
class Recipe:
    """Make the runs of one experiment.

    Attributes:
        name: name on the command line.
        folder: folder under ``out/runs``; recipes with one folder share runs.
        bases: options of all runs, per scale.
        settings: function from a scale to the options that the experiment compares.
    """

    name: str
    folder: str
    bases: Mapping[str, Options]
    settings: Callable[[str], Sequence[Options]]

    def __call__(
        self,
        scale: str,
        seeds: Sequence[int] = (0, 1, 2),
        *,
        overrides: Mapping[str, Any] | None = None,
    ) -> list[Run]:
        """Return one run per setting and seed.

        Args:
            scale: demo, laptop or paper.
            seeds: seeds of every setting (default: 0, 1, 2).
            overrides: `Config` fields that replace fields of all runs, such as
                ``{"model": "resnet8"}`` (default: none).

        Raises:
            ValueError: the scale is unknown, an override is not a valid config, or the override
                would make two compared settings equal.

        Example:
            >>> runs = RECIPES["figure2"]("demo", seeds=(0,))
            >>> runs[0].name, runs[0].config.optimizer, runs[0].config.data
            ('clr-uncapped_b512_seed0', 'clr', 'digits')
        """
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
        given = dict(overrides or {})
        if "seed" in given:
            raise ValueError("seed must not be given to a recipe; give seeds")
        base, settings = _base(self.bases[scale], given), self.settings(scale)
        runs = []
        for seed, setting in product(dict.fromkeys(seeds), settings):
            config = Config(**{**base, **setting, **given, "seed": seed})
            runs.append(Run(f"{setting_name(config)}_seed{seed}", config))
        if len({run.name for run in runs}) < len(runs):
            own = ", ".join(sorted({key for s in settings for key in s} & given.keys()))
            raise ValueError(f"{own} must differ between the runs of {self.name}; leave {own} out")
        return runs


def _base(options: Options, given: Options) -> Options:
    base = dict(options)
    if "model" in given:
        base.pop("width", None)  # the width fits the network that it was set for
    if given.keys() & {"data", "data_dir", "model"}:
        base.pop("checkpoint_every", None)  # a replaced network or data set may take hours
    return base


def setting_name(config: Config) -> str:
    """Return optimizer, cap or rate, and batch size, as in the name of a run's folder.

    >>> setting_name(Config(optimizer="clr", lr=math.inf, batch_size=512))
    'clr-uncapped_b512'
    """
    rate = f"-{config.lr:g}".replace("-inf", "-uncapped")
    if config.drift is not None:
        rate = f"-drift{config.drift:g}" + rate.replace("-uncapped", "")
    return f"{config.optimizer}{rate}_b{config.batch_size}"


def _sgd(*rates: float) -> list[Options]:
    return [{"optimizer": "sgd", "lr": rate} for rate in rates]


def _with(settings: Sequence[Options], **options: Any) -> list[Options]:
    return [{**setting, **options} for setting in settings]


def _over_batches(scale: str) -> list[Options]:
    sizes: list[Options] = [{"batch_size": size} for size in BATCHES[scale]]
    if scale == "laptop":
        # An epoch of the largest batch is one step, and of the smallest 63.
        sizes[0] |= {"epochs": 30, "eval_every": 10}
        sizes[-1] |= {"epochs": 120, "eval_every": 40}
    forms = [{**form, **size} for size in sizes for form in FORMS]
    return forms + _with(_sgd(0.01, 0.1), **sizes[0])


figure2 = Recipe(
    "figure2",
    "resnet18",
    _RESNET18,
    lambda scale: [*FORMS, *_sgd(*(FEWER_RATES if scale == "laptop" else FIXED_RATES))],
)
"""CLR against fixed rates over four decades; the network diverges at the largest rate."""

figure3 = Recipe(
    "figure3",
    "imagenet",
    _IMAGENET,
    lambda scale: [{**CAP_10, "batch_size": size} for size in IMAGENET_BATCHES[scale]],
)
"""ResNet-50 on ImageNet at several batch sizes, with CLR capped at 10.

Below paper scale a smaller network trains on augmented images, which it cannot memorize.
"""

figure4 = Recipe("figure4", "resnet18", _RESNET18, lambda scale: FORMS)
"""The step size of CLR along training: runs of figure 2."""

figure5 = Recipe("figure5", "resnet50", _RESNET50, lambda scale: [UNCAPPED, DEFAULT])
"""ResNet-50 on CIFAR-10; below paper scale ResNet-14."""

figure6 = Recipe("figure6", "vgg", _VGG, lambda scale: [UNCAPPED, DEFAULT])
"""VGG on CIFAR-10."""

figure7 = Recipe("figure7", "probed", _PROBED, lambda scale: [{**DEFAULT, "probe_curvature": True}])
"""CLR with measurements of the loss surface along the run."""

figure8 = Recipe(
    "figure8",
    "imagenet",
    _IMAGENET,
    lambda scale: _with(
        [CAP_10, DEFAULT, DRIFT, *_sgd(*SLOW_RATES)], batch_size=IMAGENET_BATCHES[scale][-1]
    ),
)
"""The largest batch of figure 3 and fixed rates; default cap and drift limit are additions."""

figure9 = Recipe(
    "figure9",
    "resnet18",
    # Small batches need many steps per epoch.
    {**_RESNET18, "demo": {**_RESNET18["demo"], "epochs": 15}},
    _over_batches,
)
"""The network of figure 2 over a wide range of batch sizes, and two fixed rates at the smallest."""

caps = Recipe(
    "caps",
    "caps",
    _CAPPED,
    lambda scale: [*FORMS, {"optimizer": "sps-safe"}, {"optimizer": "half-polyak", "lr": math.inf}],
)
"""CLR without a cap where it fails, and five remedies.

At laptop scale, ResNet-8 cannot quickly interpolate its 5,000 images.
"""

narrow = Recipe(
    "narrow", "narrow", _FEW_IMAGES, lambda scale: _with(FORMS, width=2 if scale == "demo" else 16)
)
"""A narrow network on few images, which it learns slowly."""

wide = Recipe(
    "wide", "wide", _FEW_IMAGES, lambda scale: _with(FORMS, width=16 if scale == "demo" else 64)
)
"""A wide network on the images of `narrow`, which it learns quickly."""

_ALL = (
    figure2, figure3, figure4, figure5, figure6, figure7, figure8, figure9, caps, narrow, wide,
)  # fmt: skip
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
