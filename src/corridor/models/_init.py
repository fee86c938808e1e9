"""Initial values of convolutions and batch norms, shared by the architectures."""

from torch import nn


def he_init(model: nn.Module) -> None:
    """He's normal initialisation of every convolution (fan out), 1 and 0 for every batch norm.

    A convolution weight is drawn from N(0, 2 / fan_out) with fan_out = out_channels * kernel area
    (He, Zhang, Ren and Sun, 2015); convolution biases are 0. Linear layers keep torch's default.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
