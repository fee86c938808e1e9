"""Train one network with several processes, whose launcher is found without torch."""

import os

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launched() -> bool:
    """Return True if a launcher started this process as one of several."""
    return all(name in os.environ for name in VARIABLES)


def restarted() -> bool:
    """Return True if torchrun started this process in place of a failed one."""
    return launched() and _elastic("RESTART_COUNT") > 0


def restarts_left() -> bool:
    """Return True if torchrun would start all processes again after a status other than 0."""
    return launched() and _elastic("RESTART_COUNT") < _elastic("MAX_RESTARTS")


def prints() -> bool:
    """Return True on rank 0, the process that prints."""
    return not launched() or os.environ["RANK"] == "0"


def forget_launcher() -> None:
    """Remove a launcher's variables, so that a run in this process joins no other process."""
    for name in VARIABLES:
        os.environ.pop(name, None)


def _elastic(name: str) -> int:
    return int(os.environ.get(f"TORCHELASTIC_{name}", "0"))
