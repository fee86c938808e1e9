"""Steps of optax' polyak_sgd for gradients and losses in a file: FOLDER F_STAR."""

import sys
from pathlib import Path

import numpy as np


def main(folder: Path, f_star: float) -> None:
    """Read ``points.npz`` in the folder and write ``updates.npz`` beside it."""
    import jax.numpy as jnp
    import optax

    rule = optax.polyak_sgd(max_learning_rate=0.8, f_min=f_star, eps=0.0, variant="sps+")
    found = {}
    with np.load(folder / "points.npz") as points:
        for loss in (name for name in points if name.endswith("/loss")):
            point = loss.removesuffix("loss")
            names = sorted(name for name in points if name.startswith(point) and name != loss)
            grads = [jnp.asarray(points[name]) for name in names]
            updates, _ = rule.update(grads, rule.init(grads), grads, value=float(points[loss]))
            found.update((name, np.asarray(u)) for name, u in zip(names, updates, strict=True))
    np.savez(folder / "updates.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
