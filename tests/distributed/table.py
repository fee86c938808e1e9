"""The table of layouts in docs/distributed.md.

python -m tests.distributed.table        runs all layouts and writes the page
"""

from __future__ import annotations

from pathlib import Path

from tests.distributed import layouts
from tests.distributed.layouts import LAYOUTS
from tests.distributed.ranks import Ranks
from tests.distributed.test_layouts import OPTIONS, largest_error
from tests.pages import write_table
from tests.relatives import RELATIVES

PAGE = Path(__file__).parents[2] / "docs" / "distributed.md"


def table(ranks: Ranks) -> str:
    """A row a layout: the largest errors against one process, and the collectives of a step."""
    lines = [
        "| Layout | processes | CLR | CLR, momentum | worst of the others | estimated bounds "
        "| collectives a step |",
        "|---|---|---|---|---|---|---|",
    ]
    errors: dict[str, dict[str, float]] = {}
    collectives: dict[str, int] = {}
    for options in OPTIONS.values():
        one = ranks.run(1, layouts.train, LAYOUTS["one process"], options)[0]
        for name, layout in list(LAYOUTS.items())[1:]:
            records = ranks.run(layout.world, layouts.train, layout, options)
            worst = errors.setdefault(name, dict.fromkeys(RELATIVES, 0.0))
            for record in records:
                for key in RELATIVES:
                    worst[key] = max(worst[key], largest_error(record[key], one[key]))
            collectives[name] = max(r.collectives for r in records[0].values())
    for name, worst in errors.items():
        rest = [
            v for k, v in worst.items() if k not in ("CLR", "CLR, momentum") and "estim" not in k
        ]
        estimated = max(v for k, v in worst.items() if "estim" in k)
        cells = [worst["CLR"], worst["CLR, momentum"], max(rest), estimated]
        numbers = " | ".join(f"{v:.0e}" for v in cells)
        lines.append(f"| {name} | {LAYOUTS[name].world} | {numbers} | {collectives[name]} |")
    return "\n".join(lines)


def main() -> None:
    """Write the table into the page, between its marks."""
    ranks = Ranks()
    write_table(PAGE, table(ranks))
    ranks.close()


if __name__ == "__main__":
    main()
