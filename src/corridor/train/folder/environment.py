"""Describe where a run was made: versions, hardware, command line and commit."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import corridor


def usable_cores() -> int:
    """Return the number of processor cores that this process can use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """Return the machine and the software as JSON values."""
    import torch

    from corridor._reduce import world_size

    cuda = torch.cuda.is_available()
    return {
        "corridor": corridor.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git_commit": git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    """Return the model of the processor."""
    try:  # on Linux, the platform module does not know the model
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def git_commit(file: Path = Path(corridor.__file__)) -> str | None:
    """Return the commit of the checkout that tracks a file, with ``-dirty``; None if none does."""
    name = str(file.resolve())
    if _git(file, "ls-files", "--error-unmatch", name) is None:
        return None
    return _git(file, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(file: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(file.resolve().parent), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
