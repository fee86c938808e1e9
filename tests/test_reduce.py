from __future__ import annotations

import torch

from corridor._reduce import over_ranks


def test_alone_nothing_is_shared():
    values, sums = torch.tensor([2.0, 3.0]), torch.ones(2, 1)
    assert over_ranks(values, sums, average=True) == (values, sums)
