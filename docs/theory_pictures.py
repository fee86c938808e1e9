"""Draw the pictures of the theory pages into docs/pictures: python docs/theory_pictures.py."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

from corridor.flows import clr_descent, gradient_descent, gradient_flow, heavy_ball
from corridor.surfaces import Cone, PowerNorm, Quadratic, Rosenbrock
from corridor.theory import beyond, kantorovich

OUT = Path(__file__).parent / "pictures"
BLACK, BLUE, ORANGE = "#111111", "#0072B2", "#D55E00"


def _axes(title: str, x: str, y: str):
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(color="#E4E4E4")
    return figure, axes


def _point(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def drift_of_one_step() -> Figure:
    figure, axes = _axes("One step of gradient descent", "step size h", "distance from the flow")
    steps = torch.logspace(-3, -0.4, 14, dtype=torch.float64).tolist()
    losses = (
        ("Rosenbrock, not a corridor", Rosenbrock(1.0), _point(-0.4, 0.7), BLUE, "o-"),
        ("½‖θ‖², weak corridor", Quadratic(), _point(0.6, 0.8), ORANGE, "s--"),
        ("cone, corridor", Cone(), _point(0.6, 0.8), BLACK, "^:"),
    )
    for name, loss, start, color, style in losses:
        gaps = [
            float(
                (gradient_descent(loss, start, h, 1).end - gradient_flow(loss, start, h).end).norm()
            )
            for h in steps
        ]
        axes.loglog(steps, [max(g, 1e-17) for g in gaps], style, color=color, label=name)
    axes.loglog(steps, [0.5 * h * h for h in steps], color="#999999", label="slope 2")
    axes.legend(frameon=False)
    return figure


def momentum_on_the_cone() -> Figure:
    figure, axes = _axes("Heavy ball on the cone", "θ₁", "θ₂")
    start = _point(3.0, 4.0)
    across = _point(-0.4, 0.3)
    for name, velocity, color, style in (
        ("from rest", None, BLACK, "o-"),
        ("aligned start", 0.3, BLUE, "s--"),
        ("misaligned start", across, ORANGE, "^:"),
    ):
        x = heavy_ball(Cone(), start, 0.1, 9, momentum=0.7, velocity=velocity).points
        axes.plot(x[:, 0], x[:, 1], style, color=color, label=name, markersize=4)
    axes.plot(0, 0, "k*", markersize=10)
    axes.annotate("apex", (0, 0), xytext=(6, 4), textcoords="offset points")
    axes.set_aspect("equal")
    axes.legend(frameon=False)
    return figure


def clr_on_powers() -> Figure:
    figure, axes = _axes("One CLR step on ‖θ‖^p", "power p", "E₁ / E₀")
    powers = torch.linspace(1.0, 5.0, 41).tolist()
    exact = [beyond.power_loss_ratio(p) for p in powers]
    axes.plot(powers, exact, color=BLACK, label="((p − 1) / p)^p")
    some = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0]
    paths = [clr_descent(PowerNorm(p), _point(0.3, -1.2), 1) for p in some]
    axes.plot(some, [float(p.losses[1] / p.losses[0]) for p in paths], "o", color=ORANGE,
              label="measured")  # fmt: skip
    axes.legend(frameon=False)
    return figure


def corridor_numbers_of_quadratics() -> Figure:
    figure, axes = _axes("Quadratics: ρ∥ by direction", "angle of g (degrees)", "ρ∥ = E₁ / E₀")
    angle = torch.linspace(0.0, torch.pi / 2.0, 181, dtype=torch.float64)
    styles = ((1.0, BLACK, "-"), (4.0, BLUE, "--"), (13.93, ORANGE, "-."), (40.0, "#777777", ":"))
    for k, color, style in styles:
        values = _point(1.0, k)
        g = torch.stack([angle.cos(), angle.sin()], -1)
        rho = (g * g / values).sum(-1) * (g * g * values).sum(-1) / 4.0
        label = f"κ = {k:g}, bound {kantorovich(k):.2f}"
        axes.plot(angle.rad2deg(), rho, style, color=color, label=label)
    axes.axhline(1.0, color="#999999", linewidth=0.8)
    axes.annotate("above: the loss rises", (2, 1.04), fontsize=8)
    axes.legend(frameon=False)
    return figure


def main() -> None:
    """Draw all pictures."""
    for make in (
        drift_of_one_step,
        momentum_on_the_cone,
        clr_on_powers,
        corridor_numbers_of_quadratics,
    ):
        make().savefig(OUT / f"{make.__name__}.png", dpi=110)


if __name__ == "__main__":
    main()
