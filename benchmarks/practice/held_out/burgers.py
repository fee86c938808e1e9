"""A front of Burgers' equation from its residual."""

import torch
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn

VISCOSITY, SPEED, HEIGHT = 0.02, 0.5, 0.5


def exact(points: Tensor) -> Tensor:
    """Return the front that moves to the right without change."""
    x, t = points[:, :1], points[:, 1:]
    return SPEED - HEIGHT * torch.tanh(HEIGHT * (x - SPEED * t) / (2 * VISCOSITY))


def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return points inside, and points at the start and at both sides; x is in [-1, 1]."""
    inside = torch.rand(64, 2, generator=g)
    start, left, right = torch.rand(3, 16, 2, generator=g)
    start[:, 1], left[:, 0], right[:, 0] = 0, 0, 1
    border = torch.cat((start, left, right))
    for points in (inside, border):
        points[:, 0] = 2 * points[:, 0] - 1
    return inside, border


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inside, border = batch
    inside = inside.detach().requires_grad_()
    u = model(inside)
    slope = torch.autograd.grad(u.sum(), inside, create_graph=True)[0]
    second = torch.autograd.grad(slope[:, 0].sum(), inside, create_graph=True)[0][:, 0]
    residual = slope[:, 1] + u[:, 0] * slope[:, 0] - VISCOSITY * second
    return residual.square().mean() + (model(border) - exact(border)).square().mean()


def error(model: nn.Module, points: Tensor) -> Tensor:
    """Return the squared error relative to the solution's square."""
    u = exact(points)
    return (model(points) - u).square().mean() / u.square().mean()


def make(seed: int) -> Task:
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 60), torch.linspace(0, 1, 40))
    return task(
        seed,
        lambda: mlp(2, 40, 40, 40, 1, act=nn.Tanh),
        stream(seed, draw),
        loss,
        [grid],
        score=error,
        floor=1e-6,
    )


problem = Problem(
    name="burgers",
    kind="physics-informed",
    steps=3000,
    batch_size=112,
    make=make,
    about="A front of Burgers' equation on fresh points; dense tanh layers: not linear, steep.",
)
