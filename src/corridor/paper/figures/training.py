"""Make figures of training curves: 2, 3, 4, 5, 6 and 8 here, and the base of 9 and 10."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from corridor.paper import recipes, verdicts, words
from corridor.paper.drawing import panels, style
from corridor.paper.figure import Claim, Figure, Manifest
from corridor.paper.recipes import Recipe
from corridor.paper.results import Group, Results, Setting, gather, read_results

# A rate nearer to the mean step of CLR counts as equal.
LARGER = 1.1


def training_figure(
    number: int,
    title: str,
    recipes: Mapping[str, Recipe],
    *,
    claims: Callable[[Results], list[Claim]],
    panels_of: Callable[[Results], Sequence[panels.Panel]],
    columns: int = 3,
    headed: bool = True,
    note: str = "",
    led: bool = True,
) -> Figure[Results]:
    """Return a figure that trains the runs of recipes and draws their curves.

    Args:
        number: number in the paper.
        title: title in a few words.
        recipes: recipes by the name of their group.
        claims: function from the results to claims.
        panels_of: function from the results to panels.
        columns: number of panels side by side (default: 3).
        headed: True to name replacements of the paper's networks above the panels (default: True).
        note: last remark below the table (default: none).
        led: True to begin each group of the caption with its name (default: True).
    """

    def picture(results: Results, folder: Path, name: str) -> dict[str, Any]:
        heading = words.replacements(results) if headed else ""
        return panels.draw(panels_of(results), folder, name, columns=columns, heading=heading)

    return Figure(
        number=number,
        title=title,
        gather=partial(gather, number=number, recipes=recipes),
        read=read_results,
        claims=claims,
        describe_data=partial(_manifest, note=note, led=led),
        picture=picture,
        recipes=recipes.values(),
    )


def _manifest(figure: Figure[Results], results: Results, note: str, led: bool) -> Manifest:
    place = words.places(results, [*results.groups.values()])
    replaced = words.replacements(results)
    caption = words.caption(results, led=led)
    return Manifest(
        number=figure.number,
        title=figure.title + (" (with replacements)" if replaced else ""),
        caption=f"{replaced}. {caption}" if replaced else caption,
        images={},
        claims=[replace(c, setting=c.setting or place) for c in figure.claims(results)],
        columns=[*words.COLUMNS],
        rows=words.rows(results),
        notes=[*words.notes(results), *([note] if note else [])],
        again=words.again(figure.number, results),
        environment=results.environment,
    )


def _all_curves(results: Results) -> list[panels.Panel]:
    return panels.Curves(results.settings).panels(results.target)


def _subject(results: Results, papers: str) -> str:
    return f"in place of {papers}" if words.replacements(results) else papers


def _curves(group: Group) -> panels.Curves:
    """Return the curves of a group over epochs; batch sizes get shades of one color."""
    settings = group.members
    # Without images an epoch is a step.
    epochs = [max(1.0, group.images / group.batch(s)) for s in settings]
    if not _several_batches(group):
        return panels.Curves(settings, per=epochs)
    labels = [f"CLR, cap 10, batch {s.config.batch_size}" for s in settings]
    return panels.Curves(settings, style.by_batch(len(settings), style.CAP_10), labels, epochs)


def _several_batches(group: Group) -> bool:
    return len({s.config.batch_size for s in group.members}) > 1


def against_fixed(results: Results) -> list[Claim]:
    """Return the claims of figure 2: who reaches the target first, and who tests better."""
    fixed, ours = results.of("sgd"), results.of("clr")
    first = [_first_to_target(one, fixed, results) for one in ours]
    return first + [_tests_better(one, fixed) for one in ours]


def _first_to_target(ours: Setting, fixed: list[Setting], results: Results) -> Claim:
    name = "steps_to_target"
    best = min(fixed, key=lambda s: s.median(name))
    claim = (
        f"{words.label(ours.config)}: reaches training loss {results.target:g} before every fixed "
        "rate of the sweep"
    )
    if not isfinite(min(ours.median(name), best.median(name))):
        return Claim(claim, "no setting reached it in the given steps", "undecided")
    measured = (
        f"{_in_steps(ours)}; best of {len(fixed)} fixed rates, {best.config.lr:g}: "
        f"{_in_steps(best)}; final losses {words.losses(ours)} and "
        f"{words.losses(best)}"
    )
    verdict, reason = verdicts.lower_than_all(ours, fixed, name)
    if verdict == "does not hold":
        reason = _slower(ours, results.settings)
    return Claim(claim, measured, verdict, reason)


def _slower(ours: Setting, settings: list[Setting]) -> str:
    if ours.fails_always:
        return verdicts.why_it_fails(settings)
    if ours.config.lr is not None and ours.median("median_lr") == ours.config.lr:
        return (
            "most steps are at the cap: this is gradient descent at that rate, and a fixed rate "
            "that is equal or larger is as fast"
        )
    return "a tuned fixed rate is faster here"


def _in_steps(setting: Setting) -> str:
    cell = words.cell(setting.values("steps_to_target"))
    return f"{cell} steps" if cell[0].isdigit() else cell


def _tests_better(ours: Setting, fixed: list[Setting]) -> Claim:
    rate = statistics.median(ours.values("mean_lr"))
    larger = [s for s in fixed if s.config.lr is not None and s.config.lr >= LARGER * rate]
    claim = f"A larger fixed rate tests better than {words.label(ours.config)}"
    mine = (
        f"CLR {words.accuracy(ours)} at a mean step of {words.number(rate)} (until the "
        "target, where it is reached)"
    )
    if ours.fails_always:
        return Claim(claim, mine, "undecided", "all runs of CLR fail")
    if not larger:
        return Claim(claim, f"{mine}; no larger rate ran", "undecided")
    best = max(larger, key=lambda s: s.median("best_accuracy"))
    measured = f"{mine}; best larger rate {best.config.lr:g}: {words.accuracy(best)}"
    # CLR tests worse where its accuracy is lower.
    return Claim(claim, measured, *verdicts.lower_than_all(ours, [best], "best_accuracy"))


def _falls(results: Results) -> list[Claim]:
    subject = _subject(results, "a ResNet-50 on ImageNet") + ", across batch sizes"
    return verdicts.falls(results, subject)


def _by_batch(results: Results) -> list[panels.Panel]:
    (group,) = results.groups.values()
    return _curves(group).panels(results.target)


def _faster(results: Results) -> list[Claim]:
    return [_faster_than_fixed(results, ours) for ours in results.of("clr")]


def _faster_than_fixed(results: Results, ours: Setting) -> Claim:
    where, fixed = _subject(results, "ResNet-50 on ImageNet"), results.of("sgd")
    best = min(fixed, key=lambda s: s.median("final_loss"))
    measured = (
        f"final training loss {words.losses(ours)}; best of {len(fixed)} fixed rates, "
        f"{best.config.lr:g}: {words.losses(best)}, after the same number of steps"
    )
    claim = f"{words.label(ours.config)}: converges faster than every fixed rate, {where}"
    verdict, reason = verdicts.lower_than_all(ours, fixed, "final_loss")
    if verdict == "does not hold":
        reason = "the tuned rate ends at a lower loss in the given steps"
        if ours.fails_always:
            reason = verdicts.why_it_fails(results.settings)
    return Claim(claim, measured, verdict, reason)


def _step_sizes(results: Results) -> list[panels.Panel]:
    return [
        _curves(group).step_size(f"Step size,\n{words.in_place(results, name)}")
        for name, group in results.groups.items()
    ]


def _warm_up_everywhere(results: Results) -> list[Claim]:
    claims = []
    for name, group in results.groups.items():
        place, several = words.in_place(results, name), _several_batches(group)
        for setting in group.members:
            batch = f", batch {setting.config.batch_size}" if several else ""
            claim = verdicts.warms_up(setting, place + batch, group.members)
            claims.append(replace(claim, setting=words.places(results, [group])))
    return claims


def _converge_and_warm_up(results: Results, network: str) -> list[Claim]:
    subject, settings = _subject(results, f"a {network} on CIFAR-10"), results.settings
    shapes = [verdicts.warms_up(setting, subject, settings) for setting in settings]
    return verdicts.converges(results, subject) + shapes


TRAINING_FIGURES = (
    training_figure(2, "CLR against fixed learning rates", {"CIFAR-10": recipes.figure2},
                    claims=against_fixed, panels_of=_all_curves),
    training_figure(3, "CLR at several batch sizes, ImageNet", {"ImageNet": recipes.figure3},
                    claims=_falls, panels_of=_by_batch),
    training_figure(4, "The step size along training",
                    {"CIFAR-10": recipes.figure4, "ImageNet": recipes.figure3},
                    claims=_warm_up_everywhere, panels_of=_step_sizes, headed=False,
                    note=verdicts.SHAPE_NOTE),
    training_figure(5, "CLR converges for a ResNet-50", {"CIFAR-10": recipes.figure5},
                    claims=partial(_converge_and_warm_up, network="ResNet-50"),
                    panels_of=_all_curves, note=verdicts.SHAPE_NOTE),
    training_figure(6, "CLR converges for a VGG", {"CIFAR-10": recipes.figure6},
                    claims=partial(_converge_and_warm_up, network="VGG"),
                    panels_of=_all_curves, note=verdicts.SHAPE_NOTE),
    training_figure(8, "CLR against fixed learning rates, ImageNet", {"ImageNet": recipes.figure8},
                    claims=_faster, panels_of=_all_curves),
)  # fmt: skip
