"""CLR with gradient accumulation: watch every micro-batch's loss, then call a bare step().

The step uses the mean of the losses whose gradient lies in ``.grad``. The loss of the last
micro-batch alone would be wrong without a message.
"""

import torch
from torch import nn
from torch.nn.functional import mse_loss

import corridor


def main(steps: int = 100, micro_batches: int = 4) -> float:
    """Fit a linear map; returns the last loss."""
    torch.manual_seed(0)
    truth = torch.randn(8, 3)
    model = nn.Linear(8, 3)
    opt = corridor.CLR(model.parameters(), momentum=0.9)

    total = 0.0
    for _ in range(steps):
        opt.zero_grad()
        total = 0.0
        for _ in range(micro_batches):
            inputs = torch.randn(32, 8)
            loss = opt.watch(mse_loss(model(inputs), inputs @ truth))
            (loss / micro_batches).backward()
            total += loss.item() / micro_batches
        opt.step()
    print(f"loss {total:.2e}, last step {float(opt.param_groups[0]['effective_lr']):.3f}")
    return total


if __name__ == "__main__":
    main()
