"""The paper's figures, a module each: ``compute`` makes data, ``draw`` reads it and draws."""

from __future__ import annotations

from types import ModuleType

from corridor.paper.figures import (
    fig01_corridors,
    fig02_clr_against_fixed,
    fig03_batch_sizes_imagenet,
    fig04_step_size,
    fig05_resnet50,
    fig06_vgg,
    fig07_geometry,
    fig08_clr_against_fixed_imagenet,
    fig09_batch_sizes,
    fig10_caps,
)

FIGURES: dict[int, ModuleType] = {
    module.NUMBER: module
    for module in (
        fig01_corridors,
        fig02_clr_against_fixed,
        fig03_batch_sizes_imagenet,
        fig04_step_size,
        fig05_resnet50,
        fig06_vgg,
        fig07_geometry,
        fig08_clr_against_fixed_imagenet,
        fig09_batch_sizes,
        fig10_caps,
    )
}


def figure(number: int) -> ModuleType:
    """The module of a figure of the paper; 10 is one more, on where CLR fails.

    Raises:
        ValueError: there is no such figure.
    """
    if number not in FIGURES:
        known = ", ".join(map(str, FIGURES))
        raise ValueError(f"figure must be one of {known}, got {number}")
    return FIGURES[number]
