"""Define the commands on the paper's figures: make, draw again, report verdicts."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from corridor.cli.options import PATH, Command, Given, config_options, seeds_below
from corridor.cli.sweep import worker_options
from corridor.train.sweep.runs import Workers

if TYPE_CHECKING:
    from corridor.paper.results import Plan

REPLACED = (
    *("data", "data_dir", "image_size", "train_limit"),
    *("model", "width", "epochs", "batch_size"),
)


def _options(replaced: tuple[str, ...]) -> list[click.Parameter]:
    """Return the options of all figures; the config's options replace a recipe's."""
    scales = "demo (minutes), laptop (CIFAR-10) or paper."
    out = "Folder of runs, figures and report."
    return [
        click.Option(["--scale"], default="demo", help=scales),
        click.Option(["--out"], type=PATH, default=Path("out"), help=out),
        click.Option(["--seeds"], default=3, help="Number of seeds per setting."),
        *config_options(replaced, heading="Replace an option of the recipe"),
        *worker_options(),
    ]


def _plan(out: Path, scale: str, seeds: int, options: Given, workers: Given) -> "Plan":
    where, chosen = Workers(**workers), seeds_below(seeds)
    from corridor.paper.results import Plan

    return Plan(out, scale, chosen, where, options)


def _make_figure(number: int, plan: "Plan") -> list[str]:
    """Train what a figure needs, draw it, print its claims and return their verdicts."""
    from corridor.paper.figures import figure

    made = figure(number)
    print(f"\nFigure {number}. {made.title}", flush=True)
    manifest = made.draw(made.compute(plan))
    for claim in manifest.claims:
        print(f"{claim.verdict}: {claim.claim} ({claim.measured}) [{claim.setting}]")
    return [claim.verdict for claim in manifest.claims]


@click.command(cls=Command, params=_options(REPLACED))
@click.argument("number", type=int)
def figure(number: int, out: Path, scale: str, seeds: int, options: Given, workers: Given) -> None:
    """Make one figure of the paper; NUMBER is its number there."""
    _make_figure(number, _plan(out, scale, seeds, options, workers))
    print(f"figure {number} in {out / 'figures'}")


# Some figures compare batch sizes, so that one batch size for all would be wrong.
@click.command(cls=Command, params=_options(REPLACED[:-1]))
@click.option("--keep", type=PATH, help="Folder to copy the figures' numbers to.")
def reproduce(
    out: Path, scale: str, seeds: int, keep: Path | None, options: Given, workers: Given
) -> None:
    """Make all figures of the paper, and the report."""
    plan = _plan(out, scale, seeds, options, workers)
    from corridor.paper import figures, report

    for made in figures.FIGURES.values():  # before the hours of the first figures
        made.check(plan)
    ends = [verdict for number in figures.FIGURES for verdict in _make_figure(number, plan)]
    if keep is not None:
        figures.keep(out, keep)
    print(f"\nOf {len(ends)} claims {report.tally(ends)}.")
    print(f"report in {report.build(out)}")


@click.command()
@click.argument("results", type=PATH)
@click.option("--out", type=PATH, default=Path("out"), help="Folder of figures and report.")
def redraw(results: Path, out: Path) -> None:
    """Draw all figures, and the report, from kept numbers, without training.

    RESULTS is the folder of the kept numbers, such as results/laptop.
    """
    from corridor.paper import figures, report

    figures.redraw(results, out)
    print(f"report in {report.build(out)}")


@click.command()
@click.argument("results", type=PATH, default=Path("results"))
@click.option("--page", type=PATH, default=Path("docs/results.md"), help="Page to write.")
@click.option("--readme", type=PATH, help="README whose block on figure 2 is to be written too.")
def verdicts(results: Path, page: Path, readme: Path | None) -> None:
    """Write the page of verdicts from the kept numbers in RESULTS [default: results]."""
    from corridor._atomic import atomic
    from corridor.paper.report import pages

    text = pages.verdicts(results).encode()
    with atomic(page) as file:
        file.write(text)
    print(f"verdicts in {page}")
    if readme is not None:
        pages.write_readme(results, readme)
        print(f"figure 2 in {readme}")


@click.command()
@click.argument("out", type=PATH, default=Path("out"))
def report(out: Path) -> None:
    """Write the report again, from the figures in OUT [default: out]."""
    from corridor.paper import report

    print(f"report in {report.build(out)}")
