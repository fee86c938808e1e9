"""CLR under Hugging Face Accelerate, with gradient accumulation.

`prepare` wraps the optimizer in one that takes no loss; keep CLR's own name to watch by.
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import corridor


def main(epochs: int = 4) -> float:
    """Learn which of ten random directions a vector lies along; returns the last loss."""
    torch.manual_seed(0)
    labels = torch.randint(10, (4096,))
    inputs = torch.randn(10, 32)[labels] + 0.5 * torch.randn(4096, 32)
    batches = DataLoader(TensorDataset(inputs, labels), batch_size=64, shuffle=True)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    clr = corridor.CLR(model.parameters())
    model, opt, batches = accelerator.prepare(model, clr, batches)

    loss = torch.tensor(float("nan"))
    for _ in range(epochs):
        for inputs, labels in batches:
            with accelerator.accumulate(model):
                loss = clr.watch(cross_entropy(model(inputs), labels))
                accelerator.backward(loss)
                opt.step()
                opt.zero_grad()
    print(f"loss {loss.item():.4f}, last step {float(clr.param_groups[0]['effective_lr']):.3f}")
    return loss.item()


if __name__ == "__main__":
    main()
