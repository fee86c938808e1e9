"""A small batch-norm residual network for two cores: eight layers with weights on the main path."""

from corridor.models.resnet import BasicBlock, ResNet


def resnet8(
    num_classes: int, in_channels: int, image_size: int, width: int | None = None
) -> ResNet:
    """ResNet-8: a 3x3 stem, three stages of one basic block each, mean pooling, a linear head.

    The stages have `width`, `2 * width` and `4 * width` planes; the second and third halve the
    image. Parameter names follow ResNet-18's, up to `layer3`.

    Args:
        num_classes: outputs.
        in_channels: channels of the images.
        image_size: side of the images, in pixels; the weights do not depend on it.
        width: planes of the first stage (default 16).

    Example:
        >>> import torch
        >>> resnet8(10, 3, 16)(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """
    return ResNet(
        BasicBlock,
        (1, 1, 1),
        width=width or 16,
        num_classes=num_classes,
        in_channels=in_channels,
        wide_stem=False,
    )
