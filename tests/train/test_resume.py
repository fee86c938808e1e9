"""A run goes on with its own options, on its own data, in its own generators, or says why not."""

# Networks of others draw from NumPy's global generator.
# ruff: noqa: NPY002

import json
import random
import shutil

import numpy
import pytest
import torch
from PIL import Image

from corridor.train.config import Config
from corridor.train.folder import checkpoint
from corridor.train.folder.record import read_run
from corridor.train.loop import train
from corridor.train.revisit import measure_checkpoints

LINEAR = "tests.train.small_networks:linear"
DRAWING = "tests.train.small_networks:drawing"
QUICK = ["--model", LINEAR, "--batch-size", "256", "--no-progress"]


def losses(out):
    return [line["loss"] for line in read_run(out).steps]


def test_resume_reads_the_options_of_the_run(command, tmp_path):
    out = tmp_path / "a"
    assert command("train", "--out", out, *QUICK, "--lr", "0.5", "--epochs", 1)[0] == 0
    before = read_run(out).config
    status, _, err = command("train", "--resume", out, "--no-progress", "--epochs", 2)
    assert (status, err) == (0, "")
    after = read_run(out).config
    assert after == Config.from_dict({**before.to_dict(), "epochs": 2})
    assert len(losses(out)) == 10
    # The older form, with a folder that already holds a run.
    status, _, err = command("train", "--out", out, "--resume", "--no-progress", "--keep", 3)
    assert (status, err) == (0, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lr", "0.1"], "lr 0.5 -> 0.1"),
        (["--optimizer", "sgd"], "optimizer clr -> sgd"),
        (["--augment"], "augment False -> True"),
        (["--out", "{tmp}/b"], "--out must be the run to resume"),
    ],
)
def test_resume_refuses_options_that_change_numbers(refused, command, tmp_path, words, said):
    out = tmp_path / "a"
    assert command("train", "--out", out, *QUICK, "--lr", "0.5", "--steps", 1)[0] == 0
    assert said in refused("train", "--resume", "{tmp}/a", *words)


def test_epochs_cannot_lengthen_a_run_that_ends_by_steps(refused, tmp_path, small):
    train(small(steps=2), tmp_path, progress=False)
    said = refused("train", "--resume", "{tmp}", "--epochs", "3")
    assert "epochs must be 2 because the run ends after steps 2, got 3; give steps" in said


def test_a_digit_that_changed_in_the_config_is_noticed(refused, tmp_path, small):
    train(small(steps=2), tmp_path, progress=False)
    file = tmp_path / "config.json"
    right = file.read_text()
    for old, new in (('"seed": 0', '"seed": 1'), ('"batch_size": 256', '"batch_size": 257')):
        file.write_text(right.replace(old, new))
        name = new.split('"')[1]
        said = refused("train", "--resume", "{tmp}", "--steps", "4")
        assert f"config.json must be the config of the checkpoints, got {name} " in said
        with pytest.raises(ValueError, match=f"of the checkpoints, got {name}"):
            measure_checkpoints(tmp_path, batches=1)
    file.write_text(right.replace('"keep": 2', '"keep": 3'))
    assert train(small(steps=4, keep=3), tmp_path, resume=True, progress=False).steps == 4


@pytest.mark.parametrize("left", [0, 3])
@pytest.mark.parametrize("steps", [6, 8])
def test_a_run_that_has_lost_metrics_goes_on_and_says_so(command, tmp_path, small, left, steps):
    train(small(steps=6, eval_every=0), tmp_path, progress=False)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text("".join(lines[3 : 3 + left]))
    (tmp_path / "summary.json").unlink()
    status, out, err = command("train", "--resume", tmp_path, "--steps", steps, "--no-progress")
    kept = left + steps - 6
    assert (status, err) == (0, "")
    assert out.startswith(f"finished (metrics.jsonl has {kept} lines of {steps} steps): {steps} st")
    summary = read_run(tmp_path).summary
    assert (summary["steps"], summary["final_loss"]) == (steps, None)
    (tmp_path / "metrics.jsonl").unlink()
    assert command("train", "--resume", tmp_path)[::2] == (0, "")


def test_resume_of_no_run_is_refused(refused, tmp_path):
    assert "no run in" in refused("train", "--resume", "{tmp}/typo")
    assert not (tmp_path / "typo").exists()


