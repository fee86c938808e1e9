"""Define residual networks: ResNet-18 and ResNet-50, and the smaller ResNet-14 and ResNet-8."""

from torch import Tensor, nn

from corridor.models.plain import IMAGENET_STEM_ABOVE, he_init

# (bottlenecks, blocks per stage, default width) by the number of layers with weights on the path
FORMS = {
    8: (False, (1, 1, 1), 16),
    14: (True, (1, 1, 1, 1), 64),
    18: (False, (2, 2, 2, 2), 64),
    50: (True, (3, 4, 6, 3), 64),
}


def _conv(in_planes: int, planes: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    # Without bias: the batch norm after it subtracts the mean.
    return nn.Conv2d(in_planes, planes, kernel, stride, padding=kernel // 2, bias=False)


class Block(nn.Module):
    """Apply convolutions and a shortcut: relu(x + F(x)).

    F has two 3x3 convolutions, the first with `stride`. A bottleneck has a 1x1, a 3x3 and a 1x1
    convolution, with `stride` in the 3x3 layer as in "v1.5", and four times as many output planes.
    """

    def __init__(self, in_planes: int, planes: int, stride: int, *, bottleneck: bool):
        super().__init__()
        self.bottleneck, self.out_planes = bottleneck, planes * (4 if bottleneck else 1)
        first = (1, 1) if bottleneck else (3, stride)
        self.conv1 = _conv(in_planes, planes, *first)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv(planes, planes, 3, stride if bottleneck else 1)
        self.bn2 = nn.BatchNorm2d(planes)
        if bottleneck:
            self.conv3 = _conv(planes, self.out_planes, 1)
            self.bn3 = nn.BatchNorm2d(self.out_planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_planes != self.out_planes:
            conv = _conv(in_planes, self.out_planes, 1, stride)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(self.out_planes))

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, in_planes, h, w] to [b, out_planes, h / stride, w / stride]."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(self.relu(y)))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Apply a stem, stages of residual blocks, mean pooling and a linear head.

    With 1000 classes, 3 channels, 224 pixels and the default width, ResNet-18 and ResNet-50
    ("v1.5") equal torchvision's: 11,689,512 and 25,557,032 parameters with equal names (`conv1`,
    `bn1`, `layer1.0.conv1`, ..., `fc`). ResNet-14 is ResNet-50 with one block per stage. Each stage
    doubles the width and halves the image, except the first. Images of at most 64 pixels get a stem
    of one 3x3 convolution. ResNet-8 has three stages and always this stem.

    Reference: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016.
    """

    def __init__(
        self, depth: int, num_classes: int, in_channels: int, image_size: int, width: int | None
    ):
        super().__init__()
        bottleneck, blocks, default = FORMS[depth]
        width = width or default
        # ResNet-8 is for small images only: its weights never depend on the image size.
        wide_stem = depth != 8 and image_size > IMAGENET_STEM_ABOVE
        self.conv1 = _conv(in_channels, width, 7, 2) if wide_stem else _conv(in_channels, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if wide_stem else nn.Identity()
        planes, self.stages = width, [f"layer{k + 1}" for k in range(len(blocks))]
        for k, count in enumerate(blocks):
            stage = nn.Sequential()
            for j in range(count):
                stride = 2 if k > 0 and j == 0 else 1
                block = Block(planes, width * 2**k, stride, bottleneck=bottleneck)
                planes = block.out_planes
                stage.append(block)
            # Published weights are stored under the names layer1, layer2, ...
            self.add_module(self.stages[k], stage)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(planes, num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [b, in_channels, h, w] to logits [b, num_classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(self.avgpool(x).flatten(1))
