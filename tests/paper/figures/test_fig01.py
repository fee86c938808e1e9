"""Figure 1 end to end on coarse meshes: data, images, manifest, and the page that turns."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from corridor.paper import report
from corridor.paper.figure import read_manifest
from corridor.paper.figures import fig01_scenes as scenes
from corridor.paper.figures import figure
from corridor.paper.results import Plan
from corridor.surfaces import Cone, Glued, Linear


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The figure with a simpler landscape and few starts, drawn and reported."""
    folder = tmp_path_factory.mktemp("out")
    shown = {
        key: replace(s, starts=s.starts[::4], mesh=s.mesh[::4, ::4])
        for key, s in scenes.scenes().items()
    }
    simple = Glued([Cone(1.0, [0.2, 0.1]), Linear([0.5, 0.25], 1.0)])
    shown["landscape"] = replace(shown["landscape"], loss=simple, mesh=scenes._square(21))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "scenes", lambda: shown)
        patch.setattr(scenes, "STARTS", 3)
        figure(1).draw(figure(1).compute(Plan(folder)))
    report.build(folder)
    return folder


def test_the_claims_hold_and_are_measured(out: Path):
    manifest = read_manifest(out / "figures" / "fig01")
    assert [claim.verdict for claim in manifest.claims] == ["holds", "holds"]
    assert "5 of 5 surfaces" in manifest.claims[0].measured
    assert len(manifest.rows) == 5
    folder = out / "figures" / "fig01"
    assert (folder / manifest.images["png"]).read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / manifest.images["svg"]).read_bytes()[:2000]


def test_the_page_turns_without_a_network(out: Path):
    page = (out / "report.html").read_text()
    assert page.count("Plotly.react(plot") == 1
    assert "plotly.js v" in page
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"https?://", markup)
    assert "<script src" not in page
    data = json.loads(page.split('id="turn-data-1">')[1].split("</script>")[0])
    assert set(data["scenes"]) == set(scenes.scenes())
    for scene in data["scenes"].values():
        assert len(scene["starts"]) >= 4
        for rows in scene["paths"].values():
            assert len(rows) == len(scene["starts"])
            assert [row[0] for row in rows] == scene["starts"]


def test_in_the_cone_all_methods_stay_on_the_line_of_steepest_descent(out: Path):
    data = json.loads((out / "figures" / "fig01" / "fig01.interactive.json").read_text())
    cone = data["scenes"]["cone"]
    for index, start in enumerate(cone["starts"]):
        clr = cone["paths"]["CLR"][index]
        assert clr[1] == pytest.approx([0.0, 0.0, 0.0], abs=1e-4)
        for method in ("gradient descent", "heavy ball"):
            for p in cone["paths"][method][index][:4]:
                assert abs(p[0] * start[1] - p[1] * start[0]) < 1e-3


def test_the_fine_steps_are_the_flow():
    from corridor.flows import gradient_flow

    scene = scenes.scenes()["wavy-cone"]
    fine = scenes.paths(scene, scene.starts[:1])["gradient flow"]
    exact = gradient_flow(scene.loss, scene.starts[0], 1.0).end
    step = round(0.1 / scenes.FINE) * scenes.FINE
    torch.testing.assert_close(fine[round(1.0 / step), 0], exact, rtol=0, atol=1e-9)


def test_what_is_missing_is_named_with_the_command_that_makes_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="make it with: corridor figure 1"):
        figure(1).draw(tmp_path)
