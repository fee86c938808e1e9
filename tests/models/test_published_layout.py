"""The ImageNet forms carry the published names and shapes, so published weights load."""

import pytest
import torch
from torch import nn

from corridor.models import build

STAGES = (64, 128, 256, 512)


def norm(name, planes):
    sized = {f"{name}.{key}": (planes,) for key in ("weight", "bias")}
    running = {f"{name}.running_{key}": (planes,) for key in ("mean", "var")}
    return sized | running | {f"{name}.num_batches_tracked": ()}


def resnet_layout(depths, bottleneck):
    layout = {"conv1.weight": (64, 3, 7, 7)} | norm("bn1", 64)
    inside = 64
    for stage, (planes, depth) in enumerate(zip(STAGES, depths, strict=True), 1):
        outside = planes * (4 if bottleneck else 1)
        for block in range(depth):
            at = f"layer{stage}.{block}"
            kernels = (1, 3, 1) if bottleneck else (3, 3)
            widths = (planes, planes, outside) if bottleneck else (planes, planes)
            before = inside
            for k, (width, kernel) in enumerate(zip(widths, kernels, strict=True), 1):
                layout[f"{at}.conv{k}.weight"] = (width, before, kernel, kernel)
                layout |= norm(f"{at}.bn{k}", width)
                before = width
            if block == 0 and (stage > 1 or bottleneck):
                layout[f"{at}.downsample.0.weight"] = (outside, inside, 1, 1)
                layout |= norm(f"{at}.downsample.1", outside)
            inside = outside
    return layout | {"fc.weight": (1000, inside), "fc.bias": (1000,)}


def vgg16_layout():
    layout, before = {}, 3
    convolutions = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256}
    convolutions |= {17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512}
    for index, planes in convolutions.items():
        layout[f"features.{index}.weight"] = (planes, before, 3, 3)
        layout[f"features.{index}.bias"] = (planes,)
        before = planes
    for index, rows, columns in ((0, 4096, 25088), (3, 4096, 4096), (6, 1000, 4096)):
        layout[f"classifier.{index}.weight"] = (rows, columns)
        layout[f"classifier.{index}.bias"] = (rows,)
    return layout


PUBLISHED = {
    "resnet18": (11_689_512, resnet_layout((2, 2, 2, 2), bottleneck=False)),
    "resnet50": (25_557_032, resnet_layout((3, 4, 6, 3), bottleneck=True)),
    "vgg16": (138_357_544, vgg16_layout()),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_shapes_and_counts_are_the_published_ones(name):
    count, layout = PUBLISHED[name]
    with torch.device("meta"):
        model = build(name, num_classes=1000, in_channels=3, image_size=224)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert list(shapes.items()) == list(layout.items())
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(
    ("name", "strided"), [("resnet18", "layer2.0.conv1"), ("resnet50", "layer2.0.conv2")]
)
def test_the_stride_sits_where_the_published_weights_expect_it(name, strided):
    with torch.device("meta"):
        model = build(name, num_classes=1000, in_channels=3, image_size=224)
    convolutions = {key: m for key, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    in_block = {key: m.stride for key, m in convolutions.items() if key.startswith("layer2.0.conv")}
    assert {key for key, stride in in_block.items() if stride == (2, 2)} == {strided}
    assert convolutions["layer2.0.downsample.0"].stride == (2, 2)
    assert convolutions["conv1"].stride == (2, 2)
    assert convolutions["conv1"].padding == (3, 3)


def test_a_published_state_dict_loads_strictly():
    layout = PUBLISHED["resnet18"][1]
    model = build("resnet18", num_classes=1000, in_channels=3, image_size=224)
    weights = {key: torch.full(shape, 0.5) for key, shape in layout.items()}
    model.load_state_dict(weights, strict=True)
    assert float(model.state_dict()["layer3.0.downsample.0.weight"].mean()) == 0.5


def test_vgg16_pools_after_the_published_layers():
    with torch.device("meta"):
        model = build("vgg16", num_classes=1000, in_channels=3, image_size=224)
    features = model.get_submodule("features")
    pools = [k for k, m in enumerate(features.children()) if isinstance(m, nn.MaxPool2d)]
    assert pools == [4, 9, 16, 23, 30]
    classifier = model.get_submodule("classifier")
    assert [type(m).__name__ for m in classifier.children()] == [
        "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"
    ]  # fmt: skip
