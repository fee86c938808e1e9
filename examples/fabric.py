"""CLR in Lightning Fabric: watch the loss before `fabric.backward`."""

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import corridor


def main(epochs: int = 4) -> float:
    """Learn which of ten random directions a vector lies along; returns the last loss."""
    torch.manual_seed(0)
    labels = torch.randint(10, (4096,))
    inputs = torch.randn(10, 32)[labels] + 0.5 * torch.randn(4096, 32)
    batches = DataLoader(TensorDataset(inputs, labels), batch_size=128, shuffle=True)
    network = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))

    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    model, opt = fabric.setup(network, corridor.CLR(network.parameters()))
    batches = fabric.setup_dataloaders(batches)

    loss = torch.tensor(float("nan"))
    for _ in range(epochs):
        for inputs, labels in batches:
            opt.zero_grad()
            loss = opt.watch(cross_entropy(model(inputs), labels))
            fabric.backward(loss)
            opt.step()  # its wrapper takes no loss=
    print(f"loss {loss.item():.4f}, last step {float(opt.param_groups[0]['effective_lr']):.3f}")
    return loss.item()


if __name__ == "__main__":
    main()
