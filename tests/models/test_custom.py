import sys

import pytest
from torch import nn

from corridor.models import build

SIZES = {"num_classes": 10, "in_channels": 3, "image_size": 8}

NETS = """
from torch import nn

number = 3

def few(num_classes, image_size):
    return nn.Linear(image_size, num_classes)

def everything(**sizes):
    net = nn.Identity()
    net.sizes = sizes
    return net

def own_width(num_classes, width=5):
    return nn.Linear(width, num_classes)

def needs_more(num_classes, depth):
    return nn.Identity()

def not_a_net():
    return [1]

class Net(nn.Linear):
    def __init__(self, *, in_channels):
        super().__init__(in_channels, 1)

class Zoo:
    net = Net
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module of the user's own in the current directory, under a name of its own."""
    name = f"nets_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(NETS)
    (tmp_path / f"{name}_broken.py").write_text("import no_such_module_anywhere\n")
    (tmp_path / f"{name}_syntax.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield name
    for key in [key for key in sys.modules if key.startswith(name)]:
        del sys.modules[key]


def failure(name, **more):
    with pytest.raises(ValueError, match="must") as caught:
        build(name, **SIZES, **more)
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    return message


def test_a_callable_in_the_current_directory_gets_the_arguments_it_accepts(nets):
    few = build(f"{nets}:few", **SIZES)
    assert isinstance(few, nn.Linear)
    assert (few.in_features, few.out_features) == (8, 10)
    assert build(f"{nets}:everything", **SIZES).sizes == SIZES
    assert build(f"{nets}:everything", **SIZES, width=4).sizes == SIZES | {"width": 4}


def test_classes_and_nested_names(nets):
    assert build(f"{nets}:Net", **SIZES).in_features == 3
    assert build(f"{nets}:Zoo.net", **SIZES).in_features == 3
    assert isinstance(build("torch.nn:Identity", **SIZES), nn.Identity)


def test_the_callables_own_width_holds_unless_one_is_given(nets):
    assert build(f"{nets}:own_width", **SIZES).in_features == 5
    assert build(f"{nets}:own_width", **SIZES, width=7).in_features == 7


def test_a_width_that_cannot_be_passed_is_refused(nets):
    assert "leave it out" in failure(f"{nets}:few", width=4)


def test_module_not_found():
    assert "got no module 'no_such_package_here'" in failure("no_such_package_here.nets:make")


def test_submodule_not_found():
    assert "got no module 'torch.no_such_part'" in failure("torch.no_such_part:make")


def test_an_import_that_fails_inside_the_module_names_what_is_missing(nets):
    message = failure(f"{nets}_broken:make")
    assert "must be importable, got ModuleNotFoundError" in message
    assert "no_such_module_anywhere" in message
    assert "SyntaxError" in failure(f"{nets}_syntax:make")


def test_attribute_missing(nets):
    assert "got no 'absent' in" in failure(f"{nets}:absent")


def test_not_callable(nets):
    assert "must name a function or class, got int" in failure(f"{nets}:number")


def test_not_a_module(nets):
    assert "must return a torch.nn.Module, got list" in failure(f"{nets}:not_a_net")


def test_an_argument_that_is_never_given(nets):
    assert "missing a required argument: 'depth'" in failure(f"{nets}:needs_more")
