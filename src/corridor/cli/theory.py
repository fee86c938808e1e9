"""Commands on surfaces and formulas: follow a path, prove a corridor."""

from __future__ import annotations

from collections.abc import Sequence

import click

FORMULA = {"allow_extra_args": True, "ignore_unknown_options": True}


@click.command(context_settings=FORMULA)
@click.argument("surface")
@click.option(
    "--start", type=float, required=True, help="Coordinates of the start, as in --start 3 4."
)
@click.option(
    "--method",
    default="gradient_flow",
    show_default=True,
    help="gradient_flow, gradient_descent, clr, heavy_ball, rk4, heun, ...",
)
@click.option("--time", default=1.0, show_default=True, help="Time of the gradient flow.")
@click.option("--step", default=0.1, show_default=True, help="Step size of the other methods.")
@click.option("--steps", default=10, show_default=True, help="Number of steps of these methods.")
@click.option("--momentum", default=0.9, show_default=True, help="Momentum of the heavy ball.")
@click.option(
    "--tolerance", default=1e-9, show_default=True, help="Tolerance of the gradient flow."
)
@click.option("--json", is_flag=True, help="Print the whole path as JSON.")
@click.pass_context
def flow(
    context: click.Context,
    surface: str,
    start: float,
    method: str,
    time: float,
    step: float,
    steps: int,
    momentum: float,
    tolerance: float,
    json: bool,
) -> None:
    """Follow a method down a surface, and compare it with the gradient flow.

    SURFACE is a name such as cone, or a formula in x, y, ...
    """
    from corridor.theory import telling

    found = telling.follow(
        surface,
        [start, *_numbers(context.args)],
        method,
        time=time,
        step=step,
        steps=steps,
        momentum=momentum,
        tolerance=tolerance,
    )
    print(telling.as_json(found) if json else telling.as_text(found))


def _numbers(words: Sequence[str]) -> list[float]:
    """Return the coordinates that follow the first number of --start."""
    found = []
    for word in words:
        try:
            found.append(float(word))
        except ValueError:
            raise ValueError(
                f"no such option or coordinate: {word}; see corridor flow --help"
            ) from None
    return found


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("expression")
@click.option("--domain", multiple=True, help='A condition that holds, such as "x > 0".')
@click.option("--time-limit", default=20.0, show_default=True, help="Seconds to try for.")
def prove(expression: str, domain: Sequence[str], time_limit: float) -> None:
    """Prove or refute that a formula such as "sqrt(x**2 + y**2)" is a corridor.

    Exit status 0: a corridor. 1: not a corridor. 2: undecided, or the formula cannot be read.
    """
    from corridor.surfaces import prove

    found = prove(expression, domain=list(domain) or None, time_limit=time_limit)
    print(found)
    if not found:
        raise click.exceptions.Exit(2 if found.verdict == "undecided" else 1)


COMMANDS = (flow, prove)
