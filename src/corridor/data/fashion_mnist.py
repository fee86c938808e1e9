"""Fashion-MNIST: 70,000 grey images of clothes, 28x28 pixels, from idx files or the hub."""

import os
from pathlib import Path

import torch

from corridor.data.hub import hub_source
from corridor.data.idx import read_idx
from corridor.data.source import ArrayRows, Contents, Source, file_stamp

TITLE = "Fashion-MNIST"
CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def source(argument: str, data_dir: Path | None) -> Source:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017), 60,000 images to train and 10,000 to test.

    Looked for in `data_dir/fashion-mnist`, then in `datasets/fashion-mnist` under each folder of
    XDG_DATA_DIRS (where Debian's package dataset-fashion-mnist puts it), then on the hub.
    """
    if data_dir is not None and (data_dir / "fashion-mnist").is_dir():
        return _local(data_dir / "fashion-mnist")
    for folder in _system_folders():
        if _find(folder, FILES[0]) is not None:
            return _local(folder)
    return hub_source(
        "fashion-mnist",
        "zalando-datasets/fashion_mnist",
        lambda contents: Contents(TITLE, CLASSES, contents.train, contents.test),
        place="fashion-mnist/*-ubyte.gz",
    )


def _system_folders() -> list[Path]:
    entries = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    return [Path(e) / "datasets" / "fashion-mnist" for e in entries.split(os.pathsep) if e]


def _find(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _local(folder: Path) -> Source:
    found = [_find(folder, name) for name in FILES]
    paths = [path for path in found if path is not None]
    missing = [name for name, path in zip(FILES, found, strict=True) if path is None]
    if missing:
        raise FileNotFoundError(
            f"fashion-mnist: expected {' and '.join(missing)} (or with .gz) in {folder}, "
            "found none: copy the four idx files there"
        )
    return Source(
        count=70_000,
        stamp=lambda: file_stamp(paths),
        read=lambda: _read(paths),
        channels=1,
    )


def _read(paths: list[Path]) -> Contents:
    return Contents(TITLE, CLASSES, _split(paths[0], paths[1]), _split(paths[2], paths[3]))


def _split(images_path: Path, labels_path: Path) -> ArrayRows:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise OSError(
            f"{labels_path}: expected {len(images)} labels, one for each image of "
            f"{images_path.name}, got {len(labels)}: copy or download both again"
        )
    return ArrayRows(images, torch.from_numpy(labels.astype("int64")), str(images_path))
