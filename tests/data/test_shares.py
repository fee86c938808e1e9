"""Every image once an epoch, whatever the number of processes."""

import pytest
import torch

from corridor import data


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("augment", [False, True])
def test_the_parts_of_all_ranks_are_the_batch_of_one_process(ranks, augment):
    digits = data.load("digits", limit=500)

    def loader(rank, ranks):
        return data.Loader(
            digits,
            batch_size=48,
            device="cpu",
            augment=augment,
            drop_last=False,
            rank=rank,
            ranks=ranks,
        )

    whole = loader(0, 1)
    parts = zip(*(loader(rank, ranks).train(1, start=2) for rank in range(ranks)), strict=True)
    for index, (one, part) in enumerate(zip(whole.train(1, start=2), parts, strict=True), 2):
        for tensor, shares in zip(one, zip(*part, strict=True), strict=True):
            assert torch.equal(torch.cat(shares), tensor)
        sizes = [len(labels) for _, labels in part]
        assert sum(sizes) == whole.size(index)
        assert max(sizes) - min(sizes) <= 1
    tests = [list(loader(rank, ranks).test(50)) for rank in range(ranks)]
    assert len({len(batches) for batches in tests}) == 1
    images = torch.cat([images for batches in tests for images, _ in batches])
    assert torch.equal(images, torch.cat([images for images, _ in whole.test()]))
