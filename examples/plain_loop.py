"""CLR in a plain training loop: the two lines that differ from torch.optim.SGD are marked."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import corridor


def main(steps: int = 200) -> float:
    """Learn which of ten random directions a vector lies along; returns the last loss."""
    torch.manual_seed(0)
    directions = torch.randn(10, 32)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    opt = corridor.CLR(model.parameters())  # instead of SGD(model.parameters(), lr=?)

    loss = torch.tensor(float("nan"))
    for _ in range(steps):
        labels = torch.randint(10, (128,))
        inputs = directions[labels] + 0.5 * torch.randn(128, 32)
        opt.zero_grad()
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        opt.step(loss=loss)  # instead of opt.step()
    print(f"loss {loss.item():.4f}, last step {float(opt.param_groups[0]['effective_lr']):.3f}")
    return loss.item()


if __name__ == "__main__":
    main()
