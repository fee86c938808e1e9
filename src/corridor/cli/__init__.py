"""The command line: parse, call one function, print."""

import inspect
import os
import signal
import sys
import traceback
import warnings
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import Annotated, Any

try:
    import typer
except ModuleNotFoundError:
    print("corridor: the command line needs typer; pip install 'corridor[lab]'", file=sys.stderr)
    raise SystemExit(2) from None

import corridor
from corridor import cli_sweep
from corridor.train.config import Config
from corridor.train.processes.launch import speaks
from corridor.train.processes.signals import ElsewhereError

# Old versions of typer use click's error class, new ones carry their own copy of it.
UsageMistake: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    add_completion=False,
    help="Step sizes without tuning, from the corridor geometry of the loss surface.",
)


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        print(f"corridor {corridor.__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def _train(out: Path, resume: bool, progress: bool, **options: Any) -> None:
    """Train a network, and write all about it to a folder."""
    from corridor.train.loop import train

    summary = train(Config(**options), out, resume=resume, progress=progress)
    if speaks():
        _print_run(out, summary)


def _config_options() -> list[inspect.Parameter]:
    """An option for every field of the config; its help is the field's."""
    return [
        inspect.Parameter(
            entry.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=entry.default,
            annotation=Annotated[
                entry.type,
                typer.Option(
                    help=entry.metadata["help"],
                    rich_help_panel=entry.metadata["group"],
                    show_default=entry.default is not None,
                ),
            ],
        )
        for entry in fields(Config)
    ]


def _run_options() -> list[inspect.Parameter]:
    keyword = inspect.Parameter.KEYWORD_ONLY
    flags = {
        "resume": (False, "Continue the run found in the folder."),
        "progress": (True, "Show progress."),
    }
    return [
        inspect.Parameter(
            "out", keyword, annotation=Annotated[Path, typer.Option(help="Folder of the run.")]
        ),
        *(
            inspect.Parameter(
                name, keyword, default=default, annotation=Annotated[bool, typer.Option(help=help)]
            )
            for name, (default, help) in flags.items()
        ),
    ]


def _with_parameters(function: Any, parameters: list[inspect.Parameter]) -> Any:
    """Give a function the signature that typer is to read."""
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function


app.command("train")(_with_parameters(_train, _run_options() + _config_options()))


app.command("sweep")(_with_parameters(cli_sweep.run, cli_sweep.options(_config_options())))


OVERRIDES = (
    "data",
    "data_dir",
    "image_size",
    "train_limit",
    "model",
    "width",
    "batch_size",
    "epochs",
)


def _figure_options() -> list[inspect.Parameter]:
    """Options that all figures share; those of the config replace a recipe's own where given."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared: dict[str, tuple[Any, Any, str]] = {
        "scale": (str, "demo", "demo (minutes), laptop (CIFAR-10) or paper."),
        "out": (Path, Path("out"), "Folder of runs, figures and report."),
        "seeds": (int, 3, "Seeds of every setting."),
    }
    replaced = {
        p.name: (p.annotation.__args__[0] | None, None, p.annotation.__metadata__[0].help)
        for p in _config_options()
        if p.name in OVERRIDES
    }
    options = [
        inspect.Parameter(
            name,
            keyword,
            default=default,
            annotation=Annotated[
                kind,
                typer.Option(help=text, rich_help_panel="Replace" if name in replaced else None),
            ],
        )
        for name, (kind, default, text) in {**shared, **replaced}.items()
    ]
    return options + cli_sweep.engine_options()


def _make_figure(number: int, scale: str, out: Path, seeds: int, **options: Any) -> list[str]:
    """Train what a figure needs, draw it, and tell its claims; returns their verdicts."""
    workers = cli_sweep.take_workers(options)
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    from corridor.paper.figures import figure

    module = figure(number)
    print(f"\nFigure {number}. {module.TITLE}", flush=True)
    given = {k: v for k, v in options.items() if v is not None}
    manifest = module.draw(module.compute(out, scale, range(seeds), processes=workers, **given))
    for claim in manifest.claims:
        print(f"{claim.verdict}: {claim.claim} ({claim.measured}) [{claim.setting}]")
    return [claim.verdict for claim in manifest.claims]


def _figure(number: int, out: Path, **options: Any) -> None:
    """Make one figure of the paper."""
    _make_figure(number, out=out, **options)
    print(f"figure {number} in {out / 'figures'}")


def _reproduce(out: Path, keep: Path | None, **options: Any) -> None:
    """Make all figures of the paper, and the report."""
    from corridor.paper import report
    from corridor.paper.figures import FIGURES
    from corridor.paper.report import pages as committed

    ends = [verdict for number in FIGURES for verdict in _make_figure(number, out=out, **options)]
    if keep is not None:
        committed.keep(out, keep)
    print(f"\nOf {len(ends)} claims {report.tally(ends)}.")
    print(f"report in {report.build(out)}")


_keep = inspect.Parameter(
    "keep",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None, typer.Option(help="Folder to copy the numbers behind the figures to.")
    ],
)
_number = inspect.Parameter(
    "number",
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    annotation=Annotated[int, typer.Argument(help="The figure's number in the paper.")],
)
app.command("figure")(_with_parameters(_figure, [_number, *_figure_options()]))
# Some figures compare batch sizes.
_all_figures = [option for option in _figure_options() if option.name != "batch_size"]
app.command("reproduce")(_with_parameters(_reproduce, [*_all_figures, _keep]))


@app.command()
def probe(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    level: Annotated[float, typer.Option(help="Shade where 2 rho is below.")] = 0.5,
    batches: Annotated[int, typer.Option(help="Training batches to measure a checkpoint on.")] = 10,
) -> None:
    """Draw the geometry of a run, from its probed steps or else its checkpoints."""
    from corridor.paper.view import view

    found = view(run, level=level, batches=batches)
    print(found.summary(level))
    print(f"drawn in {found.image}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    target: Annotated[Path, typer.Argument(help="File to write, such as weights.pt.")],
) -> None:
    """Write a run's newest checkpoint to one plain torch file."""
    from corridor.train.folder.checkpoint import export

    print(f"checkpoint in {export(run, target)}")


@app.command()
def redraw(
    results: Annotated[Path, typer.Argument(help="Folder of kept numbers, results/laptop.")],
    out: Annotated[Path, typer.Option(help="Folder of figures and report.")] = Path("out"),
) -> None:
    """Draw all figures, and the report, from kept numbers, without training."""
    from corridor.paper import report
    from corridor.paper.report import pages as committed

    committed.redraw(results, out)
    print(f"report in {report.build(out)}")


@app.command()
def verdicts(
    results: Annotated[Path, typer.Argument(help="Folder of kept numbers.")] = Path("results"),
    page: Annotated[Path, typer.Option(help="Page to write.")] = Path("docs/results.md"),
    readme: Annotated[
        Path | None, typer.Option(help="README whose figure 2 is to be written, too.")
    ] = None,
) -> None:
    """Write the page of verdicts from kept numbers; with --readme figure 2 of a README, too."""
    from corridor.paper import readme as front
    from corridor.paper.report import pages as committed
    from corridor.train.folder.files import atomic

    text = committed.verdicts(results).encode()
    with atomic(page) as file:
        file.write(text)
    print(f"verdicts in {page}")
    if readme is not None:
        front.write(results, readme)
        print(f"figure 2 in {readme}")


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Folder of figures.")] = Path("out"),
) -> None:
    """Make the report again, from the figures that are there."""
    from corridor.paper import report

    print(f"report in {report.build(out)}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def flow(
    context: typer.Context,
    surface: Annotated[str, typer.Argument(help="A name such as cone, or a formula in x, y, ...")],
    start: Annotated[
        float, typer.Option(help="Where to start: all coordinates, as in --start 3 4.")
    ],
    method: Annotated[
        str, typer.Option(help="gradient_flow, gradient_descent, clr, heavy_ball, rk4, heun, ...")
    ] = "gradient_flow",
    time: Annotated[float, typer.Option(help="How long the gradient flow is followed.")] = 1.0,
    step: Annotated[float, typer.Option(help="Step size of the other methods.")] = 0.1,
    steps: Annotated[int, typer.Option(help="How many steps they take.")] = 10,
    momentum: Annotated[float, typer.Option(help="Of the heavy ball.")] = 0.9,
    tolerance: Annotated[float, typer.Option(help="Of the gradient flow.")] = 1e-9,
    json: Annotated[bool, typer.Option("--json", help="Print all of the path as JSON.")] = False,
) -> None:
    """Follow a method down a surface, and compare it with the gradient flow."""
    from corridor.theory import telling

    told = telling.follow(
        surface,
        [start, *_numbers(context.args)],
        method,
        time=time,
        step=step,
        steps=steps,
        momentum=momentum,
        tolerance=tolerance,
    )
    print(telling.as_json(told, surface) if json else "\n".join(telling.lines(told, surface)))


