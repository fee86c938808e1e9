"""Draw the rooms of the house, floor by floor: ``python docs/house_picture.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

PICTURE = Path(__file__).parent / "pictures" / "architecture.png"

# From the ground up: the rooms of a floor, each with its ring and what it holds.
FLOORS = [
    [("_types  _torch  _extras  _atomic", "core", "the smallest helpers, one file each"),
     ("_reduce  _tree", "core", "means over ranks, lists of tensors")],
    [("proofs", "theory", "formulas as trees, and their proofs")],
    [("geometry", "core", "Hg, corridor measures, Lanczos, probe"),
     ("surfaces", "theory", "losses with known answers")],
    [("optim", "core", "step sizes, CLR and its relatives")],
    [("flows", "theory", "gradient flow, discrete methods, drift")],
    [("theory", "theory", "the paper's statements as checks")],
    [("data  models", "lab", "batches by (seed, epoch, index), networks")],
    [("train", "lab", "loop, run folders, processes, sweeps"),
     ("integrations", "lab", "the probe in other trainers")],
    [("paper", "paper", "recipes, figures, verdicts, report")],
    [("cli", "paper", "parse, call one function, print")],
]  # fmt: skip
COLORS = {"core": "#cfe3f5", "theory": "#e9f2d0", "lab": "#fbe5c8", "paper": "#ecd9ee"}
RINGS = {
    "core": "core: torch alone",
    "theory": "theory",
    "lab": "lab",
    "paper": "paper and command line",
}
WIDTH, HEIGHT = 10.0, 1.0


def draw() -> None:
    """Draw one box per room; a room may import what stands below it."""
    figure, axes = plt.subplots(figsize=(9, 9.1))
    for floor, rooms in enumerate(FLOORS):
        width = WIDTH / len(rooms)
        for place, (name, ring, content) in enumerate(rooms):
            x, y = place * width, floor * HEIGHT
            axes.add_patch(
                FancyBboxPatch(
                    (x + 0.08, y + 0.08), width - 0.16, HEIGHT - 0.16,
                    boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor=COLORS[ring], edgecolor="#444444",
                )
            )  # fmt: skip
            axes.text(x + 0.3, y + 0.64, name, va="center", family="monospace", weight="bold")
            axes.text(x + 0.3, y + 0.3, content, va="center", fontsize=9.5)
    for ring, words in RINGS.items():
        axes.scatter(
            [], [], marker="s", s=120, color=COLORS[ring], edgecolor="#444444", label=words
        )
    axes.annotate(
        "", (WIDTH + 0.35, 0.1), (WIDTH + 0.35, len(FLOORS) - 0.1), arrowprops={"arrowstyle": "->"}
    )
    axes.text(WIDTH + 0.5, len(FLOORS) / 2, "imports", rotation=270, va="center")
    axes.set(xlim=(-0.1, WIDTH + 0.9), ylim=(-0.1, len(FLOORS) * HEIGHT + 0.1))
    axes.axis("off")
    axes.legend(loc="upper center", bbox_to_anchor=(0.48, 0.0), ncols=4, frameon=False)
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    draw()
