"""VGG-16: torchvision's form for large images, a form with batch norm for small images."""

from torch import Tensor, nn

from corridor.models.plain import he_init
from corridor.models.resnet import IMAGENET_STEM_ABOVE

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # (planes / width, number of convolutions)


def _features(in_channels: int, width: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    planes = in_channels
    for multiple, convolutions in STAGES:
        for _ in range(convolutions):
            layers.append(nn.Conv2d(planes, width * multiple, 3, padding=1))
            planes = width * multiple
            if batch_norm:
                layers.append(nn.BatchNorm2d(planes))
            layers.append(nn.ReLU(inplace=True))
        # Rounding up keeps one pixel of an image that earlier poolings shrank to one pixel.
        layers.append(nn.MaxPool2d(2, stride=2, ceil_mode=batch_norm))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """Apply convolutional stages, pool to `pooled` x `pooled` pixels, and classify the pixels."""

    def __init__(self, features: nn.Sequential, pooled: int, classifier: nn.Module):
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(pooled)
        self.classifier = classifier
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


def vgg16(num_classes: int, in_channels: int, image_size: int, width: int | None = None) -> VGG:
    """Build VGG-16 (Simonyan and Zisserman, 2015), in the form for the image size.

    Above 64 pixels it equals torchvision's `vgg16`: no batch norm, three linear layers with
    dropout. With 1000 classes, 3 channels and the default width it has 138,357,544 parameters with
    equal names. Smaller images get batch norm after each convolution and one linear layer.
    """
    width = width or 64
    planes = width * STAGES[-1][0]
    if image_size > IMAGENET_STEM_ABOVE:
        features = _features(in_channels, width, batch_norm=False)
        return VGG(features, 7, _wide_classifier(planes, num_classes))
    features = _features(in_channels, width, batch_norm=True)
    return VGG(features, 1, nn.Linear(planes, num_classes))
