"""What is known without a Hessian, against the exact numbers along full-batch gradient descent.

    python benchmarks/free_estimates.py

Digits, two hidden layers of 32 units, float64, step 0.1. At every tenth step, medians over the run:

- smoothness: ||Hg|| at the point over the secant's, (g_0 - g_1) / h from two consecutive gradients;
- secant error: ||secant - Hg|| / ||secant||;
- slope error: |rho_parallel from the slope of the logs - exact| / |exact|, the slope over 5 steps;
- drift error: of h^2/2 Hg and of h^2/2 secant against the distance of the step from gradient flow
  (Runge-Kutta with 64 substeps), relative, as vectors.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from common import write_results
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from corridor.data import load
from corridor.geometry import jet, measure, rho_parallel_from_logs, secant

STEP, STEPS, EVERY, SUBSTEPS = 0.1, 300, 10, 64
ACTIVATIONS = {"ReLU": nn.ReLU, "GELU": nn.GELU, "tanh": nn.Tanh}


def problem(activation: Callable[[], nn.Module]) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A network and its mean loss over all digits."""
    torch.manual_seed(0)
    split = load("digits").train
    images = torch.as_tensor(split.images).double().flatten(1) / 255.0 - 0.5
    labels = torch.as_tensor(split.labels)
    model = nn.Sequential(
        nn.Linear(images.shape[1], 32), activation(), nn.Linear(32, 32), activation(),
        nn.Linear(32, 10),
    ).double()  # fmt: skip
    return model, lambda: cross_entropy(model(images), labels)


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def flow_end(model: nn.Module, closure: Callable[[], Tensor], start: Tensor) -> Tensor:
    """Where gradient flow of time STEP ends; the parameters are left there."""
    params = list(model.parameters())
    dt, x = STEP / SUBSTEPS, start.clone()

    def slope(point: Tensor) -> Tensor:
        nn.utils.vector_to_parameters(point, params)
        return -flat(list(torch.autograd.grad(closure(), params)))

    for _ in range(SUBSTEPS):
        k1 = slope(x)
        k2 = slope(x + dt / 2 * k1)
        k3 = slope(x + dt / 2 * k2)
        k4 = slope(x + dt * k3)
        x = x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def along(model: nn.Module, closure: Callable[[], Tensor]) -> dict[str, float]:
    """Medians over a run."""
    params = list(model.parameters())
    losses, norms, found = [], [], {}
    columns: dict[str, list[float]] = {}
    for step in range(STEPS):
        here = jet(closure, params)
        exact = measure(closure, params)
        losses.append(float(exact.loss))
        norms.append(float(exact.grad_norm))
        theta, g, hg = flat(params).detach(), flat(here.gradient), flat(here.hessian_gradient)
        landed = theta - STEP * g
        if step % EVERY == 0:
            drift = landed - flow_end(model, closure, theta)
            nn.utils.vector_to_parameters(landed, params)
            after = jet(closure, params)
            mean = flat(secant(here.gradient, after.gradient, STEP))
            found[step] = float(exact.rho_parallel)
            row = {
                "smoothness": hg.norm() / mean.norm(),
                "secant error": (mean - hg).norm() / mean.norm(),
                "drift error, Hg": (STEP**2 / 2 * hg + drift).norm() / drift.norm(),
                "drift error, secant": (STEP**2 / 2 * mean + drift).norm() / drift.norm(),
            }
            for name, value in row.items():
                columns.setdefault(name, []).append(float(value))
        nn.utils.vector_to_parameters(landed, params)
    slopes = rho_parallel_from_logs(losses, norms, window=5)
    columns["slope error"] = [abs(slopes[k] - exact) / abs(exact) for k, exact in found.items()]
    return {name: statistics.median(values) for name, values in columns.items()}


def main() -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name, activation in ACTIVATIONS.items():
        rows.append({"activation": name, **along(*problem(activation))})
        print(name, {k: f"{v:.2g}" for k, v in rows[-1].items() if k != "activation"})
    write_results("free_estimates", {"step": STEP, "steps": STEPS, "rows": rows})


if __name__ == "__main__":
    main()
