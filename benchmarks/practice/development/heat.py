"""The heat equation from its residual."""

import torch
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn

PI = torch.pi


def exact(points: Tensor) -> Tensor:
    """Return the solution of u_t = u_xx / 20 that starts as two sines."""
    x, t = points[:, :1], points[:, 1:]
    slow = torch.sin(PI * x) * torch.exp(-t * PI**2 / 20)
    return slow + 0.5 * torch.sin(3 * PI * x) * torch.exp(-t * 9 * PI**2 / 20)


def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return points inside, and points at the start and at both sides."""
    inside = torch.rand(96, 2, generator=g)
    start, left, right = torch.rand(3, 16, 2, generator=g)
    start[:, 1], left[:, 0], right[:, 0] = 0, 0, 1
    return inside, torch.cat((start, left, right))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inside, border = batch
    inside = inside.detach().requires_grad_()
    slope = torch.autograd.grad(model(inside).sum(), inside, create_graph=True)[0]
    second = torch.autograd.grad(slope[:, 0].sum(), inside, create_graph=True)[0][:, 0]
    residual = slope[:, 1] - second / 20
    return residual.square().mean() + 10 * (model(border) - exact(border)).square().mean()


def error(model: nn.Module, points: Tensor) -> Tensor:
    """Return the squared error relative to the solution's square."""
    u = exact(points)
    return (model(points) - u).square().mean() / u.square().mean()


def make(seed: int) -> Task:
    grid = torch.cartesian_prod(torch.linspace(0, 1, 50), torch.linspace(0, 1, 50))
    return task(
        seed,
        lambda: mlp(2, 32, 32, 32, 1, act=nn.Tanh),
        stream(seed, draw),
        loss,
        [grid],
        score=error,
        floor=1e-6,
    )


problem = Problem(
    name="heat",
    kind="physics-informed",
    steps=3000,
    batch_size=144,
    make=make,
    about="u_t = u_xx / 20 on fresh points; dense tanh layers: derivatives in the loss.",
)
