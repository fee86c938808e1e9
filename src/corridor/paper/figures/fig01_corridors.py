"""Make figure 1: corridors one by one, and glued together, with lines of steepest descent."""

from typing import Any

from corridor.paper.figure import Claim, Figure, Manifest
from corridor.paper.figures import fig01_drawing, fig01_scenes

Scenes = dict[str, Any]


def _describe(figure: Figure[Scenes], data: Scenes) -> Manifest:
    return Manifest(
        number=figure.number,
        title=figure.title,
        caption=(
            "(a) Individual corridors: ruled surfaces of one slope, whose rulings are the lines of "
            "steepest descent (dark). (b) A loss surface glued from a plane, two wavy cones, a "
            "round cone, a trough and a roof. Each is a corridor of its own slope. One line of "
            "steepest descent is red: it runs from the hill through "
            f"{len(data['red']['events']) - 1} seams (dots) down to the minimum."
        ),
        images={},
        claims=figure.claims(data),
        columns=["surface", "verdict of the detector", "largest scale-free Hg", "points"],
        rows=[
            [scene["name"], scene["verdict"], f"{scene['hg']:.1e}", str(scene["points"])]
            for scene in data["scenes"].values()
        ],
        notes=[
            "Scale-free Hg: the larger of ‖Hg‖ / (‖H‖ ‖g‖) and the change of g over steps of two "
            "sizes in the same unit, at random points and near them; at most about 1.",
            "An adaptive solver that finds the kinks computes the lines of panel a and the red "
            "line. The other lines of panel b are steps of 0.02, which are exact inside a corridor "
            "and slide along creases.",
        ],
        again=f"corridor figure {figure.number} --out out",
        environment=data["environment"],
    )


def _claims(data: Scenes) -> list[Claim]:
    scenes = data["scenes"].values()
    found = [scene["verdict"] for scene in scenes]
    worst = max(s["deviation"] for s in scenes if s["deviation"] is not None)
    return [
        Claim(
            "Hessian times gradient vanishes on corridors, and on glued corridors off the seams",
            f"{found.count('corridor')} of {len(found)} surfaces are corridors by the detector; "
            f"largest scale-free Hg {max(scene['hg'] for scene in scenes):.1e}",
            "holds" if set(found) == {"corridor"} else "does not hold",
        ),
        Claim(
            "A line of steepest descent of a corridor lifts to a straight line on its surface",
            f"largest distance from the chord {worst:.1e} of its length",
            "holds" if worst < 1e-8 else "does not hold",
        ),
    ]


FIGURE = Figure(
    number=1, title="Corridors, one by one and glued together",
    gather=lambda plan: fig01_scenes.values(), read=dict, claims=_claims, describe_data=_describe,
    picture=fig01_drawing.picture,
)  # fmt: skip
