"""Distance-Adaptive Muon by our reading of arXiv 2605.18999."""

import torch
from benchmarks.practice.entrant import Entrant, copies, trained, zeros
from benchmarks.practice.matrices import flat, hidden, polar


class DistanceMuon:
    """Move each hidden matrix by a radius that the walk has explored, all else by AdamW.

        M <- mu M + (1 - mu) g,    r <- max(r, ||W - W_0||),    W <- W - r / sqrt(t) polar(M)

    The norm is the spectral norm, whose unit ball the polar factor comes from.

    Args:
        model: its hidden matrices get polar factors.
        radius: r at the start (default: 1e-3).
        momentum: mu (default: 0.95).
        rate: rate of AdamW (default: 1e-3).
    """

    def __init__(self, model, *, radius=1e-3, momentum=0.95, rate=1e-3):
        self.params = trained(model)
        self.hidden, self.momentum, self.t = hidden(model), momentum, 0
        own = {id(p) for p in self.hidden}
        rest = [p for p in self.params if id(p) not in own]
        self.adam = torch.optim.AdamW(rest, lr=rate) if rest else None
        self.start, self.m = copies(self.hidden), zeros(self.hidden)
        self.radii = [radius] * len(self.hidden)

    def zero_grad(self):
        """Set the gradients to None."""
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self):
        """Take one step."""
        if self.adam is not None:
            self.adam.step()
        self.t += 1
        for i, p in enumerate(self.hidden):
            if p.grad is not None:
                self.m[i] = self.momentum * self.m[i] + (1 - self.momentum) * p.grad
                self.radii[i] = max(self.radii[i], spectral_norm(flat(p - self.start[i])))
                factor = polar(flat(self.m[i])).reshape(p.shape)
                p.sub_(factor, alpha=self.radii[i] / self.t**0.5)


def spectral_norm(matrix):
    """Return the largest singular value, from the smaller Gram matrix."""
    gram = matrix @ matrix.mT if matrix.shape[0] <= matrix.shape[1] else matrix.mT @ matrix
    if not bool(torch.isfinite(gram).all()):
        return float("nan")
    return float(torch.linalg.eigvalsh(gram)[-1].clamp(min=0).sqrt())


def make(model, steps, rate, f_star):
    return DistanceMuon(model), None


entrant = Entrant(
    name="distance_muon",
    label="Distance-Adaptive Muon (our reading)",
    family="paper",
    make=make,
    about="the first of three rules of arXiv 2605.18999. Uncertain: the formula was read at second "
    "hand, where the norm is Frobenius's and the step has a cap; AdamW's rate 1e-3 is ours",
)
