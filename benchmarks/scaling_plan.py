"""What ResNet-50 on ImageNet should cost on 8, 64 and 512 GPUs: the model of docs/scaling.md.

    python benchmarks/scaling_plan.py

Arithmetic over stated assumptions, but for the network's own sizes, which are counted. Nothing here
was run on a GPU.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from common import write_results

from corridor import models

IMAGES, EPOCHS = 1_281_167, 90
HOST = 8  # GPUs
SPEED = {"mixed": 2470.0, "TF32": 938.0}  # images/s of one A100, NVIDIA's README
PUBLISHED_8 = {"mixed": 16621.0, "TF32": 7248.0}  # of eight, the same table
NVLINK = 230e9  # bytes/s a GPU, three quarters of NVLink 3's 300e9 each way
NETWORK = {"8 x 200 Gb/s": 8 * 25e9 * 0.8, "1 x 100 Gb/s": 12.5e9 * 0.8}  # bytes/s a host
LATENCY_HOST, LATENCY_NETWORK = 20e-6, 10e-6  # seconds: inside a host, and for each level of a tree
BACKWARD = 2 / 3  # of a step's computation, under which gradients travel


class Sizes(NamedTuple):
    """Counted on the network itself."""

    parameters: int
    saved_bytes: int  # for the backward pass of one image, in float32


def counted() -> Sizes:
    """ResNet-50 at 224 pixels; what two layers keep alike counts once."""
    model = models.build("resnet50", num_classes=1000, in_channels=3, image_size=224)
    held: dict[int, int] = {}

    def keep(t: torch.Tensor) -> torch.Tensor:
        held[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = model(torch.randn(2, 3, 224, 224)).sum()
    saved = sum(size for place, size in held.items() if place not in own)
    del loss
    return Sizes(sum(p.numel() for p in model.parameters()), saved // 2)


def exchange(gpus: int, size: int, network: float) -> float:
    """Seconds to add up so many bytes: rings inside the hosts, and one over the hosts."""
    inside, hosts = min(gpus, HOST), math.ceil(gpus / HOST)
    return (
        2 * (inside - 1) / inside * size / NVLINK
        + 2 * (hosts - 1) / hosts * size / network
        + latency(gpus)
    )


def latency(gpus: int) -> float:
    """Seconds of an all-reduce of a few numbers, by a tree over the hosts and back."""
    hosts = math.ceil(gpus / HOST)
    return LATENCY_HOST + 2 * math.ceil(math.log2(hosts)) * LATENCY_NETWORK if gpus > 1 else 0.0


def row(gpus: int, batch: int, network: str, sizes: Sizes, precision: str = "mixed") -> dict:
    """Time, memory and traffic of a run with so many images a step in all."""
    each = batch / gpus
    compute = each / SPEED[precision]
    gradients = exchange(gpus, 4 * sizes.parameters, NETWORK[network])
    seen = max(0.0, gradients - BACKWARD * compute)
    step = compute + seen + latency(gpus)
    memory = 4 * 4 * sizes.parameters + each * sizes.saved_bytes * (
        0.5 if precision == "mixed" else 1.0
    )
    return {
        "gpus": gpus,
        "batch": batch,
        "network": network if gpus > HOST else "NVLink",
        "step_ms": 1e3 * step,
        "gradients_ms": 1e3 * gradients,
        "not_hidden_ms": 1e3 * seen,
        "clr_percent": 100 * latency(gpus) / step,
        "images_per_second": batch / step,
        "minutes": IMAGES * EPOCHS / (batch / step) / 60,
        "memory_gb": memory / 1e9,
    }


def main() -> None:
    sizes = counted()
    print(sizes)
    for precision, speed in PUBLISHED_8.items():
        predicted = row(8, 2048, "1 x 100 Gb/s", sizes, precision)["images_per_second"]
        print(f"8 GPUs, {precision}: model {predicted:,.0f} images/s, published {speed:,.0f}")
    rows = [row(8, 2048, "1 x 100 Gb/s", sizes)]
    for network in NETWORK:
        rows += [row(64, 16384, network, sizes), row(512, 131072, network, sizes)]
        rows += [row(64, 8192, network, sizes), row(512, 8192, network, sizes)]
    for line in rows:
        print(
            f"| {line['gpus']} | {line['batch']:,} | {line['network']} | {line['step_ms']:.1f} "
            f"| {line['gradients_ms']:.1f} | {line['not_hidden_ms']:.1f} "
            f"| {line['clr_percent']:.2f} | {line['images_per_second']:,.0f} "
            f"| {line['minutes']:.1f} | {line['memory_gb']:.1f} |"
        )
    write_results("scaling_plan", {"sizes": sizes._asdict(), "rows": rows})


if __name__ == "__main__":
    main()
