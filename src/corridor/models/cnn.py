"""A small plain convolutional network with batch norm."""

from torch import nn

from corridor.models._init import he_init


def cnn(
    num_classes: int, in_channels: int, image_size: int, width: int | None = None
) -> nn.Sequential:
    """Build a network of three convolutional stages, mean pooling and a linear head.

    A stage is a 3x3 convolution, batch norm and ReLU. The stages have `width`, `2 * width` and
    `4 * width` planes, with 2x2 max pooling between them.

    Args:
        num_classes: Number of logits.
        in_channels: Number of image channels.
        image_size: Side of the images, in pixels. Weights do not depend on it.
        width: Number of planes of the first stage (default: 32).

    Example:
        >>> import torch
        >>> cnn(10, 1, 8)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    width = width or 32
    layers: list[nn.Module] = []
    planes = in_channels
    for k in range(3):
        if k > 0:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        layers.append(nn.Conv2d(planes, width * 2**k, 3, padding=1, bias=False))
        planes = width * 2**k
        layers += [nn.BatchNorm2d(planes), nn.ReLU(inplace=True)]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(planes, num_classes))
    model = nn.Sequential(*layers, *head)
    he_init(model)
    return model
