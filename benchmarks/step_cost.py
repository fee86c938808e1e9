"""Cost of one optimizer step: CLR against torch.optim.SGD(fused=True), by parameter shapes.

    python benchmarks/step_cost.py [--rounds 41] [--threads 1]

Ratios are medians of paired rounds. What to expect by memory traffic (words a parameter): SGD
moves 3, CLR must read the gradient once more before it can step, 4 (1.33). A core limited by its
reads alone gives 3 against 2 (1.50). With momentum SGD reads 3 and CLR 6 (2.0): the gradient to
check it, then both to average, the average to measure it, then it and the parameters.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from common import interleave, paired_ratio, write_results

from corridor import CLR, models

Shapes = list[torch.Size]


def gpt2_small() -> Shapes:
    """GPT-2 small without its token embedding: 147 tensors, 85.8 million parameters."""
    width, layers, context = 768, 12, 1024
    block = [(width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,)]
    block += [(width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    return [torch.Size(s) for s in [(context, width), *block * layers, (width,), (width,)]]


def network(name: str, image_size: int, num_classes: int) -> Shapes:
    model = models.build(name, num_classes=num_classes, in_channels=3, image_size=image_size)
    return [p.shape for p in model.parameters()]


SHAPES: dict[str, Callable[[], Shapes]] = {
    "ResNet-18": lambda: network("resnet18", 32, 10),
    "ResNet-50": lambda: network("resnet50", 224, 1000),
    "GPT-2 small": gpt2_small,
}


def optimizers(shapes: Shapes) -> dict[str, Callable[[], Any]]:
    """A step of each optimizer on parameters of its own, small steps on fixed gradients."""
    loss = torch.tensor(1e-6)
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-9, fused=True),
        "sgd momentum": lambda p: torch.optim.SGD(p, lr=1e-9, momentum=0.9, fused=True),
        "clr": lambda p: CLR(p),
        "clr momentum": lambda p: CLR(p, momentum=0.9),
    }
    steps = {}
    for name, make in makers.items():
        params = [torch.nn.Parameter(torch.randn(s) * 0.01) for s in shapes]
        for p in params:
            p.grad = torch.randn_like(p) * 0.01
        opt = make(params)
        steps[name] = (lambda o=opt: o.step(loss=loss)) if "clr" in name else opt.step
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = []
    for name, make in SHAPES.items():
        shapes = make()
        seconds = interleave(optimizers(shapes), options.rounds)
        for ours, theirs in (("clr", "sgd"), ("clr momentum", "sgd momentum")):
            ratio = paired_ratio(seconds[ours], seconds[theirs])
            millis = 1e3 * sorted(seconds[theirs])[len(seconds[theirs]) // 2]
            rows.append(
                {
                    "shapes": name,
                    "tensors": len(shapes),
                    "parameters": sum(s.numel() for s in shapes),
                    "optimizer": ours,
                    "rival": f"torch {theirs} fused",
                    "rival_ms": round(millis, 3),
                    **ratio,
                }
            )
            print(
                f"{name:12s} {ours:13s} {ratio['ratio']:.2f} x fused SGD "
                f"[{ratio['lower_quartile']:.2f}, {ratio['upper_quartile']:.2f}]  ({millis:.2f} ms)"
            )
    write_results("step_cost", {"rounds": options.rounds, "rows": rows})


if __name__ == "__main__":
    main()
