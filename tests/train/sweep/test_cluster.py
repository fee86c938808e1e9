"""Sweeps on a Ray cluster of two nodes on this machine, with real processes and real signals."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from tests.train.processes import environment

from corridor.train.folder.record import read_run, read_summary
from corridor.train.sweep import cluster as module
from corridor.train.sweep.runs import Run, Workers, sweep

ray = pytest.importorskip("ray", reason='Ray is missing: pip install "corridor[sweeps]"')

SERIAL = Workers(pool="serial")
# About 2 seconds of training, in 100 steps, saved after each epoch of 5.
SLOW = {"model": "tests.train.small_networks:slow", "epochs": 20, "checkpoint_every": 5}


@pytest.fixture(scope="module")
def cluster():
    """Start a host with cores for two runs."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 2, "num_gpus": 0, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started
    started.shutdown()


def losses(folder):
    return [line["loss"] for line in read_run(folder).steps]


def statuses(folders):
    return [summary and summary.status for summary in map(read_summary, folders)]


def on(cluster, **options):
    return Workers(pool="ray", address=cluster.address, **options)


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def saved(folder):
    return list(folder.glob("checkpoints/step-*"))


def start_sweep(cluster, out, *arguments, **options):
    """Start the command line as a process; without a cluster it uses the local pool."""
    command = [sys.executable, "-m", "corridor", "sweep", "--out", str(out), *arguments]
    command += ["--engine", "ray", "--address", cluster.address] if cluster else []
    for name, value in {**SLOW, "batch_size": 256, **options}.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)


def tasks():
    """Return the process numbers of the workers that train a run."""
    import psutil

    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [""])[0].startswith("ray::_task")
    ]


def test_a_run_whose_worker_is_killed_goes_on_in_another(
    cluster, tmp_path, small, dies_once, capfd
):
    (whole,) = sweep([Run("a", small())], tmp_path / "here", processes=SERIAL, progress=False)
    (folder,) = sweep([Run("a", small(**dies_once))], tmp_path / "there", processes=on(cluster))
    assert statuses([folder]) == ["finished"]
    assert losses(folder) == losses(whole)
    assert "[1/1]" in capfd.readouterr().err


@pytest.mark.slow
def test_the_numbers_and_folders_are_those_of_this_process(cluster, tmp_path, small):
    runs = [
        Run("clr", small(model="tests.train.small_networks:noisy", momentum=0.9)),
        Run("broken", small(model="tests.train.small_networks:broken")),
    ]
    here = sweep(runs, tmp_path / "here", processes=SERIAL, progress=False)
    there = sweep(runs, tmp_path / "there", processes=on(cluster), progress=False)
    assert statuses(here) == statuses(there) == ["finished", "failed"]
    for one, other in zip(here, there, strict=True):
        assert losses(one) == losses(other)
        assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in other.iterdir())
    assert read_summary(here[1]).message == read_summary(there[1]).message


@pytest.mark.slow
def test_a_run_that_kills_every_worker_fails_and_the_others_go_on(cluster, tmp_path, small):
    diverges = small(model="mlp", optimizer="sgd", lr=1e6, epochs=200)
    runs = [Run("killed", small(model="tests.train.small_networks:killed")), Run("good", diverges)]
    folders = sweep(runs, tmp_path, processes=on(cluster, retries=1), progress=False)
    assert statuses(folders) == ["failed", "diverged"]
    message = read_summary(folders[0]).message
    assert message.startswith("its worker was lost 2 times (WorkerCrashedError")
    assert "\n" not in message


@pytest.mark.slow
def test_a_lost_host_takes_no_run_with_it(cluster, tmp_path):
    node = cluster.add_node(num_cpus=2)
    process = start_sweep(cluster, tmp_path / "out", "--seeds", "4")
    folders = [tmp_path / "out" / f"seed-{seed}" for seed in range(4)]
    wait_until(lambda: all(map(saved, folders)))  # two runs on either host
    cluster.remove_node(node, allow_graceful=False)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert statuses(folders) == ["finished"] * 4
    assert all(len(losses(folder)) == 100 for folder in folders)


