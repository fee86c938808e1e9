"""Images a second and core: JPEGs from folders and parquet, decoded, batched, normalised.

    python benchmarks/image_loading.py [--images 2048] [--rounds 5]

Rows: a bare PIL loop (open, decode, to one array); the same through torch's DataLoader and its
default collation; the whole job (random crop, scale, mirror, normalised float32 batches) by
DataLoader as one writes it by hand, an image at a time, and by `corridor.data.Loader`. All over
the same files of 224 x 224 pixels, by CPU time of this process and its workers, in random order
within a round; last rows over files of 500 x 375 pixels, as large as ImageNet's on average.
On a GPU batches are normalised there, and cores bring whole batches of bytes up to it; a worker's
part of that is to decode, crop, scale and mirror. Last, what consumes: training steps on ready
batches.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import write_results
from PIL import Image
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from corridor import models
from corridor.data import Data, Loader, StreamSplit
from corridor.data.decode import random_crop
from corridor.data.sources import find
from corridor.data.stream import Batches, stream
from corridor.data.types import Rows

SIZE, BATCH, CLASSES = 224, 128, 4
LARGE = (500, 375)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(index: int, width: int = SIZE, height: int = SIZE) -> bytes:
    """A JPEG of smooth shapes and some grain, about as large as ImageNet's at that size."""
    draw = np.random.default_rng(index)
    coarse = Image.fromarray(draw.integers(0, 256, (14, 14, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = draw.normal(0.0, 12.0, (height, width, 1))
    pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def make(folder: Path, images: int) -> int:
    """Write the images as folders and as parquet; returns their mean size in bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = [picture(index) for index in range(images)]
    _folders(folder / "folders", content)
    _folders(folder / "large", [picture(index, *LARGE) for index in range(images)])
    (folder / "parquet").mkdir()
    for split, part in (("train", content), ("test", content[:CLASSES])):
        labels = [index % CLASSES for index in range(len(part))]
        cells = [{"bytes": jpeg, "path": None} for jpeg in part]
        table = pa.table({"image": cells, "label": labels})
        pq.write_table(table, folder / "parquet" / f"{split}-0.parquet", row_group_size=100)
    return sum(map(len, content)) // images


def _folders(folder: Path, content: list[bytes]) -> None:
    for split, part in (("train", content), ("val", content[:CLASSES])):
        for index, jpeg in enumerate(part):
            place = folder / split / str(index % CLASSES)
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{index:06d}.jpg").write_bytes(jpeg)


def as_data(rows: Rows) -> Data:
    """A streaming data set, whatever its size."""
    split = StreamSplit(rows, torch.arange(len(rows)), 3, SIZE)
    names = tuple(map(str, range(CLASSES)))
    return Data("made", "Made", split, split, names, 3, SIZE, MEAN, STD)


class Plain(Dataset):
    """What one would write by hand."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int):
        image = np.asarray(self.rows.open(i).convert("RGB"))
        return torch.from_numpy(image.copy()).permute(2, 0, 1), int(self.rows.labels[i])


class ByHand(Plain):
    """The whole job, an image at a time."""

    def __getitem__(self, i: int):
        draw = random.Random(i)
        image = random_crop(self.rows.open(i).convert("RGB"), SIZE, draw)
        if draw.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)
        return pixels.sub_(self.mean).div_(self.std), int(self.rows.labels[i])

    mean = torch.tensor(MEAN).view(3, 1, 1)
    std = torch.tensor(STD).view(3, 1, 1)


def bare(rows: Rows) -> None:
    for i in range(len(rows)):
        np.asarray(rows.open(i).convert("RGB"))


def torchs(images: Dataset, workers: int) -> None:
    for _ in DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=workers):
        pass


def ours(rows: Rows, workers: int, augment: bool) -> None:
    options = {"batch_size": BATCH, "device": "cpu", "augment": augment, "workers": workers}
    for _ in Loader(as_data(rows), **options).train(0):
        pass


def decoded(rows: Rows, augment: bool) -> None:
    """What workers do, without the way to the trainer and its normalisation."""
    batches = Batches(as_data(rows).train, (0, 0) if augment else None, flip=True)
    for start in range(0, len(rows) - BATCH + 1, BATCH):
        batches.read(range(start, start + BATCH))


def fed(rows: Rows, workers: int) -> None:
    """All that cores do for a GPU: whole batches of bytes, in order, from workers."""
    batches = Batches(as_data(rows).train, (0, 0), flip=True)
    order = torch.randperm(len(rows)).split(BATCH)
    for _ in stream(batches, [b.tolist() for b in order], workers=workers, pin=False):
        pass


def trained(name: str, steps: int = 3) -> float:
    """Images a second and core that a network consumes: CPU time of training steps, the median."""
    model = models.build(name, num_classes=1000, in_channels=3, image_size=SIZE)
    opt = torch.optim.SGD(model.parameters(), lr=1e-3)
    images, labels = torch.randn(32, 3, SIZE, SIZE), torch.arange(32)
    seconds = []
    for _ in range(steps + 1):
        begin = time.process_time()
        cross_entropy(model(images), labels).backward()
        opt.step()
        opt.zero_grad()
        seconds.append(time.process_time() - begin)
    return len(labels) / statistics.median(seconds[1:])


def cpu_seconds() -> float:
    """Of this process and the workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        os.environ["CORRIDOR_CACHE"] = f"{place}/cache"
        folder = Path(place)
        size = make(folder, options.images)
        folders = find(f"imagefolder:{folder}/folders", None).read().train
        large = find(f"imagefolder:{folder}/large", None).read().train
        table = find(f"parquet:{folder}/parquet", None).read().train
        calls = {
            "bare PIL loop": lambda: bare(folders),
            "torch DataLoader, decode, 0 workers": lambda: torchs(Plain(folders), 0),
            "torch DataLoader, decode, 2 workers": lambda: torchs(Plain(folders), 2),
            "torch DataLoader, all by hand, 0 workers": lambda: torchs(ByHand(folders), 0),
            "torch DataLoader, all by hand, 2 workers": lambda: torchs(ByHand(folders), 2),
            "Loader, folders, 0 workers": lambda: ours(folders, 0, False),
            "Loader, folders, 2 workers": lambda: ours(folders, 2, False),
            "Loader, parquet, 2 workers": lambda: ours(table, 2, False),
            "Loader, folders, 0 workers, augmented": lambda: ours(folders, 0, True),
            "Loader, folders, 2 workers, augmented": lambda: ours(folders, 2, True),
            "Loader, parquet, 2 workers, augmented": lambda: ours(table, 2, True),
            "Loader up to the GPU, folders, 2 workers": lambda: fed(folders, 2),
            "Loader up to the GPU, parquet, 2 workers": lambda: fed(table, 2),
            "a worker's part, folders": lambda: decoded(folders, False),
            "a worker's part, folders, augmented": lambda: decoded(folders, True),
            "a worker's part, parquet, augmented": lambda: decoded(table, True),
            "500 x 375: bare PIL loop": lambda: bare(large),
            "500 x 375: Loader up to the GPU, 2 workers": lambda: fed(large, 2),
            "500 x 375: a worker's part, augmented": lambda: decoded(large, True),
        }
        taken: dict[str, list[float]] = {name: [] for name in calls}
        shuffler = random.Random(0)
        for index in range(options.rounds + 1):
            for name in shuffler.sample(list(calls), len(calls)):
                begin = cpu_seconds()
                calls[name]()
                if index:
                    taken[name].append(cpu_seconds() - begin)
    rows = []
    for name, seconds in taken.items():
        base = taken["bare PIL loop"]
        ratios = [a / b for a, b in zip(base, seconds, strict=True)]
        speed = options.images / statistics.median(seconds)
        row = {
            "case": name,
            "images_per_core_second": round(speed),
            "of_the_bare_loop": round(statistics.median(ratios), 3),
        }
        rows.append(row)
        print(f"{name:43s} {speed:6.0f} images / core second  {row['of_the_bare_loop']:.2f}")
    consumed = {name: round(trained(name), 1) for name in ("resnet18", "resnet50")}
    print("consumed by training steps, images / core second:", consumed)
    results = {"images": options.images, "bytes_per_image": size, "batch": BATCH}
    results["consumed_per_core_second"] = consumed
    write_results("image_loading", {**results, "rounds": options.rounds, "rows": rows})


if __name__ == "__main__":
    main()
