"""Run the held-out half, and note when and for which commit. Nothing is chosen on it.

python -m benchmarks.practice.run_held_out --out runs/practice --processes 2

Without --entrants the rivals run, and no form of ours. A rate that is calibrated over all problems
comes from the development half.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.practice.run import chosen, parser, run_all

from corridor.train.folder.files import write_json
from corridor.train.folder.record import git_commit

LOG = Path(__file__).parent / "held_out_log.json"
RIVALS = ("yardstick", "tuned", "rival", "paper")


def log() -> list[dict[str, Any]]:
    """Return the entries of the log, oldest first."""
    return json.loads(LOG.read_text(encoding="utf-8")) if LOG.exists() else []


def note(entrants: list[str], scale: int, runs: int) -> None:
    """Add a run of this half to the log."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"started": started, "commit": git_commit(), "entrants": entrants}
    write_json(LOG, [*log(), {**entry, "scale": scale, "runs": runs}])


def main() -> None:
    options = parser(__doc__).parse_args()
    queue = chosen(options, "held_out", RIVALS)
    note([one.name for one in queue.entrants], options.scale_steps, len(queue.heap))
    errors = run_all(queue, options.out / "held_out.jsonl", options.processes)
    raise SystemExit(1 if errors else 0)


if __name__ == "__main__":
    main()
