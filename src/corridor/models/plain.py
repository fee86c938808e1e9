"""Define the plain networks: small ones, and VGG-16; initialize convolutions in all networks."""

from torch import Tensor, nn

IMAGENET_STEM_ABOVE = 64  # larger images, in pixels, get the published form of ResNets and VGG-16
STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # of VGG-16: (planes / width, convolutions)


def he_init(model: nn.Module) -> None:
    """Initialize every convolution by He's normal rule, and every batch norm by 1 and 0.

    A convolution weight is drawn from N(0, 2 / fan_out) with fan_out = out_channels * kernel area
    (He, Zhang, Ren and Sun, 2015). Convolution biases are 0. Linear layers keep torch's default.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def mlp(
    num_classes: int, in_channels: int, image_size: int, width: int | None = None
) -> nn.Sequential:
    """Build a network of two hidden ReLU layers with `width` units and a linear head."""
    width = width or 256
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * image_size**2, width),
        nn.ReLU(inplace=True),
        nn.Linear(width, width),
        nn.ReLU(inplace=True),
        nn.Linear(width, num_classes),
    )


def cnn(
    num_classes: int, in_channels: int, image_size: int, width: int | None = None
) -> nn.Sequential:
    """Build a network of three convolutional stages, mean pooling and a linear head.

    A stage is a 3x3 convolution, batch norm and ReLU. The stages have `width`, `2 * width` and
    `4 * width` planes, with 2x2 max pooling between them. Weights do not depend on `image_size`.
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


class VGG16(nn.Module):
    """Apply convolutional stages with pooling, and classify the remaining pixels.

    Above 64 pixels it equals torchvision's `vgg16`: no batch norm, three linear layers with
    dropout. With 1000 classes, 3 channels and the default width it has 138,357,544 parameters with
    equal names. Smaller images get batch norm after each convolution and one linear layer.

    Reference: Simonyan and Zisserman, "Very deep convolutional networks", 2015.
    """

    def __init__(self, num_classes: int, in_channels: int, image_size: int, width: int | None):
        super().__init__()
        width, large = width or 64, image_size > IMAGENET_STEM_ABOVE
        self.features, planes = nn.Sequential(), in_channels
        for multiple, convolutions in STAGES:
            for _ in range(convolutions):
                self.features.append(nn.Conv2d(planes, width * multiple, 3, padding=1))
                planes = width * multiple
                if not large:
                    self.features.append(nn.BatchNorm2d(planes))
                self.features.append(nn.ReLU(inplace=True))
            # Rounding up keeps one pixel of an image that earlier poolings shrank to one pixel.
            self.features.append(nn.MaxPool2d(2, stride=2, ceil_mode=not large))
        self.avgpool = nn.AdaptiveAvgPool2d(7 if large else 1)
        classifier = _wide_classifier if large else nn.Linear
        self.classifier = classifier(planes, num_classes)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [b, in_channels, h, w] to logits [b, num_classes]."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _wide_classifier(planes: int, num_classes: int) -> nn.Sequential:
    classifier = nn.Sequential(
        nn.Linear(planes * 7 * 7, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(4096, num_classes),
    )
    for module in classifier:
        if isinstance(module, nn.Linear):
            # As in torchvision; torch's default for linear layers has other values.
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)
    return classifier