def test_a_diverged_run_has_status_1_unless_torchrun_would_start_it_again(
    command, tmp_path, monkeypatch
):
    words = ["train", "--optimizer", "sgd", "--lr", "1e30", "--batch-size", "256", "--no-progress"]
    status, out, err = command(*words, "--model", "mlp", "--out", tmp_path / "a")
    assert (status, err) == (1, "")
    assert out.startswith("diverged (")
    assert command("train", "--resume", tmp_path / "a")[0] == 1
    monkeypatch.setattr("corridor.train.processes.launched", lambda: True)
    monkeypatch.setattr("corridor.train.processes.prints", lambda: False)
    monkeypatch.setattr("corridor.train.loop.restarted", lambda: False)
    for most, wanted in (("0", 1), ("3", 0)):
        monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", most)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
        assert command("train", "--resume", tmp_path / "a")[0] == wanted


def images(folder, classes, count=4):
    """Gray images, each class with its own brightness."""
    for number, name in enumerate(classes):
        for split in ("train", "val"):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(count):
                value = 40 * number + 5 * i
                Image.new("L", (8, 8), value).save(place / f"{i}.png")


def swap(folder):
    one, other = folder / "train" / "a" / "0.png", folder / "train" / "a" / "1.png"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def another_class(folder):
    shutil.copytree(folder / "train" / "a", folder / "train" / "c")
    shutil.copytree(folder / "val" / "a", folder / "val" / "c")


def fewer(folder):
    (folder / "train" / "a" / "0.png").unlink()


def another_test_image(folder):
    Image.new("L", (8, 8), 255).save(folder / "val" / "a" / "0.png")


def another_label(folder):
    (folder / "train" / "a" / "0.png").rename(folder / "train" / "b" / "9.png")


@pytest.mark.parametrize("change", [swap, another_class, fewer, another_test_image, another_label])
@pytest.mark.parametrize("streams", [False, True])
def test_resume_notices_that_the_data_changed(tmp_path, monkeypatch, change, streams):
    if streams:
        monkeypatch.setattr("corridor.data.assemble.MEMORY_LIMIT", 0)
    monkeypatch.setenv("CORRIDOR_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "images"
    images(folder, ["a", "b"])
    options = {"data": f"imagefolder:{folder}", "model": LINEAR, "batch_size": 4, "image_size": 8}
    train(Config(steps=1, **options), tmp_path / "run", progress=False)
    train(Config(steps=2, **options), tmp_path / "run", resume=True, progress=False)
    change(folder)
    for act in (
        lambda: train(Config(steps=3, **options), tmp_path / "run", resume=True, progress=False),
        lambda: measure_checkpoints(tmp_path / "run"),
    ):
        with pytest.raises(ValueError, match=r"data must be unchanged") as said:
            act()
        assert "\n" not in str(said.value)


def test_a_network_that_has_changed_is_one_line(tmp_path, small, monkeypatch):
    train(small(steps=1), tmp_path, progress=False)
    monkeypatch.setattr(
        "tests.train.small_networks.linear",
        lambda num_classes: torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.Linear(20, num_classes)
        ),
    )
    with pytest.raises(ValueError, match="model must be the checkpoint's model") as said:
        train(small(steps=2), tmp_path, resume=True, progress=False)
    assert "\n" not in str(said.value)


def test_networks_that_draw_from_python_and_numpy_repeat_and_resume(tmp_path, small):
    before = random.getstate(), numpy.random.get_state()[1].tolist()
    train(small(model=DRAWING), tmp_path / "a", progress=False)
    assert (random.getstate(), numpy.random.get_state()[1].tolist()) == before
    random.seed(7)
    numpy.random.seed(7)
    train(small(model=DRAWING, probe=1, eval_every=0), tmp_path / "b", progress=False)
    train(small(model=DRAWING, steps=3), tmp_path / "c", progress=False)
    random.random()
    train(small(model=DRAWING, steps=10), tmp_path / "c", resume=True, progress=False)
    assert losses(tmp_path / "a") == losses(tmp_path / "b") == losses(tmp_path / "c")
    train(small(model=DRAWING, seed=1), tmp_path / "d", progress=False)
    assert losses(tmp_path / "a")[0] != losses(tmp_path / "d")[0]


