"""NadamW with one setting for all problems: the bar of AlgoPerf."""

import torch
from benchmarks.practice.entrant import Entrant, trained, warmup_cosine

# The setting that AlgoPerf publishes for its self-tuning rules.
RATE, BETAS, DECAY, WARMUP = (
    0.0017486387539278373,
    (1 - 0.06733926164, 0.9955159689799007),
    0.0812,
    0.02,
)


class NadamW(torch.optim.Optimizer):
    """Take AdamW's steps along a first moment that looks one step ahead.

        m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2
        theta <- (1 - lr decay) theta - lr (b1 m + (1 - b1) g) / (1 - b1^t) / (sqrt(v_hat) + eps)

    torch.optim.NAdam has another schedule of momentum.
    """

    def __init__(self, params, lr, betas, weight_decay, eps=1e-8):
        options = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, options)

    @torch.no_grad()
    def step(self):
        """Take one step."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad, self.state[p], group)

    def _move(self, p, g, state, group):
        (b1, b2), lr = group["betas"], group["lr"]
        if not state:
            state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        state["t"] += 1
        state["m"].lerp_(g, 1 - b1)
        state["v"].lerp_(g * g, 1 - b2)
        ahead = state["m"].lerp(g, 1 - b1) / (1 - b1 ** state["t"])
        root = (state["v"] / (1 - b2 ** state["t"])).sqrt() + group["eps"]
        p.mul_(1 - lr * group["weight_decay"]).addcdiv_(ahead, root, value=-lr)


def make(model, steps, rate, f_star):
    optimizer = NadamW(trained(model), lr=rate, betas=BETAS, weight_decay=DECAY)
    return optimizer, warmup_cosine(optimizer, steps, WARMUP)


entrant = Entrant(
    name="nadamw",
    label="NadamW, one setting",
    family="rival",
    make=make,
    rates=tuple(RATE * factor for factor in (0.25, 0.5, 1.0, 2.0, 4.0)),
    choice="one",
    order=1,
    about="AlgoPerf's published self-tuning setting; arXiv 2505.24005 has such a bar. "
    "Only the rate is calibrated here, by factors of two, over the development half",
)
