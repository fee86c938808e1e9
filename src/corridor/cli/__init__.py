"""Run the command line: parse, call one function, print."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line. Wrong input prints one line on stderr.

    Args:
        arguments: Words of the command line (default: the process's arguments).

    Returns:
        The exit status: 0 for success, 1 for a failed run or a refuted proof, 2 for wrong input.
        With CORRIDOR_DEBUG=1 the traceback of an error is printed as well.
    """
    try:
        # The imports are inside, because Ctrl-C during them must print one line, too.
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt as stop:
        from corridor.train.processes import prints

        status = 128 + getattr(stop, "number", signal.SIGINT)
        return _print_error(str(stop) or "interrupted", status) if prints() else status
    except BrokenPipeError:
        # A reader such as head has closed the pipe. Python must not fail on it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("CORRIDOR_DEBUG") == "1":
            sys.excepthook(type(error), error, error.__traceback__)
        message = str(error)
        if isinstance(error, OSError) and error.strerror and error.filename:
            message = f"{error.filename}: {error.strerror}"
        return _print_error(message)


def _run(words: list[str]) -> int:
    import warnings

    from corridor._extras import required

    with required("click", extra="lab"):
        import click

    from corridor.train.processes import ElsewhereError

    warnings.formatwarning = lambda message, *_, **__: f"corridor: warning: {message}\n"
    group = _group()
    try:
        # Not group.main(...), which turns a KeyboardInterrupt into an Abort without its message.
        with group.make_context("corridor", words) as context:
            group.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _print_error(error.format_message())
    except ElsewhereError:
        return 1
    return 0


def _group() -> Any:
    import click

    from corridor import __version__
    from corridor.cli import paper, sweep, theory, train

    @click.group(
        invoke_without_command=True,
        context_settings={"show_default": True},
        commands=[
            *(train.train, train.probe, train.export, sweep.sweep),
            *(paper.figure, paper.reproduce, paper.redraw, paper.verdicts, paper.report),
            *(theory.flow, theory.prove),
        ],
    )
    @click.version_option(__version__, message="%(prog)s %(version)s")
    @click.pass_context
    def corridor(context: click.Context) -> None:
        """Step sizes without tuning, from the corridor geometry of the loss surface."""
        if context.invoked_subcommand is None:
            print(context.get_help())

    return corridor


def _print_error(message: str, status: int = 2) -> int:
    print("corridor:", " ".join(message.split()), file=sys.stderr)
    return status
