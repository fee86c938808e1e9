"""A policy that learns from rewards of its own actions."""

from functools import cache

import torch
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import fixed, seeded, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn

ACTIONS = 6


@cache
def teacher() -> nn.Module:
    """Return the network whose outputs are the expected rewards."""
    return seeded(4, lambda: mlp(8, 48, ACTIONS, act=nn.Tanh)).requires_grad_(False)


def draw(g: torch.Generator, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return contexts, expected rewards, noise of the rewards, and the draw of the action."""
    x = torch.randn(count, 8, generator=g) * 2
    noise = torch.randn(count, ACTIONS, generator=g) * 0.5
    return x, 2 * teacher()(x), noise, torch.rand(count, ACTIONS, generator=g)


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Return the loss whose gradient is REINFORCE's, with the mean reward as the baseline.

    The action is the largest of the logits plus Gumbel noise: a draw from the policy.
    """
    x, expected, noise, uniform = batch
    logs = model(x).log_softmax(1)
    action = (logs - (-uniform.clamp(min=1e-9).log()).log()).argmax(1, keepdim=True)
    reward = (expected + noise).gather(1, action)
    return -((reward - reward.mean()) * logs.gather(1, action)).mean()


def regret(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Return how much the best action's reward is above the policy's."""
    x, expected, _, _ = batch
    return (expected.amax(1) - (model(x).softmax(1) * expected).sum(1)).mean()


def make(seed: int) -> Task:
    return task(
        seed,
        lambda: mlp(8, 64, 64, ACTIONS),
        stream(seed, lambda g: draw(g, 64)),
        loss,
        fixed(lambda g: draw(g, 2000), 4),
        score=regret,
    )


problem = Problem(
    name="bandit",
    kind="no lower bound",
    steps=5000,
    batch_size=64,
    make=make,
    f_star=None,
    about="Contextual bandit of 6 actions; policy gradient: its loss has no bound, regret counts.",
)
