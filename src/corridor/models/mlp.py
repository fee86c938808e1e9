"""A multilayer perceptron: two hidden layers with ReLU."""

from torch import nn


def mlp(
    num_classes: int, in_channels: int, image_size: int, width: int | None = None
) -> nn.Sequential:
    """Build a network of two hidden ReLU layers with `width` units and a linear head.

    Weights start at torch's default for linear layers.

    Args:
        num_classes: Number of logits.
        in_channels: Number of image channels.
        image_size: Side of the images, in pixels.
        width: Number of units per hidden layer (default: 256).

    Example:
        >>> import torch
        >>> mlp(10, 1, 8)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    width = width or 256
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * image_size**2, width),
        nn.ReLU(inplace=True),
        nn.Linear(width, width),
        nn.ReLU(inplace=True),
        nn.Linear(width, num_classes),
    )
