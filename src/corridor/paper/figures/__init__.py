"""The paper's figures, a module each: ``compute`` makes data, ``draw`` reads it and draws."""

from __future__ import annotations

from types import ModuleType

from corridor.paper.figures import fig01_corridors, fig02_clr_against_fixed, fig07_geometry

FIGURES: dict[int, ModuleType] = {1: fig01_corridors, 2: fig02_clr_against_fixed, 7: fig07_geometry}


def figure(number: int) -> ModuleType:
    """The module of a figure of the paper.

    Raises:
        ValueError: there is no such figure yet.
    """
    if number not in FIGURES:
        known = ", ".join(map(str, FIGURES))
        raise ValueError(f"figure must be one of {known}, got {number}")
    return FIGURES[number]
