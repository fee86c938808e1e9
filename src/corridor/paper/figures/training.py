"""Make figures of training curves: 2, 3, 4, 5, 6 and 8 here, and the base of 9 and 10."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from corridor.paper import verdicts, words
from corridor.paper.drawing import panels, style
from corridor.paper.figure import Claim, Figure, Manifest
from corridor.paper.recipes import RECIPES
from corridor.paper.results import Group, Probed, Results, Runs, Setting, checked, gather

Sources = Mapping[str, Group | Probed]
Table = list[list[str]]

# A rate nearer to the mean step of CLR counts as equal.
LARGER = 1.1


def training_figure(
    number: int,
    title: str,
    groups: Mapping[str, str],
    *,
    claims: Callable[[Results], list[Claim]],
    panels_of: Callable[[Results], Sequence[panels.Panel]],
    columns: int = 3,
    headed: bool = True,
    note: str = "",
) -> Figure[Results]:
    """Return a figure that trains the runs of recipes and draws their curves.

    `groups` names the recipe of each group, by the paper's data set. With `headed`, replacements of
    the paper's networks stand above the panels.
    """
    recipes = {group: RECIPES[name] for group, name in groups.items()}

    def picture(results: Results, folder: Path, name: str) -> dict[str, Any]:
        heading = words.replaced(number, results.groups) if headed else ""
        return panels.draw(panels_of(results), folder, name, columns=columns, heading=heading)

    return Figure(
        number=number,
        title=title,
        gather=partial(gather, number=number, recipes=recipes),
        read=partial(checked, Results),
        claims=claims,
        describe_data=partial(_describe, note=note),
        picture=picture,
        recipes=recipes.values(),
    )


def _describe(figure: Figure[Results], results: Results, note: str) -> Manifest:
    rows = [
        [column(group, setting) for column in words.COLUMNS.values()]
        for group in results.groups.values()
        for setting in group.members
    ]
    notes = words.notes(results) + ([note] if note else [])
    caption, table = words.caption(results), [[*words.COLUMNS], *rows]
    return describe_trained(figure, results, results.groups, caption, table, notes)


def describe_trained(
    figure: Figure[Any], data: Runs, sources: Sources, caption: str, table: Table, notes: list[str]
) -> Manifest:
    """Return the manifest of a figure of trained runs, from sources by the paper's data set."""
    replaced, place = words.replaced(figure.number, sources), words.places(data, sources.values())
    return Manifest(
        number=figure.number,
        title=figure.title + (" (with replacements)" if replaced else ""),
        caption=f"{replaced}. {caption}" if replaced else caption,
        images={},
        claims=[replace(claim, setting=claim.setting or place) for claim in figure.claims(data)],
        columns=table[0],
        rows=table[1:],
        notes=notes,
        again=words.again(figure.number, data),
        environment=data.environment,
    )


def _all_curves(results: Results) -> list[panels.Panel]:
    return panels.Curves(results.settings).panels(results.target)


def _by_batch(results: Results) -> list[panels.Panel]:
    (group,) = results.groups.values()
    return _over_epochs(group).panels(results.target)


def _step_sizes(results: Results) -> list[panels.Panel]:
    return [
        _over_epochs(group).step_size(f"Step size,\n{words.in_place(results, name)}")
        for name, group in results.groups.items()
    ]


def _over_epochs(group: Group) -> panels.Curves:
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


def _subject(results: Results, papers: str) -> str:
    replaced = words.replaced(results.figure, results.groups)
    return f"in place of {papers}" if replaced else papers


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
    mine, theirs = (
        f"{cell} steps" if cell[0].isdigit() else cell
        for cell in (words.cell(s.values(name)) for s in (ours, best))
    )
    measured = (
        f"{mine}; best of {len(fixed)} fixed rates, {best.config.lr:g}: {theirs}; final losses "
        f"{words.losses(ours)} and {words.losses(best)}"
    )
    slower = "a tuned fixed rate is faster here"
    if ours.at_cap:
        slower = (
            "most steps are at the cap: this is gradient descent at that rate, and a fixed rate "
            "that is equal or larger is as fast"
        )
    return Claim(claim, measured, *_against(ours, fixed, name, slower, results))


def _against(
    ours: Setting, fixed: list[Setting], name: str, reason: str, results: Results
) -> tuple[str, str]:
    """Return verdict and reason for the claim that ours has lower values than every fixed rate."""
    verdict, why = verdicts.lower_than_all(ours, fixed, name)
    if verdict == "does not hold":
        why = verdicts.why_it_fails(results.settings) if ours.fails_always else reason
    return verdict, why


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
    subject = _subject(results, "a ResNet-50 on ImageNet")
    return verdicts.falls(results, f"{subject}, across batch sizes")


def _faster(results: Results) -> list[Claim]:
    where, fixed = _subject(results, "ResNet-50 on ImageNet"), results.of("sgd")
    best = min(fixed, key=lambda s: s.median("final_loss"))
    slower = "the tuned rate ends at a lower loss in the given steps"
    return [
        Claim(
            f"{words.label(ours.config)}: converges faster than every fixed rate, {where}",
            f"final training loss {words.losses(ours)}; best of {len(fixed)} fixed rates, "
            f"{best.config.lr:g}: {words.losses(best)}, after the same number of steps",
            *_against(ours, fixed, "final_loss", slower, results),
        )
        for ours in results.of("clr")
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
    training_figure(2, "CLR against fixed learning rates", {"CIFAR-10": "figure2"},
                    claims=against_fixed, panels_of=_all_curves),
    training_figure(3, "CLR at several batch sizes, ImageNet", {"ImageNet": "figure3"},
                    claims=_falls, panels_of=_by_batch),
    training_figure(4, "The step size along training",
                    {"CIFAR-10": "figure4", "ImageNet": "figure3"}, claims=_warm_up_everywhere,
                    panels_of=_step_sizes, headed=False, note=verdicts.SHAPE_NOTE),
    training_figure(5, "CLR converges for a ResNet-50", {"CIFAR-10": "figure5"},
                    claims=partial(_converge_and_warm_up, network="ResNet-50"),
                    panels_of=_all_curves, note=verdicts.SHAPE_NOTE),
    training_figure(6, "CLR converges for a VGG", {"CIFAR-10": "figure6"},
                    claims=partial(_converge_and_warm_up, network="VGG"),
                    panels_of=_all_curves, note=verdicts.SHAPE_NOTE),
    training_figure(8, "CLR against fixed learning rates, ImageNet", {"ImageNet": "figure8"},
                    claims=_faster, panels_of=_all_curves),
)  # fmt: skip
