"""A multilayer perceptron: two hidden layers with ReLU."""

from torch import nn


def mlp(
    num_classes: int, in_channels: int, image_size: int, width: int | None = None
) -> nn.Sequential:
    """Flatten, then two hidden ReLU layers of `width` units, then a linear head.

    Weights start at torch's default for linear layers.

    Args:
        num_classes: outputs.
        in_channels: channels of the images.
        image_size: side of the images, in pixels.
        width: units of each hidden layer (default 256).

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
