"""Networks by name, for images of any channel count and size."""

from collections.abc import Callable

from torch import nn

from corridor.models import cnn, mlp, resnet, vgg
from corridor.models.custom import build_custom

__all__ = ["NAMES", "build", "check_name"]

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": resnet.resnet18,
    "resnet50": resnet.resnet50,
    "resnet14": resnet.resnet14,
    "vgg16": vgg.vgg16,
    "resnet8": resnet.resnet8,
    "mlp": mlp.mlp,
    "cnn": cnn.cnn,
}
NAMES = tuple(_BUILDERS)


def check_name(name: str) -> None:
    """Raise a one-line ValueError unless `name` is in the table or reads `package.module:callable`.

    A name of the second form is only checked for its shape; `build` imports it.
    """
    if name in _BUILDERS:
        return
    module, colon, attribute = name.partition(":")
    dotted = (*module.split("."), *attribute.split("."))
    if not colon or not all(part.isidentifier() for part in dotted):
        raise ValueError(
            f"model: expected one of {', '.join(NAMES)}, or package.module:callable, got {name!r}"
        )


def build(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: int | None = None,
) -> nn.Module:
    """Build the network called `name`, with fresh weights from torch's global generator.

    ResNets and VGG-16 take their ImageNet form, with torchvision's parameter names and shapes, for
    images wider than 64 pixels, and a form for small images otherwise.

    Args:
        name: one of `NAMES`, or `package.module:callable`, which is called with those of the
            keyword arguments below that its signature accepts.
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images, in pixels.
        width: planes of the first stage or units of a hidden layer; None for the network's own.

    Returns:
        A module that maps float images [b, in_channels, image_size, image_size] to
        logits [b, num_classes].

    Raises:
        ValueError: unknown name, a number below 1, or a callable that cannot serve.

    Example:
        >>> model = build("resnet8", num_classes=10, in_channels=3, image_size=32)
        >>> sum(p.numel() for p in model.parameters())
        78042
    """
    check_name(name)
    arguments = {
        "num_classes": num_classes,
        "in_channels": in_channels,
        "image_size": image_size,
        "width": width,
    }
    for key, value in arguments.items():
        if value is not None and value < 1:
            raise ValueError(f"model {name!r}: expected {key} of at least 1, got {value}")
    if name in _BUILDERS:
        return _BUILDERS[name](**arguments)
    return build_custom(name, arguments)
