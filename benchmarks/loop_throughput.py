"""Throughput of the training loop against a bare hand-written loop of the same network.

    python benchmarks/loop_throughput.py [--rounds 15] [--threads 1]

Both train ResNet-8 with the same batches, optimizer and arithmetic; the loop also keeps metrics,
shows no progress bar and writes its run folder. Each round times the same number of steps of both,
in random order; the loop's time is what it records as training time plus what it does not count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from common import paired_ratio, write_results
from torch.nn.functional import cross_entropy

from corridor import CLR, data, models
from corridor.train.config import Config
from corridor.train.loop import train

CASES = {
    "digits CNN, batch 128": Config(data="digits", model="cnn", width=16, batch_size=128, steps=66),
    "digits ResNet-8, batch 128": Config(data="digits", model="resnet8", batch_size=128, steps=33),
    "CIFAR-10 ResNet-8 at 16 pixels, batch 256": Config(
        data="cifar10", image_size=16, train_limit=5120, model="resnet8", batch_size=256, steps=20
    ),
}


def bare(config: Config, sgd: bool) -> float:
    """Images a second of the loop one would write by hand."""
    torch.manual_seed(config.seed)
    source = data.load(config.data, image_size=config.image_size, limit=config.train_limit)
    loader = data.Loader(source, batch_size=config.batch_size, device=torch.device("cpu"))
    model = models.build(
        config.model,
        num_classes=len(source.classes),
        in_channels=source.channels,
        image_size=source.image_size,
        width=config.width,
    )
    make = torch.optim.SGD if sgd else CLR
    opt = make(model.parameters(), lr=0.1) if sgd else CLR(model.parameters())
    steps, epoch, images_seen = 0, 0, 0
    begin = time.perf_counter()
    while True:
        for images, labels in loader.train(epoch):
            opt.zero_grad()
            loss = cross_entropy(model(images), labels)
            loss.backward()
            opt.step() if sgd else opt.step(loss=loss)
            steps, images_seen = steps + 1, images_seen + len(labels)
            if steps == config.steps:
                return images_seen / (time.perf_counter() - begin)
        epoch += 1


def looped(config: Config) -> float:
    """Images a second of `corridor.train`, as its summary tells."""
    with tempfile.TemporaryDirectory() as folder:
        return train(config, Path(folder) / "run", progress=False).images_per_second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name, case in CASES.items():
        for optimizer in ("clr", "sgd"):
            rate = {"lr": 0.1} if optimizer == "sgd" else {}
            config = Config.from_dict(
                {
                    **case.to_dict(),
                    "optimizer": optimizer,
                    **rate,
                    "eval_every": 0,
                    "checkpoint_every": 10**6,
                }
            )
            ours, theirs = [], []
            for index in range(options.rounds + 1):
                pair = [
                    lambda c=config: looped(c),
                    lambda c=config, o=optimizer: bare(c, o == "sgd"),
                ]
                order = (0, 1) if index % 2 else (1, 0)
                speeds = {which: pair[which]() for which in order}
                if index:  # the first round warms up
                    ours.append(speeds[0])
                    theirs.append(speeds[1])
            ratio = paired_ratio(ours, theirs)
            middle = sorted(theirs)[len(theirs) // 2]
            rows.append(
                {"case": name, "optimizer": optimizer, "bare_images_per_second": middle, **ratio}
            )
            print(f"{name:42s} {optimizer}  {ratio['ratio']:.3f} of {middle:,.0f} images/s")
    write_results("loop_throughput", {"rounds": options.rounds, "rows": rows})


if __name__ == "__main__":
    main()
