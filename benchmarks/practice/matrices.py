"""Hidden matrices and their polar factors, for all optimizers in Muon's metric."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KINDS = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.MultiheadAttention)
QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024, "Muon"


def hidden(model: nn.Module, smallest: int = 2) -> list[nn.Parameter]:
    """Return the weight matrices of hidden layers.

    These are the trained weights of linear, convolutional, recurrent and attention layers.
    Embeddings, weights shared with an embedding, and the last layer (the head) are left out.

    Args:
        model: its layers are taken in the order of ``model.modules()``.
        smallest: smallest side of a matrix, after a convolution is flattened (default: 2).
    """
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        if isinstance(module, KINDS):
            found |= {id(p): p for p in module.parameters(recurse=False) if p.ndim >= 2}
    matrices = [p for p in list(found.values())[:-1] if p.requires_grad and id(p) not in tables]
    return [p for p in matrices if min(flat(p).shape) >= smallest]


def flat(tensor: Tensor) -> Tensor:
    """Return a weight as a matrix: one row per output."""
    return tensor.flatten(1)


def polar(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Return the polar factor of a matrix, by the quintic Newton-Schulz iteration.

    Args:
        matrix: of two dimensions.
        iterations: number of iterations (default: 5).
    """
    a, b, c = QUINTIC
    wide = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / wide.norm().clamp(min=torch.finfo(wide.dtype).tiny)
    for _ in range(iterations):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if matrix.shape[0] > matrix.shape[1] else x
