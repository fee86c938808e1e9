"""Cost of one optimizer step: ours and the published ones against torch's fused optimizers.

    python benchmarks/step_cost.py [--rounds 31] [--threads 1] [--only "ResNet-18"]

Ratios are medians of paired rounds of CPU time. What to expect by memory traffic (words a
parameter): SGD moves 3, a Polyak step must read the gradient once more before it can move, 4
(1.33). A core limited by its reads alone gives 3 against 2 (1.50). With momentum SGD reads 3, and
CLR 5 (1.67): gradient and average to measure the new average, then both and the parameters. A
heavy ball whose step size varies moves in three passes. In Adam's metric gradient and both averages
are read once to measure and once to move: 7 reads against 4, and the arithmetic of Adam twice.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import momo
import momsps
import sps_safe
import torch
from common import interleave, paired_ratio, write_results

from corridor import CLR, models
from corridor.optim import NGN, AdaSPS, MoMo, MoMoAdam, SPSMax

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


Maker = Callable[..., Any]
RIVALS: dict[str, Maker] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-9, fused=True),
    "SGD momentum": lambda p: torch.optim.SGD(p, lr=1e-9, momentum=0.9, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-9, weight_decay=0.0, fused=True),
}
OURS: dict[str, Maker] = {
    "CLR": CLR,
    "SPSMax": SPSMax,
    "NGN": NGN,
    "AdaSPS": AdaSPS,
    "CLR momentum": lambda p: CLR(p, momentum=0.9),
    "MoMo": MoMo,
    "NGN momentum": lambda p: NGN(p, momentum=0.9),
    "MoMoAdam": MoMoAdam,
}
PUBLISHED: dict[str, Maker] = {
    "SPS_safe (sps-safe)": sps_safe.SPS_safe,
    "Momo (momo-opt)": momo.Momo,
    "MomSPS (MomSPS)": momsps.MomSPS,
    "MomoAdam (momo-opt)": momo.MomoAdam,
}
RIVAL_OF = {
    **dict.fromkeys(("CLR", "SPSMax", "NGN", "AdaSPS", "SPS_safe (sps-safe)"), "SGD"),
    **dict.fromkeys(("CLR momentum", "MoMo", "NGN momentum"), "SGD momentum"),
    **dict.fromkeys(("Momo (momo-opt)", "MomSPS (MomSPS)"), "SGD momentum"),
    **dict.fromkeys(("MoMoAdam", "MomoAdam (momo-opt)"), "AdamW"),
}


def optimizers(shapes: Shapes) -> dict[str, Callable[[], Any]]:
    """A step of each optimizer on parameters of its own, small steps on fixed gradients."""
    loss = torch.tensor(1e-6)
    steps = {}
    for name, make in {**RIVALS, **OURS, **PUBLISHED}.items():
        params = [torch.nn.Parameter(torch.randn(s) * 0.01) for s in shapes]
        for p in params:
            p.grad = torch.randn_like(p) * 0.01
        opt = make(params)
        steps[name] = opt.step if name in RIVALS else lambda o=opt: o.step(loss=loss)
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=SHAPES, help="these networks; all need 20 GB")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = []
    for name, make in SHAPES.items():
        if name not in (options.only or SHAPES):
            continue
        shapes = make()
        seconds = interleave(optimizers(shapes), options.rounds)
        for ours, theirs in RIVAL_OF.items():
            ratio = paired_ratio(seconds[ours], seconds[theirs])
            millis = 1e3 * sorted(seconds[theirs])[len(seconds[theirs]) // 2]
            rows.append(
                {
                    "shapes": name,
                    "tensors": len(shapes),
                    "parameters": sum(s.numel() for s in shapes),
                    "optimizer": ours,
                    "rival": f"torch {theirs}, fused",
                    "rival_ms": round(millis, 3),
                    **ratio,
                }
            )
            print(
                f"{name:12s} {ours:22s} {ratio['ratio']:.2f} x fused {theirs} "
                f"[{ratio['lower_quartile']:.2f}, {ratio['upper_quartile']:.2f}]  ({millis:.2f} ms)"
            )
    write_results("step_cost", {"rounds": options.rounds, "rows": rows})


if __name__ == "__main__":
    main()
