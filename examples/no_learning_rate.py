"""CLR-Adam: no learning rate and no cap; the landscape limits the step, measured on the way."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import corridor


def main(steps: int = 200) -> float:
    """Learn which of ten random directions a vector lies along; returns the last loss."""
    torch.manual_seed(0)
    directions = torch.randn(10, 32)
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 10))
    opt = corridor.CLRAdam(model.parameters())  # or CLR(model.parameters(), drift=1.0)

    loss, limited = torch.tensor(float("nan")), 0
    for _ in range(steps):
        labels = torch.randint(10, (128,))
        inputs = directions[labels] + 0.5 * torch.randn(128, 32)
        opt.zero_grad()
        loss = cross_entropy(model(inputs), labels)
        opt.watch(loss).backward()  # the drift is measured on this loss's graph, every 10 steps
        opt.step()
        group = opt.param_groups[0]
        limit = 2.0 * group["drift"] / float(group["hessian_ratio"])
        limited += float(group["effective_lr"]) >= 0.999 * limit
    print(f"loss {loss.item():.4f}, limited by drift in {limited} of {steps} steps")
    return loss.item()


if __name__ == "__main__":
    main()