def _numbers(words: list[str]) -> list[float]:
    """The coordinates that follow the first one of --start."""
    found = []
    for word in words:
        try:
            found.append(float(word))
        except ValueError:
            raise ValueError(f"no such option or number: {word}") from None
    return found


@app.command(context_settings={"ignore_unknown_options": True})
def prove(
    expression: Annotated[str, typer.Argument(help='A formula such as "sqrt(x**2 + y**2)".')],
    domain: Annotated[
        list[str] | None, typer.Option(help='A condition that holds, such as "x > 0".')
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds to try for.")] = 20.0,
) -> None:
    """Prove or refute that a formula is a corridor.

    Exit status 0: a corridor; 1: not one; 2: it could not be decided or read.
    """
    found = corridor.prove(expression, domain=domain, time_limit=time_limit)
    print(found)
    if not found:
        raise typer.Exit(2 if found.verdict == "undecided" else 1)


def _print_run(out: Path, summary: Any) -> None:
    """Two or three lines on how a run ended."""
    from corridor.train.folder.record import read_run

    speed = f"{summary.images_per_second:,.0f} images/s"
    reason = f" ({summary.message})" if summary.message else ""
    print(f"{summary.status}{reason}: {summary.steps} steps, {summary.seconds:.1f} s, {speed}")
    test = ""
    if summary.final_test_accuracy is not None:
        test = f"test accuracy {summary.final_test_accuracy:.2%} "
        test += f"(best {summary.best_test_accuracy:.2%}), "
    sizes = [line["effective_lr"] for line in read_run(out).steps]
    spread = f"{min(sizes):.3g} to {max(sizes):.3g}, median {median(sizes):.3g}"
    skipped = f", {summary.skipped} steps skipped" if summary.skipped else ""
    print(f"final loss {summary.final_loss:.4g}, {test}step size {spread}{skipped}")
    print(f"run folder {out}")


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; wrong input is one line on stderr and status 2.

    Args:
        arguments: Those of the process by default.

    Returns:
        The exit status. With CORRIDOR_DEBUG=1 errors raise instead.
    """
    warnings.formatwarning = lambda message, *_, **__: f"corridor: warning: {message}\n"
    command = typer.main.get_command(app)
    try:
        with command.make_context("corridor", sys.argv[1:] if arguments is None else arguments) as (
            context
        ):
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except UsageMistake as error:
        return _complain(error.format_message())
    except (KeyboardInterrupt, typer.Abort) as stop:
        status = 128 + getattr(stop, "number", signal.SIGINT)
        return _complain(str(stop) or "interrupted", status) if speaks() else status
    except ElsewhereError:
        return 1
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("CORRIDOR_DEBUG") == "1":
            traceback.print_exc()
        return _complain(_one_line(error))
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _complain(message: str, status: int = 2) -> int:
    print("corridor:", " ".join(message.split()), file=sys.stderr)
    return status
