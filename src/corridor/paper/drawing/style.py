"""Set the look of all figures: colors that differ in grayscale too, axes, image files."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from corridor import _extras
from corridor.train.config import Config
from corridor.train.folder.files import atomic

Style = Mapping[str, Any]

SHORT_DECADES = 1.8
DOTTED = {"color": "black", "linewidth": 0.8, "linestyle": ":"}
DASHES = [(1, 0), (6, 2), (2, 1.2), (6, 2, 1.2, 2), (1, 2.2)]

RC = Path(__file__).parent / "figures.mplstyle"


def _look(color: str, linewidth: float, zorder: int, *dashes: float) -> Style:
    look = {"color": color, "linewidth": linewidth, "zorder": zorder}
    return {**look, "dashes": dashes} if dashes else look


# The palette of Okabe and Ito differs for color-blind readers; the dashes differ in gray.
CLR_UNCAPPED = _look("#D55E00", 2.4, 5)
# The capped line often coincides with the uncapped line, and lies above it.
CLR_CAPPED = _look("#0072B2", 2.0, 6, 5, 1.5)
CAP_10 = _look("#009E73", 2.0, 4, 3, 1)
SAFE = _look("#CC79A7", 2.0, 4, 1, 1)
DRIFT = _look("#56B4E9", 2.4, 4, 2, 0.8)
HALF = _look("#E69F00", 2.0, 4, 6, 2, 1, 2)


def of(configs: Sequence[Config]) -> list[Style]:
    """Return one style per setting, equal in all figures; larger fixed rates are darker grays."""
    rates = sorted({c.lr for c in configs if c.optimizer == "sgd" and c.lr is not None})
    return [_style_of(config, rates) for config in configs]


def _style_of(config: Config, rates: list[float]) -> Style:
    if config.optimizer == "sgd" and config.lr is not None:
        index = rates.index(config.lr)
        color = _hex([0.78 - 0.63 * index / max(len(rates) - 1, 1)] * 3)
        return {**_look(color, 1.3, 2, *DASHES[index % len(DASHES)]), "shade": 0.07}
    if config.drift is not None:
        return DRIFT
    others = {"sps-safe": SAFE, "half-polyak": HALF}
    caps = {math.inf: CLR_UNCAPPED, 10.0: CAP_10}
    return others.get(config.optimizer) or caps.get(config.lr or 1.0, CLR_CAPPED)


def by_batch(count: int, style: Style) -> list[Style]:
    """Return the styles of a method at `count` batch sizes; the larger batch is darker."""
    made = []
    for index in range(count):
        light = 0.65 * (1 - (index + 1) / count)
        parts = [int(style["color"][k : k + 2], 16) / 255 for k in (1, 3, 5)]
        color = _hex([(1 - light) * part * 0.9 + light for part in parts])
        made.append({**style, "color": color, "dashes": DASHES[index % len(DASHES)]})
    return made


def _hex(parts: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


@contextmanager
def new_figure(width: float, height: float, layout: Any = "constrained") -> Iterator[Any]:
    """Yield an empty matplotlib figure in the style of all figures; the size is in inches."""
    with _extras.required("matplotlib", extra="paper"):
        import matplotlib
        from matplotlib.figure import Figure
    with matplotlib.rc_context(fname=RC):
        yield Figure(figsize=(width, height), layout=layout)


def plain_ticks(axes: Any) -> None:
    """Label logarithmic axes with plain numbers; axes of few decades get more labels."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if axis.get_scale() != "log":
            continue
        short = math.log10(limits[1] / limits[0]) < SHORT_DECADES
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if short else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def save(figure: Any, folder: Path, name: str) -> dict[str, str]:
    """Write PNG and SVG atomically, and return their file names by kind."""
    # Without a date, equal numbers give equal files.
    options: dict[str, Any] = {"png": {"dpi": 160}, "svg": {"metadata": {"Date": None}}}
    for kind, special in options.items():
        with atomic(folder / f"{name}.{kind}") as file:
            figure.savefig(file, format=kind, bbox_inches="tight", **special)
    return {kind: f"{name}.{kind}" for kind in options}


def save_data(value: Any, folder: Path, name: str) -> str:
    """Write JSON values for the report, null if not finite, and return the name of the file."""
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    with atomic(folder / name) as file:
        file.write(json.dumps(finite, separators=(",", ":")).encode())
    return name
