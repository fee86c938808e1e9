"""What a launcher such as torchrun tells a process through its environment."""

import os

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launched() -> bool:
    """Whether a launcher has made this one of several processes."""
    return all(name in os.environ for name in VARIABLES)


def restarted() -> bool:
    """Whether torchrun has started this process in place of one that failed."""
    return launched() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def speaks() -> bool:
    """Whether this process is the first of its run, the one that prints."""
    return not launched() or os.environ["RANK"] == "0"


def forget_launcher() -> None:
    """Make this process one of its own, whatever it inherited: a run of a sweep joins no other."""
    for name in VARIABLES:
        os.environ.pop(name, None)