def test_a_probe_leaves_out_checkpoints_that_the_run_removes(tmp_path, small, monkeypatch):
    train(small(checkpoint_every=5), tmp_path, progress=False)
    read = checkpoint.read

    def late(path):
        if path.name.endswith("05"):
            shutil.rmtree(path)
        return read(path)

    monkeypatch.setattr(checkpoint, "read", late)
    file = measure_checkpoints(tmp_path, batches=1)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [10]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("metrics.jsonl", '{"hello": 1}\n', "must have numbers step, test_loss in every line"),
        ("metrics.jsonl", '{"step": "x", "loss": 1}\n', "in line 1; repair or remove"),
        ("metrics.jsonl", "[1, 2]\n", "is not a JSON object"),
        ("summary.json", '{"status": "finished", "steps": "ten"}', "steps must be int, got 'ten'"),
        ("summary.json", '{"status": "fine"}', "status must be one of finished"),
        ("summary.json", "[]", "must hold a JSON object"),
        ("config.json", '{"data": 3}', "data must be str, got 3"),
        ("config.json", '{"rate": 3}', "must have known fields only"),
    ],
)
def test_files_of_another_kind_are_one_line_with_their_name(
    refused, tmp_path, small, file, content, said
):
    train(small(steps=1), tmp_path, progress=False)
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=file) as caught:
        read_run(tmp_path)
    assert said in str(caught.value)
    assert file in refused("train", "--resume", "{tmp}", "--steps", "3")
    assert file in refused("probe", "{tmp}")


def test_an_f_star_above_losses_is_said_at_the_end(tmp_path, small):
    with pytest.warns(UserWarning, match="f_star 9 is above all of the first losses"):
        summary = train(small(f_star=9.0, steps=3), tmp_path / "a", progress=False)
    assert summary.status == "finished"
    assert "f_star 9 is above the loss of 3 of 3 steps" in summary.message
    summary = train(small(f_star=0.5), tmp_path / "b", progress=False)
    below = sum(loss < 0.5 for loss in losses(tmp_path / "b"))
    assert below > 0
    assert f"loss of {below} of 10 steps" in summary.message
    assert train(small(steps=3), tmp_path / "c", progress=False).message == ""


def streamed_images(tmp_path, monkeypatch, damaged):
    """Make an image folder that streams; return its options and one damaged file of its tests."""
    monkeypatch.setattr("corridor.data.assemble.MEMORY_LIMIT", 0)
    monkeypatch.setenv("CORRIDOR_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "images"
    for place, split in enumerate(("train", "val")):
        for number, name in enumerate("ab"):
            (folder / split / name).mkdir(parents=True)
            for i in range(70):
                level = i + 80 * place + 100 * number
                Image.new("L", (8, 8), level).save(folder / split / name / f"{i:02}.png")
    path = folder / "val" / "a" / f"{damaged:02}.png"
    options = {"data": f"imagefolder:{folder}", "model": LINEAR, "batch_size": 4, "image_size": 8}
    return options, path


@pytest.mark.parametrize("options", [{"epochs": 2}, {"steps": 20}])
def test_an_evaluation_that_fails_costs_no_step_and_is_made_by_the_next_run(
    tmp_path, monkeypatch, options
):
    more, path = streamed_images(tmp_path, monkeypatch, damaged=1)
    config = Config(**options, **more)
    train(config, tmp_path / "whole", progress=False)
    content = path.read_bytes()
    path.write_bytes(content[:40])
    with pytest.raises(OSError, match=f"{path} must be an image"):
        train(config, tmp_path / "run", progress=False)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()]
    path.write_bytes(content)
    train(config, tmp_path / "run", resume=True, progress=False)
    for part in ("steps", "evaluations"):
        whole, found = (
            [
                {k: v for k, v in line.items() if k != "seconds"}
                for line in getattr(read_run(tmp_path / name), part)
            ]
            for name in ("whole", "run")
        )
        assert found == whole


def test_a_damaged_image_in_the_sample_of_the_data_is_named(tmp_path, monkeypatch):
    more, path = streamed_images(tmp_path, monkeypatch, damaged=0)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(OSError, match=f"{path} must be an image"):
        train(Config(epochs=1, **more), tmp_path / "run", progress=False)
