"""CLR in the Lightning Trainer: `on_before_backward` hands over the loss.

So it is right with accumulate_grad_batches and mixed precision too, where the closure is not.
"""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import corridor


class Classifier(pl.LightningModule):
    """Learns which of ten random directions a vector lies along."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
        self.last_loss = float("nan")

    def training_step(self, batch, batch_idx):
        """The loss, as for any optimizer."""
        inputs, labels = batch
        loss = cross_entropy(self.network(inputs), labels)
        self.last_loss = loss.detach()
        return loss

    def on_before_backward(self, loss):
        """Watch the loss: the only line that CLR needs."""
        self.optimizers().watch(loss)

    def configure_optimizers(self):
        """Return CLR, which has no learning rate to choose."""
        return corridor.CLR(self.parameters())


def main(epochs: int = 4) -> float:
    """Train for a few epochs; returns the last loss."""
    torch.manual_seed(0)
    labels = torch.randint(10, (4096,))
    inputs = torch.randn(10, 32)[labels] + 0.5 * torch.randn(4096, 32)
    batches = DataLoader(TensorDataset(inputs, labels), batch_size=64, shuffle=True)
    model = Classifier()
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        accumulate_grad_batches=2,
        **dict.fromkeys(off, False),
    )
    trainer.fit(model, batches)
    print(f"loss {model.last_loss:.4f}")
    return float(model.last_loss)


if __name__ == "__main__":
    main()
