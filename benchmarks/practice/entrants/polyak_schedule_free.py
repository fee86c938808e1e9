"""Schedule-free Adam with Polyak steps by our reading of arXiv 2511.07767."""

import torch
from benchmarks.practice.entrant import Entrant, zeros
from benchmarks.practice.sequences import Sequences


class PolyakScheduleFree(Sequences):
    """Take Polyak's steps in Adam's metric between the sequences of schedule-free.

        h = (f - f_star + beta <g, z - x>)_+ / max(<g, g / D>, M),    D = sqrt(v_hat) + eps
        z <- z - h g / D,    x <- x + (z - x) / (t + 1),    t = 1, 2, ...

    Args:
        model: its trained parameters are moved.
        f_star: lower bound of the loss (default: 0).
        beta: weight of the average in y (default: 0.9).
        beta2: weight of the past in v (default: 0.999).
        safeguard: M (default: 1e-8).
        eps: number added to the root of v (default: 1e-8).
    """

    def __init__(self, model, f_star=0.0, *, beta=0.9, beta2=0.999, safeguard=1e-8, eps=1e-8):
        super().__init__(model, beta)
        self.f_star, self.beta2, self.safeguard, self.eps = f_star, beta2, safeguard, eps
        self.v, self.h = zeros(self.params), 0.0

    @torch.no_grad()
    def step(self, loss):
        """Take one step with the loss at y."""
        g = self.gradients()
        self.t += 1
        u = [self.preconditioned(i, a) for i, a in enumerate(g)]
        norm_sq = sum(float((a * b).sum()) for a, b in zip(g, u, strict=True))
        inner = sum(float((a * (z - x)).sum()) for a, z, x in zip(g, self.z, self.x, strict=True))
        gap = max(0.0, float(loss) - self.f_star + self.beta * inner)
        self.h = gap / max(norm_sq, self.safeguard)
        for z, b in zip(self.z, u, strict=True):
            z.sub_(b, alpha=self.h)
        self.average(1 / (self.t + 1))

    def preconditioned(self, i, g):
        """Return g / D for one parameter."""
        self.v[i] = self.beta2 * self.v[i] + (1 - self.beta2) * g * g
        return g / ((self.v[i] / (1 - self.beta2**self.t)).sqrt() + self.eps)


def make(model, steps, rate, f_star):
    return PolyakScheduleFree(model, f_star or 0.0), None


entrant = Entrant(
    name="polyak_schedule_free",
    label="Schedule-free Adam, Polyak steps (our reading)",
    family="paper",
    make=make,
    loss="step",
    about="arXiv 2511.07767, the safeguarded form. Uncertain: the authors' M and beta2; here M is "
    "1e-8, so that it only guards against a division by zero, and beta2 is 0.999",
)
