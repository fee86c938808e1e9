"""Describe where a run was made: versions, hardware, command line and commit."""

import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
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
    """Return the model of the processor; on Linux, the platform module lacks it."""
    with suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def git_commit(file: Path = Path(corridor.__file__)) -> str | None:
    """Return the commit of a file's checkout, with ``-dirty``, or None for an untracked file."""
    file, answer = file.resolve(), ""
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    for arguments in (("ls-files", "--error-unmatch", file.name), describe):
        git = ["git", "-C", str(file.parent), *arguments]
        try:
            answer = subprocess.check_output(git, stderr=subprocess.DEVNULL, text=True, timeout=5)
        except (OSError, subprocess.SubprocessError):
            return None
    return answer.strip()
