import errno
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import corridor
from corridor.train.config import Config
from corridor.train.folder import record
from corridor.train.folder.record import Recorder, Summary, environment, open_folder, read_run


def line(step, loss=1.0):
    return {"step": step, "epoch": 0, "loss": loss, "skipped": 0, "seconds": 0.5 * step}


def test_metrics_are_cut_at_the_checkpoint_and_no_step_appears_twice(tmp_path):
    first = Recorder(tmp_path, Config(), step=0)
    first.write([line(1), line(2), {"step": 2, "epoch": 0, "test_loss": 1.0}, line(3)])
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    second = Recorder(tmp_path, Config(), step=2)
    second.write([line(3, loss=7.0)])
    second.close()
    run = read_run(tmp_path)
    assert [(s["step"], s["loss"]) for s in run.steps] == [(1, 1.0), (2, 1.0), (3, 7.0)]
    assert [e["step"] for e in run.evaluations] == [2]


def test_non_finite_numbers_come_back_and_the_file_is_json(tmp_path):
    recorder = Recorder(tmp_path, Config(lr=math.inf), step=0)
    recorder.write([line(1, loss=math.inf), line(2, loss=math.nan)])
    recorder.close()
    record.write_summary(tmp_path, Summary("diverged", final_loss=math.nan))

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    for file in ("config.json", "summary.json"):
        json.loads((tmp_path / file).read_text(), parse_constant=refuse)
    for text in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(text, parse_constant=refuse)
    run = read_run(tmp_path)
    assert run.config.lr == math.inf
    assert run.steps[0]["loss"] == math.inf
    assert math.isnan(run.steps[1]["loss"])
    assert run.summary is not None
    assert math.isnan(run.summary["final_loss"])


def test_a_run_that_has_not_ended_has_no_summary(tmp_path):
    Recorder(tmp_path, Config(), step=0).close()
    assert read_run(tmp_path).summary is None


def test_where_there_is_no_run_it_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run in .*config\.json"):
        read_run(tmp_path)


def test_a_damaged_config_is_said(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not a JSON file"):
        read_run(tmp_path)


def test_what_a_process_killed_at_the_start_left_is_no_obstacle(tmp_path):
    (tmp_path / ".config.json.123.tmp").write_text("{")
    assert open_folder(tmp_path, Config(), resume=False) is None


def test_a_failure_keeps_what_is_known(tmp_path):
    recorder = Recorder(tmp_path, Config(), step=0)
    evaluation = {"step": 2, "epoch": 1, "test_loss": 1.0, "test_accuracy": 0.25}
    recorder.write([line(1), line(2), evaluation])
    recorder.close()
    record.write_failure(tmp_path, Config(), "RuntimeError: no")
    summary = record.read_summary(tmp_path)
    assert summary is not None
    assert (summary.status, summary.steps, summary.message) == ("failed", 2, "RuntimeError: no")
    assert summary.final_test_accuracy == 0.25
    assert open_folder(tmp_path, Config(), resume=True) is None  # it may go on


def test_the_environment_names_versions_and_machine_but_no_place_of_the_package():
    found = environment()
    assert found["corridor"] == corridor.__version__
    assert found["torch"] == torch.__version__
    assert found["cores"] >= 1
    assert found["threads"] == torch.get_num_threads()
    assert found["processor"]
    assert found["command"]
    package = Path(corridor.__file__).parent
    assert str(package) not in json.dumps(found)


def test_a_full_disk_is_told_with_the_file_and_what_to_do(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path, Config(), 0)

    def full(text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(recorder, "_file", SimpleNamespace(name="metrics.jsonl", write=full))
    with pytest.raises(OSError, match=r"cannot write metrics.jsonl \(No space left on device\)"):
        recorder.write([{"step": 1, "loss": 1.0}])
