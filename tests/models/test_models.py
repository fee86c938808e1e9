import pytest
import torch
from torch import nn

from corridor.models import NAMES, build

SMALL_WIDTH = {
    "resnet18": 8,
    "resnet50": 4,
    "resnet14": 4,
    "vgg16": 4,
    "resnet8": 8,
    "mlp": 32,
    "cnn": 8,
}


@pytest.mark.parametrize("size", [1, 33, 64])
@pytest.mark.parametrize("name", NAMES)
def test_every_network_maps_small_images_to_logits(name, size):
    for channels in (1, 3):
        model = build(
            name,
            num_classes=7,
            in_channels=channels,
            image_size=size,
            width=SMALL_WIDTH[name],
        )
        logits = model(torch.randn(2 if size > 1 else 4, channels, size, size))
        assert logits.shape[1:] == (7,)
        assert logits.isfinite().all()
        logits.sum().backward()
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("size", [65, 96])
def test_resnets_take_the_wide_stem_above_64_pixels(name, size):
    model = build(name, num_classes=5, in_channels=3, image_size=size, width=8)
    assert model.get_parameter("conv1.weight").shape[-1] == 7
    assert model(torch.randn(2, 3, size, size)).shape == (2, 5)
    small = build(name, num_classes=5, in_channels=3, image_size=64, width=8)
    assert small.get_parameter("conv1.weight").shape[-1] == 3
    reached = []
    small.get_submodule("layer1").register_forward_hook(lambda *a: reached.append(a[2].shape))
    small(torch.randn(2, 3, 64, 64))
    assert reached[0][-2:] == (64, 64)


def test_vgg16_takes_its_imagenet_form_above_64_pixels():
    model = build("vgg16", num_classes=5, in_channels=3, image_size=96, width=2)
    assert model(torch.randn(2, 3, 96, 96)).shape == (2, 5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    small = build("vgg16", num_classes=5, in_channels=3, image_size=64, width=2)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in small.modules()) == 13


def test_default_widths():
    def count(name, size):
        model = build(name, num_classes=10, in_channels=3, image_size=size)
        return sum(p.numel() for p in model.parameters())

    def basic(a, b):
        return 9 * a * b + 9 * b * b + 4 * b + (0 if a == b else a * b + 2 * b)

    stem = 27 * 16 + 32
    expected = stem + basic(16, 16) + basic(16, 32) + basic(32, 64) + 64 * 10 + 10
    assert count("resnet8", 16) == count("resnet8", 32) == expected
    assert count("mlp", 8) == (192 * 256 + 256) + (256 * 256 + 256) + (256 * 10 + 10)


@pytest.mark.parametrize("name", ["resnet18", "resnet8", "vgg16", "cnn"])
def test_convolutions_start_with_he_fan_out_and_norms_with_one_and_zero(name):
    torch.manual_seed(0)
    model = build(name, num_classes=10, in_channels=3, image_size=32)
    ratios = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            out, _, kernel, _ = module.weight.shape
            ratios.append(float(module.weight.detach().std()) / (2 / (out * kernel**2)) ** 0.5)
            if module.bias is not None:
                assert not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()
    # The smallest kernel has 432 weights: its sample deviation lies within 4/sqrt(2 * 432).
    assert min(ratios) > 0.86
    assert max(ratios) < 1.14


def test_weights_are_those_of_the_global_seed():
    def weights(seed):
        torch.manual_seed(seed)
        model = build("resnet8", num_classes=3, in_channels=1, image_size=8)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("name", ["resnet9", "", "pkg.mod:", ":make", "a b:c", "a:b:c"])
def test_unknown_name_is_one_line_that_lists_the_names(name):
    with pytest.raises(ValueError, match="must be one of") as caught:
        build(name, num_classes=10, in_channels=1, image_size=8)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(name) in message
    assert all(known in message for known in (*NAMES, "package.module:callable"))


@pytest.mark.parametrize("key", ["num_classes", "in_channels", "image_size", "width"])
def test_numbers_below_one_are_refused(key):
    arguments = {"num_classes": 10, "in_channels": 1, "image_size": 8, "width": 16, key: 0}
    with pytest.raises(ValueError, match=f"{key} must be at least 1, got 0"):
        build("mlp", **arguments)
