"""Random numbers as functions of their purpose, not of the numbers drawn before."""

import hashlib

import torch


def derive(*numbers: int) -> int:
    """Return a seed made from whole numbers, such as seed, epoch and batch index, in this order.

    It is the first 63 bits of their hash.

    Example:
        >>> derive(0, 1) == derive(0, 1), derive(0, 1) == derive(1, 0)
        (True, False)
    """
    text = "/".join(str(number) for number in numbers)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*numbers: int) -> torch.Generator:
    """Return a generator on the CPU, for numbers that are equal on all devices.

    Its seed is `derive(*numbers)`.
    """
    return torch.Generator().manual_seed(derive(*numbers))
