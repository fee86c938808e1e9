import os
import signal
import subprocess
import sys
import time

import pytest
from tests.train.jobs import work
from tests.train.processes import environment

from corridor.train.sweep.pool import run_jobs


def outcome(folder, *jobs, processes=1):
    told = {}
    work_items = [(job, str(folder)) for job in jobs]
    ended = run_jobs(work, work_items, processes=processes, report=told.__setitem__)
    return dict(ended), told


def pids(folder, job):
    return [path.read_text() for path in sorted(folder.glob(f"{job}-*"))]


def test_every_fate_is_told_and_the_others_go_on(tmp_path):
    jobs = ("a", "raise", "die", "die once", "b", "threads")
    errors, told = outcome(tmp_path, *jobs, processes=2)
    assert errors[0] == errors[3] == errors[4] == errors[5] == ""
    assert errors[1] == "RuntimeError: this job cannot be done"
    assert errors[2] == "its process was killed by SIGKILL 2 times"
    assert len(pids(tmp_path, "die")) == 2
    assert len(pids(tmp_path, "die once")) == 2
    assert told == {5: 11.0}  # one thread, and no more for other libraries


def test_a_worker_lives_on_from_job_to_job(tmp_path):
    outcome(tmp_path, "a", "raise", "b")
    assert pids(tmp_path, "a") == pids(tmp_path, "raise") == pids(tmp_path, "b")
    assert pids(tmp_path, "a") != [str(os.getpid())]


def test_no_jobs_start_no_workers():
    assert list(run_jobs(work, [], processes=4, report=print)) == []


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_no_worker_outlives_its_parent(tmp_path, number):
    program = (
        "from tests.train.jobs import work\n"
        "from corridor.train.sweep.pool import run_jobs\n"
        "if __name__ == '__main__':\n"
        f"    list(run_jobs(work, [('forever', {str(tmp_path)!r})], processes=1, report=print))\n"
    )
    (tmp_path / "main.py").write_text(program)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")], env=environment(), stderr=subprocess.DEVNULL
    )
    wait_until(lambda: pids(tmp_path, "forever") not in ([], [""]))
    (worker,) = pids(tmp_path, "forever")
    parent.send_signal(number)
    parent.wait(30)
    wait_until(lambda: not alive(int(worker)))
    assert not alive(int(worker))
