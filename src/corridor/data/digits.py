"""Handwritten digits of 8x8 pixels, embedded in scikit-learn: real data with no download."""

import random
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from corridor.data.source import ArrayRows, Contents, Source, stratified

TEST_IMAGES = 360  # of 1797: a fifth


def source(argument: str, data_dir: Path | None) -> Source:
    """scikit-learn's digits: 1797 grey images of 17 levels, 1437 to train and 360 to test.

    The split is fixed: each class gives its share, in an order shuffled once with seed 0. Mirror
    images are not used, since a mirrored digit is another sign or none (2, 3, 7).
    """
    try:
        version = metadata.version("scikit-learn")
    except metadata.PackageNotFoundError as error:
        raise FileNotFoundError(
            'digits: expected scikit-learn, which holds the images: pip install "corridor[lab]"'
        ) from error
    return Source(
        count=1797,
        stamp=lambda: ("scikit-learn", version),
        read=_read,
        channels=1,
        flip=False,
    )


def _read() -> Contents:
    from sklearn.datasets import load_digits

    levels, target = load_digits(return_X_y=True)  # levels are 0 .. 16
    images = np.rint(np.asarray(levels) * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    labels = torch.from_numpy(np.asarray(target)).long()
    shuffled = list(range(len(labels)))
    random.Random(0).shuffle(shuffled)
    order = torch.tensor(shuffled)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[order[stratified(labels[order], TEST_IMAGES)]] = True
    train, test = (~chosen).nonzero().flatten(), chosen.nonzero().flatten()
    return Contents(
        title="Digits",
        classes=tuple(str(digit) for digit in range(10)),
        train=ArrayRows(images[train.numpy()], labels[train], "digits (train)"),
        test=ArrayRows(images[test.numpy()], labels[test], "digits (test)"),
    )
