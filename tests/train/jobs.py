"""Work for the pool; workers import it."""

import os
import signal
import time
from pathlib import Path


def work(job, report):
    """Do what the job says: (what, folder)."""
    what, folder = job
    folder = Path(folder)
    count = len(list(folder.glob(f"{what}-*")))
    (folder / f"{what}-{count}").write_text(str(os.getpid()))
    if what == "raise":
        raise RuntimeError("this job\ncannot be done")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "die once" and count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "threads":
        import torch

        report(10 * torch.get_num_threads() + int(os.environ["OMP_NUM_THREADS"]))
    if what == "forever":
        time.sleep(600)
