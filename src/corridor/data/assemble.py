"""From a source to `Data`: decoded into memory if it fits, streaming if it does not."""

from typing import Any

import torch

from corridor.data import cache
from corridor.data.decode import decode, mean_and_std
from corridor.data.images import is_grey, open_image
from corridor.data.source import Contents, Source, balanced, check_labels
from corridor.data.stream import Batches
from corridor.data.types import Data, StreamSplit, TensorSplit

MEMORY_LIMIT = 2 * 2**30  # bytes of decoded pixels, training and test images together
SAMPLED = 512  # images that mean and std of a streaming data set are estimated from


def to_data(name: str, source: Source, size: int | None, limit: int | None) -> Data:
    """Make `Data` of a source.

    Args:
        name: what the user called it.
        source: where it lies.
        size: side to resize to, in pixels; None keeps that of the images.
        limit: training images to keep; None keeps all.

    Raises:
        OSError: an image cannot be decoded.
        ValueError: labels out of range, or images that need a size given.
    """
    if size is not None and source.count * source.channels * size**2 > MEMORY_LIMIT:
        return _streaming(name, source, size, limit)
    return _in_memory(name, source, size, limit)


def _in_memory(name: str, source: Source, size: int | None, limit: int | None) -> Data:
    path = cache.cache_file(name, source.stamp(), size)
    content = cache.load(path)
    if content is None:
        content = _decoded(name, source, size)
        cache.save(path, content)
    images, labels = content["train_images"], content["train_labels"]
    if limit is not None and limit < len(labels):
        kept = balanced(labels, limit)
        images, labels = images[kept], labels[kept]
    return Data(
        name=name,
        title=content["title"],
        train=TensorSplit(images, labels),
        test=TensorSplit(content["test_images"], content["test_labels"]),
        classes=tuple(content["classes"]),
        channels=images.shape[1],
        image_size=images.shape[2],
        mean=tuple(content["mean"]),
        std=tuple(content["std"]),
        flip=source.flip,
    )


def _decoded(name: str, source: Source, size: int | None) -> dict[str, Any]:
    contents, channels = _opened(name, source)
    side = size or open_image(contents.train, 0).width
    if size is None and source.count * channels * side**2 > MEMORY_LIMIT:
        raise ValueError(
            f"{name}: expected an image_size for a data set that does not fit into "
            f"{MEMORY_LIMIT // 2**30} GiB, got none: give image_size (its first image is "
            f"{side} pixels wide), and images are decoded as they are needed"
        )
    train = decode(contents.train, channels, side, resize=size is not None)
    test = decode(contents.test, channels, side, resize=size is not None)
    mean, std = _known(source) or mean_and_std(train)
    return {
        "title": contents.title,
        "classes": list(contents.classes),
        "mean": list(mean),
        "std": list(std),
        "train_images": train,
        "train_labels": contents.train.labels,
        "test_images": test,
        "test_labels": contents.test.labels,
    }


def _streaming(name: str, source: Source, size: int, limit: int | None) -> Data:
    contents, channels = _opened(name, source)
    count = len(contents.train)
    kept = torch.arange(count) if limit is None else balanced(contents.train.labels, limit)
    sample = torch.arange(0, count, max(1, count // SAMPLED))
    seen = Batches(StreamSplit(contents.train, sample, channels, size), None, flip=False)
    mean, std = _known(source) or mean_and_std(seen.read(range(len(sample)))[0])
    return Data(
        name=name,
        title=contents.title,
        train=StreamSplit(contents.train, kept, channels, size),
        test=StreamSplit(contents.test, torch.arange(len(contents.test)), channels, size),
        classes=contents.classes,
        channels=channels,
        image_size=size,
        mean=mean,
        std=std,
        flip=source.flip,
    )


def _opened(name: str, source: Source) -> tuple[Contents, int]:
    contents = source.read()
    check_labels(contents.train.labels, len(contents.classes), f"{name} (train)")
    check_labels(contents.test.labels, len(contents.classes), f"{name} (test)")
    if source.mean is not None:
        return contents, len(source.mean)
    return contents, 1 if is_grey(contents.train) else 3


def _known(source: Source) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if source.mean is None or source.std is None:
        return None
    return source.mean, source.std
