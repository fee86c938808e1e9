"""ScheduleFree+ by our reading of arXiv 2605.19095, Algorithm 1."""

import math

import torch
from benchmarks.practice.entrant import WARMUP, Entrant, zeros
from benchmarks.practice.sequences import Sequences


class ScheduleFreePlus(Sequences):
    """Take Adam's steps of Polyak's size between the sequences of schedule-free.

        e <- polyak_beta e + (1 - polyak_beta) sqrt(pi / 2) ||g||_1
        alpha = warm (f - f_star + beta <g, z - x>)_+ / e_hat
        z <- z - alpha^2 decay y - alpha m_hat / (sqrt(v_hat) + eps)
        x <- x + c (z - x),    c = w / sum of w,    w = t^r (largest alpha so far)^2

    During the warm-up c is 1. In it, warm rises linearly to 1.

    Args:
        model: its trained parameters are moved.
        f_star: lower bound of the loss. The paper has 0.
        warmup: number of steps of the warm-up.
        beta: weight of the average in y (default: 0.9).
        betas: weights of the past in m and v (default: (0.9, 0.95)).
        r: power of t in the weights (default: 0).
        polyak_beta: weight of the past in e (default: 0).
        decay: weight decay (default: 0).
        eps: number added to the root of v (default: 1e-8).
    """

    def __init__(
        self, model, f_star=0.0, *, warmup=0, beta=0.9, betas=(0.9, 0.95), r=0.0,
        polyak_beta=0.0, decay=0.0, eps=1e-8,
    ):  # fmt: skip
        super().__init__(model, beta)
        self.f_star, self.warmup, self.betas, self.r = f_star, warmup, betas, r
        self.polyak_beta, self.decay, self.eps = polyak_beta, decay, eps
        self.m, self.v = zeros(self.params), zeros(self.params)
        self.e = self.largest = self.sum_w = self.alpha = 0.0

    @torch.no_grad()
    def step(self, loss):
        """Take one step with the loss at y."""
        g = self.gradients()
        self.t += 1
        self.alpha = self.size(g, float(loss))
        for i, a in enumerate(g):
            self.z[i] -= self.alpha**2 * self.decay * self.params[i]
            self.z[i] -= self.alpha * self.adam(i, a)
        self.average(self.share())

    def size(self, g, loss):
        """Return alpha."""
        past, length = self.polyak_beta, sum(float(a.abs().sum()) for a in g)
        self.e = past * self.e + (1 - past) * math.sqrt(math.pi / 2) * length
        corrected = self.e / (1 - past**self.t)
        inner = sum(float((a * (z - x)).sum()) for a, z, x in zip(g, self.z, self.x, strict=True))
        warm = min(1.0, self.t / self.warmup) if self.warmup else 1.0
        return warm * max(0.0, loss - self.f_star + self.beta * inner) / corrected

    def adam(self, i, g):
        """Return Adam's direction for one parameter."""
        b1, b2 = self.betas
        self.m[i] = b1 * self.m[i] + (1 - b1) * g
        self.v[i] = b2 * self.v[i] + (1 - b2) * g * g
        root = (self.v[i] / (1 - b2**self.t)).sqrt() + self.eps
        return self.m[i] / (1 - b1**self.t) / root

    def share(self):
        """Return c."""
        self.largest = max(self.largest, self.alpha)
        if self.t <= self.warmup:
            return 1.0
        weight = self.t**self.r * self.largest**2
        self.sum_w += weight
        return weight / self.sum_w if self.sum_w else 1.0


def make(model, steps, rate, f_star):
    return ScheduleFreePlus(model, f_star or 0.0, warmup=round(WARMUP * steps)), None


entrant = Entrant(
    name="schedule_free_plus",
    label="ScheduleFree+ (our reading)",
    family="paper",
    make=make,
    loss="step",
    about="arXiv 2605.19095 with the defaults of its authors' reference implementation, warm-up "
    "over 5 % of the steps, x equal to z in it; without annealing of beta, which is off there. "
    "Uncertain: whether the authors would anneal beta in runs this short",
)
