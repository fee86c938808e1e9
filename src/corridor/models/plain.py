"""Define the small plain networks, and initialize convolutions in all architectures."""

from torch import nn


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
