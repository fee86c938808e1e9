"""The landscape under a plain training loop: the lines that a probe adds are marked."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import corridor


def main(steps: int = 200) -> float:
    """Learn which of ten random directions a vector lies along; returns the last loss."""
    torch.manual_seed(0)
    directions = torch.randn(10, 32)
    model = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 10))
    opt = corridor.CLR(model.parameters())
    probe = corridor.Probe(model, every=40, step=lambda m: min(float(m.clr), 1.0))  # added

    loss = torch.tensor(float("nan"))
    for _ in range(steps):
        labels = torch.randint(10, (128,))
        inputs = directions[labels] + 0.5 * torch.randn(128, 32)
        opt.zero_grad()
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        found = probe(lambda x=inputs, y=labels: cross_entropy(model(x), y))  # added
        if found is not None:
            change = float(found.secant.gradient_change)
            print(f"rho {float(found.rho):.2f}, the gradient changes by {change:.0%} over the step")
        opt.step(loss=loss)
    return loss.item()


if __name__ == "__main__":
    main()
