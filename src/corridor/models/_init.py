"""Initialize convolutions and batch norms, in all architectures."""

from torch import nn


def he_init(model: nn.Module) -> None:
    """Initialize every convolution by He's normal rule, and every batch norm by 1 and 0.

    A convolution weight is drawn from N(0, 2 / fan_out) with fan_out = out_channels * kernel area
    (He, Zhang, Ren and Sun, 2015). Convolution biases are 0. Linear layers keep torch's default.

    Args:
        model: Network whose modules are initialized in place.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
