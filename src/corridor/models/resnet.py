"""Residual networks: ResNet-18, 50 and 14, and the pieces that smaller ones are built from."""

from collections.abc import Sequence

from torch import Tensor, nn

from corridor.models._init import he_init

IMAGENET_STEM_ABOVE = 64  # images wider than this, in pixels, get the 7x7 stem


def _conv3x3(in_planes: int, planes: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)


def _shortcut(in_planes: int, planes: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_planes == planes:
        return None
    conv = nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(planes))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: relu(x + F(x)), the stride in the first convolution."""

    expansion = 1

    def __init__(self, in_planes: int, planes: int, stride: int = 1):
        super().__init__()
        self.conv1 = _conv3x3(in_planes, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_planes, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, in_planes, h, w] to [b, planes, h / stride, w / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut, the stride in the 3x3 ("v1.5")."""

    expansion = 4

    def __init__(self, in_planes: int, planes: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv3x3(planes, planes, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_planes, planes * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, in_planes, h, w] to [b, 4 * planes, h / stride, w / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A stem, stages of residual blocks that double width and halve size, mean pooling, a head.

    Parameter names are torchvision's (`conv1`, `bn1`, `layer1.0.conv1`, ..., `fc`).

    Args:
        block: the residual block.
        depths: blocks in each stage.
        width: planes of the first stage; stage k has `width * 2**k`.
        num_classes: outputs of the head.
        in_channels: channels of the images.
        wide_stem: 7x7 convolution of stride 2 and max pooling (ImageNet) instead of a plain 3x3.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        width: int,
        num_classes: int,
        in_channels: int,
        wide_stem: bool,
    ):
        super().__init__()
        kernel, stride, padding = (7, 2, 3) if wide_stem else (3, 1, 1)
        self.conv1 = nn.Conv2d(in_channels, width, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if wide_stem else nn.Identity()
        planes, self.stages = width, []
        for k, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                blocks.append(block(planes, width * 2**k, 2 if k > 0 and j == 0 else 1))
                planes = width * 2**k * block.expansion
            self.stages.append(f"layer{k + 1}")
            self.add_module(self.stages[-1], nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(planes, num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [b, in_channels, h, w] to logits [b, num_classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(self.avgpool(x).flatten(1))


def resnet18(
    num_classes: int, in_channels: int, image_size: int, width: int | None = None
) -> ResNet:
    """ResNet-18 (He, Zhang, Ren and Sun, 2016), the stem chosen by the image size.

    With 1000 classes, 3 channels, 224 pixels and the default width 64 it is torchvision's, with
    11,689,512 parameters under the same names. Images of at most 64 pixels get the CIFAR stem.

    Args:
        num_classes: outputs.
        in_channels: channels of the images.
        image_size: side of the images, in pixels.
        width: planes of the first stage (default 64).

    Example:
        >>> import torch
        >>> resnet18(10, 3, 32, width=8)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    return _by_image_size(BasicBlock, (2, 2, 2, 2), num_classes, in_channels, image_size, width)


def resnet50(
    num_classes: int, in_channels: int, image_size: int, width: int | None = None
) -> ResNet:
    """ResNet-50 in the "v1.5" form, the stem chosen by the image size.

    With 1000 classes, 3 channels, 224 pixels and the default width 64 it is torchvision's, with
    25,557,032 parameters under the same names. Images of at most 64 pixels get the CIFAR stem.

    Args:
        num_classes: outputs.
        in_channels: channels of the images.
        image_size: side of the images, in pixels.
        width: planes of the first stage before expansion (default 64).

    Example:
        >>> import torch
        >>> resnet50(10, 1, 8, width=4)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    return _by_image_size(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, image_size, width)


def resnet14(
    num_classes: int, in_channels: int, image_size: int, width: int | None = None
) -> ResNet:
    """ResNet-50 with one block a stage in place of 3, 4, 6 and 3: its stand-in on small machines.

    The same bottleneck blocks, stages, stem and head; 14 layers with weights on the main path, as
    ResNet-50 counts its 50.

    Args:
        num_classes: outputs.
        in_channels: channels of the images.
        image_size: side of the images, in pixels.
        width: planes of the first stage before expansion (default 64).

    Example:
        >>> import torch
        >>> resnet14(10, 3, 16, width=8)(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """
    return _by_image_size(Bottleneck, (1, 1, 1, 1), num_classes, in_channels, image_size, width)


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


def _by_image_size(
    block: type[BasicBlock] | type[Bottleneck],
    depths: Sequence[int],
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: int | None,
) -> ResNet:
    return ResNet(
        block,
        depths,
        width=width or 64,
        num_classes=num_classes,
        in_channels=in_channels,
        wide_stem=image_size > IMAGENET_STEM_ABOVE,
    )
