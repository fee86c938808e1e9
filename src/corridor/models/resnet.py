"""Residual networks: ResNet-18 and ResNet-50, and the smaller ResNet-14 and ResNet-8."""

from collections.abc import Sequence

from torch import Tensor, nn

from corridor.models.plain import he_init

IMAGENET_STEM_ABOVE = 64  # images wider than this, in pixels, get the 7x7 stem


def _conv3x3(in_planes: int, planes: int, stride: int = 1) -> nn.Conv2d:
    # Without bias: the batch norm after it subtracts the mean.
    return nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)


def _shortcut(in_planes: int, planes: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_planes == planes:
        return None
    conv = nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(planes))


class BasicBlock(nn.Module):
    """Apply two 3x3 convolutions, the first with `stride`, and a shortcut: relu(x + F(x))."""

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
    """Apply 1x1, 3x3 and 1x1 convolutions and a shortcut.

    There are four times as many output planes as inner `planes`. The 3x3 convolution has the
    stride, as in "v1.5".
    """

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
    """Apply a stem, stages of residual blocks, mean pooling and a linear head.

    Each stage doubles the width and halves the image, except the first. Parameters have
    torchvision's names (`conv1`, `bn1`, `layer1.0.conv1`, ..., `fc`). A wide stem is a 7x7
    convolution of stride 2 and max pooling, any other a 3x3 convolution of stride 1.
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
            # Published weights are stored under the names layer1, layer2, ...
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


# (block, blocks per stage, default width) by the number of layers with weights on the main path
FORMS = {
    8: (BasicBlock, (1, 1, 1), 16),
    14: (Bottleneck, (1, 1, 1, 1), 64),
    18: (BasicBlock, (2, 2, 2, 2), 64),
    50: (Bottleneck, (3, 4, 6, 3), 64),
}


def resnet(
    depth: int, num_classes: int, in_channels: int, image_size: int, width: int | None = None
) -> ResNet:
    """Build a residual network (He, Zhang, Ren and Sun, 2016), with the stem for the image size.

    With 1000 classes, 3 channels, 224 pixels and the default width, ResNet-18 and ResNet-50
    ("v1.5") equal torchvision's: 11,689,512 and 25,557,032 parameters with equal names. ResNet-14
    is ResNet-50 with one block per stage. Images of at most 64 pixels get the CIFAR stem. ResNet-8
    has three stages and always the CIFAR stem.
    """
    block, depths, default = FORMS[depth]
    return ResNet(
        block,
        depths,
        width=width or default,
        num_classes=num_classes,
        in_channels=in_channels,
        # ResNet-8 is for small images only: its weights never depend on the image size.
        wide_stem=depth != 8 and image_size > IMAGENET_STEM_ABOVE,
    )
