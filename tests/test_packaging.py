"""The wheel and the sdist hold what they should, and the core needs torch alone."""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import corridor

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(dist: Path):
    names = zipfile.ZipFile(next(dist.glob("*.whl"))).namelist()
    assert "corridor/py.typed" in names
    assert "corridor/paper/report/template.html" in names
    assert "corridor/paper/report/interactive.html" in names
    assert "corridor/train/options.toml" in names
    assert "corridor/paper/report/verdicts.md" in names
    assert "corridor/paper/recipes.toml" in names
    assert "corridor/paper/drawing/figures.mplstyle" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith(("corridor/", "corridor-")) for name in names)


def test_the_sdist_holds_the_tests(dist: Path):
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = archive.getnames()
    assert any(name.endswith("tests/optim/test_safety.py") for name in names)


def test_importing_corridor_imports_none_of_what_its_calls_need():
    wanted = "torch", "numpy", "scipy", "matplotlib", "plotly", "click", "sklearn"
    program = f"import sys, corridor; print([n for n in {wanted!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_every_name_is_reached_at_its_first_use():
    program = """
import sys, corridor
assert not any(name.partition(".")[0] in ("torch", "numpy") for name in sys.modules)
assert set(corridor.__all__) <= set(dir(corridor))
assert not hasattr(corridor, "__wrapped__")
corridor.integrations.lightning.probe_callback, corridor.train.read_run
assert corridor.CLR is corridor.optim.CLR and corridor.prove is corridor.surfaces.prove
from corridor import *
assert all(globals()[name] is getattr(corridor, name) for name in corridor.__all__)
try:
    corridor.thery
except AttributeError as error:
    assert (error.name, error.obj) == ("thery", corridor)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_type_checkers_see_every_name():
    tree = ast.parse(Path(corridor.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    lines = [line for line in block.body if isinstance(line, ast.ImportFrom)]
    assert sorted(name.name for line in lines for name in line.names) == corridor.__all__


PROGRAM = """
import importlib.util, torch, corridor
present = [n for n in ("numpy", "click", "matplotlib", "datasets") if importlib.util.find_spec(n)]
assert not present, present
x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
opt = corridor.CLR([x], max_lr=float("inf"))
loss = x.norm()
loss.backward()
opt.step(loss=loss)
assert float(corridor.measure(lambda: x.square().sum(), [x]).rho_parallel) == 0.25
print(corridor.__version__, float(x.norm()) < 1e-5)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_a_clean_environment_with_torch_alone_runs_the_core(dist: Path, tmp_path: Path, kind: str):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    package = str(next(dist.glob(kind)))
    install = [python, "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), package]
    subprocess.run(install, check=True, capture_output=True)
    run = subprocess.run([python, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.split() == ["0.1.0", "True"], run.stderr
    script = subprocess.run(
        [str(tmp_path / "venv" / "bin" / "corridor"), "--version"], capture_output=True, text=True
    )
    assert script.returncode == 2
    assert 'pip install "corridor[lab]"' in script.stderr
    assert "Traceback" not in script.stderr
