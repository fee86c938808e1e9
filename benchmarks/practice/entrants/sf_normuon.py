"""SF-NorMuon by our reading of arXiv 2605.23061, Algorithm 1."""

import math

import torch
from benchmarks.practice.entrant import WARMUP, Entrant, zeros
from benchmarks.practice.matrices import flat, hidden, polar
from benchmarks.practice.sequences import Sequences


class SFNorMuon(Sequences):
    """Move matrices by polar factors with normalized rows, between schedule-free's sequences.

        M <- mu M + (1 - mu) g,    P = polar(M)
        v <- beta2 v + (1 - beta2) (mean of P^2 over each row),    P_hat = P / (sqrt(v) + eps)
        eta = rate min(1, t / warmup),    eta_hat = 0.2 eta sqrt(m n) / ||P_hat||_F
        Z <- Z - eta decay Z - eta_hat P_hat
        X <- X + c (Z - X),    c = eta^2 / (sum of eta^2)

    All other parameters take the steps of schedule-free AdamW, with the decay at Z.

    Args:
        model: its hidden matrices get polar factors.
        rate: eta after the warm-up (default: 0.008).
        warmup: number of steps of the warm-up.
        beta: weight of the average in y (default: 0.9).
        beta2: weight of the past in v (default: 0.95).
        momentum: mu (default: 0.8).
        decay: weight decay (default: 0.05).
        eps: number added to the roots (default: 1e-8).
    """

    def __init__(
        self, model, *, rate=0.008, warmup=0, beta=0.9, beta2=0.95, momentum=0.8, decay=0.05,
        eps=1e-8,
    ):  # fmt: skip
        super().__init__(model, beta)
        self.rate, self.warmup, self.beta2 = rate, warmup, beta2
        self.momentum, self.decay, self.eps = momentum, decay, eps
        self.hidden = {id(p) for p in hidden(model)}
        self.m, self.v = zeros(self.params), zeros(self.params)
        self.sum_sq = 0.0

    @torch.no_grad()
    def step(self):
        """Take one step."""
        self.t += 1
        eta = self.rate * (min(1.0, self.t / self.warmup) if self.warmup else 1.0)
        for i, (p, g) in enumerate(zip(self.params, self.gradients(), strict=True)):
            u = self.spectral(i, g) if id(p) in self.hidden else self.adam(i, g)
            self.z[i] -= eta * self.decay * self.z[i] + eta * u
        self.sum_sq += eta**2
        self.average(eta**2 / self.sum_sq)

    def spectral(self, i, g):
        """Return ``0.2 sqrt(m n) P_hat / ||P_hat||_F`` for one matrix."""
        self.m[i] = self.momentum * self.m[i] + (1 - self.momentum) * g
        factor = polar(flat(self.m[i]))
        rows = (factor * factor).mean(dim=1, keepdim=True)
        if self.t == 1:
            self.v[i] = torch.zeros_like(rows)
        self.v[i] = self.beta2 * self.v[i] + (1 - self.beta2) * rows
        scaled = factor / (self.v[i].sqrt() + self.eps)
        length = scaled.norm().clamp(min=torch.finfo(scaled.dtype).tiny)
        return (0.2 * math.sqrt(scaled.numel()) / length * scaled).reshape(g.shape)

    def adam(self, i, g):
        """Return Adam's direction without a first moment."""
        self.v[i] = self.beta2 * self.v[i] + (1 - self.beta2) * g * g
        return g / ((self.v[i] / (1 - self.beta2**self.t)).sqrt() + self.eps)


def make(model, steps, rate, f_star):
    return SFNorMuon(model, warmup=round(WARMUP * steps)), None


entrant = Entrant(
    name="sf_normuon",
    label="SF-NorMuon (our reading)",
    family="paper",
    make=make,
    about="arXiv 2605.23061 with the one setting of its language models (rate 0.008, momentum "
    "0.8, betas 0.9 and 0.95, decay 0.05), warm-up over 5 % of the steps. Uncertain: the setting "
    "was read at second hand",
)
