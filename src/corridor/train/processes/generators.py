"""Seed, keep, save and restore the random generators of torch, Python and NumPy together."""

# Models draw from the global generators, so these are kept.
# ruff: noqa: NPY002

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import Tensor


def seed(number: int) -> None:
    """Seed all generators with a number at least 0 and below 2**64."""
    torch.manual_seed(number)
    random.seed(number)
    numpy.random.seed([number % 2**32, number >> 32])


@contextmanager
def kept(device: torch.device | None = None) -> Iterator[None]:
    """Put all generators back after the block, also the generator of a GPU."""
    devices = [device] if device is not None and device.type == "cuda" else []
    ours, theirs = random.getstate(), numpy.random.get_state(legacy=False)
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(ours)
        numpy.random.set_state(theirs)


def states() -> dict[str, Tensor]:
    """Return the states of all generators by the names ``cpu, cuda/DEVICE, python, numpy``."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "cpu": torch.get_rng_state(),
        **{f"cuda/{device}": state for device, state in enumerate(cuda)},
        "python": _packed(random.getstate()),
        "numpy": _packed(numpy.random.get_state(legacy=False)),
    }


def restore(found: Mapping[str, Tensor]) -> None:
    """Set the generators to what `states` returned; generators without a state stay as they are."""
    torch.set_rng_state(found["cpu"])
    names = [f"cuda/{device}" for device in range(torch.cuda.device_count())]
    if names and all(name in found for name in names):
        torch.cuda.set_rng_state_all([found[name] for name in names])
    if "python" in found:  # checkpoints of older versions have torch's states only
        version, words, gauss = _unpacked(found["python"])
        random.setstate((version, tuple(words), gauss))
        numpy.random.set_state(_unpacked(found["numpy"]))


def _packed(state: Any) -> Tensor:
    text = json.dumps(state, default=lambda array: array.tolist())
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def _unpacked(state: Tensor) -> Any:
    return json.loads(state.numpy().tobytes())
