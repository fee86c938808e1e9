"""Make figure 10, an addition: where CLR without a cap fails, what helps, where it trains."""

from dataclasses import replace

from corridor.paper import verdicts, words
from corridor.paper.drawing import panels
from corridor.paper.figure import Claim
from corridor.paper.figures.training import training_figure
from corridor.paper.results import Group, Results, Setting


def names(results: Results) -> dict[str, str]:
    """Return one name per group; groups with equal networks and images get their length."""
    plain = [f"{g.images:,} images, {words.network(g.config)}" for g in results.groups.values()]
    named = {}
    for name, (key, group) in zip(plain, results.groups.items(), strict=True):
        steps = group.members[0].curves[0].steps[-1]
        named[key] = f"{name}, {steps} steps" if plain.count(name) > 1 else name
    return named


def _panels(results: Results) -> list[panels.Panel]:
    made = []
    for key, group in results.groups.items():
        curves = panels.Curves(group.members)
        loss = curves.loss(results.target, names(results)[key])
        loss.y = f"training loss, {loss.y}"
        made += [loss, curves.step_size()]
    return made


def _claims(results: Results) -> list[Claim]:
    remedies = [
        replace(claim, setting=words.places(results, [group]))
        for key, group in results.groups.items()
        for claim in _remedies(group, names(results)[key])
    ]
    return [stable(results), *remedies]


def stable(results: Results) -> Claim:
    """Return the claim that CLR without a cap is stable on every network."""
    known = names(results)
    ours = {key: group.members[0] for key, group in results.groups.items()}
    measured = "; ".join(
        f"{known[key]}: final loss {words.losses(s)}, largest step {words.cell(s.values('max_lr'))}"
        for key, s in ours.items()
    )
    claim = "CLR without a cap is stable on every network (the paper: in all cases tried)"
    good = [key for key, setting in ours.items() if not setting.fails]
    if len(good) == len(ours):
        return Claim(claim, measured, "holds")
    failing = [group for key, group in results.groups.items() if key not in good]
    settings = [s for group in failing for s in group.members]
    holds = f"it holds for {'; '.join(known[key] for key in good)}; elsewhere " if good else ""
    return Claim(claim, measured, "does not hold", holds + verdicts.why_it_fails(settings))


def _remedies(group: Group, name: str) -> list[Claim]:
    free, *others = group.members
    if free.fails:
        return [_remedy(setting, free, name) for setting in others]
    best = min(others, key=lambda s: s.median("final_loss"))
    measured = f"final loss {words.losses(free)}; {words.label(best.config)}: {words.losses(best)}"
    claim = f"{name}: CLR without a cap converges with no remedy, to less than a tenth of the loss"
    holds = verdicts.share_left(free) < verdicts.SHARE
    return [Claim(claim, measured, "holds" if holds else "does not hold")]


def _remedy(setting: Setting, free: Setting, name: str) -> Claim:
    steps = words.cell(setting.values("max_lr"))
    measured = f"final loss {words.losses(setting)}, largest step {steps}"
    claim = f"{name}, {words.label(setting.config)}: trains where CLR without a cap does not"
    if setting.fails:
        return Claim(claim, measured, "does not hold", verdicts.RISES)
    return Claim(claim, measured, *verdicts.lower_than_all(setting, [free], "final_loss"))


FIGURE = training_figure(
    10,
    "Where CLR without a cap fails, what helps, and where it trains (not in the paper)",
    {"many images": "caps", "few images": "narrow", "few images, wide network": "wide"},
    claims=_claims,
    panels_of=_panels,
    columns=2,
)
