"""Define VGG-16: torchvision's form for large images, a form with batch norm for small images."""

from torch import Tensor, nn

from corridor.models.plain import he_init
from corridor.models.resnet import IMAGENET_STEM_ABOVE

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # (planes / width, number of convolutions)


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
