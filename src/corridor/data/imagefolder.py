"""Folders of image files, one folder a class."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from corridor.data.source import Contents, Source, file_stamp

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
TEST_FOLDERS = ("val", "test")


@dataclass(frozen=True)
class FileRows:
    """Image files, in order."""

    paths: list[str]  # strings: a million Path objects would weigh ten times as much
    labels: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, i: int) -> Image.Image:
        """Open file `i`."""
        return Image.open(self.paths[i])

    def where(self, i: int) -> str:
        """Name file `i`."""
        return self.paths[i]


def source(argument: str, data_dir: Path | None) -> Source:
    """Image files at PATH/train/CLASS/* and PATH/val/CLASS/* (or test): `imagefolder:PATH`."""
    folder = Path(argument).expanduser()
    return folder_source(folder, title=folder.resolve().name)


def imagenet_source(argument: str, data_dir: Path | None) -> Source:
    """ImageNet's 1000 classes as image folders, at 224 pixels, with its published mean and std."""
    folder = None if data_dir is None else data_dir / "imagenet"
    if folder is None or not folder.is_dir():
        raise FileNotFoundError(
            "imagenet: expected DIR/imagenet/train and DIR/imagenet/val, one folder a class, "
            f"got {'no data folder' if data_dir is None else f'no folder {folder}'}: "
            "put the images there and name DIR by --data-dir or CORRIDOR_DATA"
        )
    return replace(
        folder_source(folder, title="ImageNet"),
        image_size=224,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def folder_source(folder: Path, title: str) -> Source:
    """List the image files under `folder`; files without an image suffix are passed over.

    Raises:
        FileNotFoundError: a folder is missing, or holds no image.
        ValueError: a class of the test images has no folder among the training images.
    """
    test_name = next((name for name in TEST_FOLDERS if (folder / name).is_dir()), None)
    if not (folder / "train").is_dir():
        raise FileNotFoundError(
            f"{folder}: expected a folder train with one folder a class, found none: "
            "check the path, or put the images there"
        )
    if test_name is None:
        raise FileNotFoundError(
            f"{folder}: expected a folder val or test beside train, found none: "
            "put the images to test on there"
        )
    classes = _classes(folder / "train")
    unknown = sorted(set(_classes(folder / test_name)) - set(classes))
    if unknown:
        raise ValueError(
            f"{folder / test_name}: expected the classes of {folder / 'train'}, "
            f"got also {', '.join(unknown[:3])}: take the folder out or rename it"
        )
    train, test = (_rows(folder / name, classes) for name in ("train", test_name))
    return Source(
        count=len(train) + len(test),
        stamp=lambda: file_stamp((*train.paths, *test.paths)),
        read=lambda: Contents(title, tuple(classes), train, test),
    )


def _classes(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _rows(folder: Path, classes: list[str]) -> FileRows:
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = _images(folder / name)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise FileNotFoundError(
            f"{folder}: expected image files ({' '.join(SUFFIXES)}) in folders, one a class, "
            "found none: put them there"
        )
    return FileRows(paths, torch.tensor(labels))


def _images(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            entry.path
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES)
            and not entry.name.startswith(".")
            and entry.is_file()
        )