@pytest.mark.slow
def test_a_killed_driver_loses_no_run_that_had_ended(cluster, tmp_path):
    process = start_sweep(cluster, tmp_path / "out", "--seeds", "4")
    folders = [tmp_path / "out" / f"seed-{seed}" for seed in range(4)]
    wait_until(lambda: any(statuses(folders)))
    process.kill()
    process.communicate()
    wait_until(lambda: not tasks())  # the cluster ends what nobody waits for
    ended = [f for f in folders if (f / "summary.json").exists()]
    before = [(f / "metrics.jsonl").stat().st_mtime_ns for f in ended]
    assert 1 <= len(ended) < 4
    again = start_sweep(cluster, tmp_path / "out", "--seeds", "4")
    assert "[4/4]" in again.communicate(timeout=60)[1]
    assert again.returncode == 0
    assert statuses(folders) == ["finished"] * 4
    assert [(f / "metrics.jsonl").stat().st_mtime_ns for f in ended] == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM])  # Ctrl-C: test_runs.py
def test_an_interrupted_driver_has_its_runs_saved(cluster, tmp_path, number):
    process = start_sweep(cluster, tmp_path / "out", "--grid", "seed=0")
    folder = tmp_path / "out" / "seed-0"
    wait_until(lambda: saved(folder))
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert said.splitlines()[-1].startswith("corridor: stopped; repeat the sweep into")
    # A slow machine may end the run before the signal reaches it.
    newest = max(int(path.name[5:]) for path in saved(folder))
    assert newest == len(losses(folder)) <= 100


@pytest.mark.slow
def test_a_lost_head_ends_the_sweep_and_the_same_command_goes_on(tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "3")  # a minute if nobody asks
    head = {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    folders = [tmp_path / f"seed-{seed}" for seed in range(2)]
    try:
        process = start_sweep(cluster, tmp_path, "--seeds", "2", epochs=120)
        wait_until(lambda: saved(folders[0]) or saved(folders[1]))
        cluster.head_node.kill_gcs_server()
        said = process.communicate(timeout=60)[1]
    finally:
        cluster.shutdown()
    assert process.returncode == 1
    assert "Failed to connect to GCS within 3 seconds" in said
    wait_until(lambda: not tasks())
    made = [len(losses(folder)) for folder in folders if saved(folder)]
    assert all(0 < steps < 600 for steps in made)
    again = start_sweep(None, tmp_path, "--seeds", "2", "--processes", "2", epochs=120)
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert statuses(folders) == ["finished"] * 2
    assert [len(losses(folder)) for folder in folders] == [600] * 2


@pytest.mark.slow
def test_four_runs_share_a_gpu_by_quarters(cluster, tmp_path, small):
    node = cluster.add_node(num_cpus=4, num_gpus=1)  # one GPU of Ray's bookkeeping
    quarter = small(model="tests.train.small_networks:quarter_of_a_gpu", steps=1)
    runs = [Run(f"run{i}", quarter) for i in range(4)]
    folders = sweep(runs, tmp_path, processes=on(cluster, gpus_per_run=0.25), progress=False)
    cluster.remove_node(node)
    assert statuses(folders) == ["finished"] * 4, read_summary(folders[0]).message


def test_more_gpus_than_a_host_has_are_refused(cluster, tmp_path, small):
    with pytest.raises(ValueError, match=r"at most 0, .* largest node, got 2"):
        sweep([Run("a", small())], tmp_path, processes=on(cluster, gpus_per_run=2))


@pytest.mark.parametrize("listening", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_cluster_that_is_not_there_is_one_line_in_time(tmp_path, small, monkeypatch, listening):
    monkeypatch.setattr(module, "ANSWER_SECONDS", 3.0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listening:
            other.listen()  # something that is no Ray, and says nothing
        address = f"127.0.0.1:{other.getsockname()[1]}"
        workers = Workers(pool="ray", address=address)
        with pytest.raises(ConnectionError, match=f"at {address} does not answer") as caught:
            sweep([Run("a", small())], tmp_path, processes=workers, progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()
