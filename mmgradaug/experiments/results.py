"""What trainings came to, and which of them may be compared."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from mmgradaug.config_types import lower_is_better, trains_by_gradaug
from mmgradaug.files import short

from .difference import Difference, paired
from .settings import differ_in_gradaug_alone, have_the_same_data, settings_of
from .tables import EQUAL_COST, METRICS, TABLES, baseline_of

SMALL = 'small scale: not comparable with the paper'
OTHER = "another setting than the paper's: not comparable with the paper"
PAPER = "the paper's setting"
OWN = 'your own setting'

Points = list[tuple[int, float]]


@dataclass
class Result:
    """What one training came to.

    Args:
        key: names what was trained; runs of one key differ in their seed alone.
        label: of the method, for reading.
        seed: None if it is not known.
        source: its folder or file.
        config: as an object.
        status: 'done', or why it does not count.
        last, best: by metric, in the units of ``METRICS``.
        curves: by metric (iteration, value).
        loss: (iteration, loss of the full network).
        iterations, epochs: how long it was trained; epochs where the training counts in them.
        seconds: of an iteration, the median; ``total_seconds``: of all.
        memory: at most, in MB.
        world_size: processes.
        device: its name.
        metric: what a sweep compares it by; None if it does not say.
        equal_cost_to: of a plain training made longer, the key of the GradAug training that it is as expensive
            as; None if it is none.
    """

    key: str
    label: str
    seed: Optional[int]
    source: Path
    config: dict[str, Any] = field(default_factory=dict)
    status: str = 'done'
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Points] = field(default_factory=dict)
    loss: Points = field(default_factory=list)
    iterations: Optional[int] = None
    epochs: Optional[int] = None
    seconds: Optional[float] = None
    total_seconds: Optional[float] = None
    memory: Optional[float] = None
    world_size: int = 1
    device: str = ''
    metric: Optional[str] = None
    equal_cost_to: Optional[str] = None

    @property
    def settings(self) -> dict[str, Any]:
        """What of its config decides over its result."""
        return settings_of(self.config, self.world_size)

    @property
    def is_gradaug(self) -> bool:
        return trains_by_gradaug(self.config.get('model'))


@dataclass
class Group:
    """Runs that may be compared and averaged: of one sweep, or of the same network and data.

    Args:
        identity: equal for runs of one group.
        badge: PAPER, SMALL, OTHER or OWN.
        sentence: what was run, in words.
        facts: further (name, text), for those who want to know.
        results: those done, by their key.
    """

    identity: tuple[Any, ...]
    badge: str
    sentence: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    results: dict[str, list[Result]] = field(default_factory=dict)
    title: str = ''
    anchor: str = ''

    @property
    def metrics(self) -> list[str]:
        """Those that every run has, the main one first."""
        runs = [result.last for results in self.results.values() for result in results]
        shared = set(runs[0]).intersection(*runs[1:])
        known = [key for key in METRICS if key in shared] or sorted(shared)
        named = {result.metric for results in self.results.values() for result in results}
        main = [key for key in shared if named == {key}]
        return [*main, *(key for key in known if key not in main)]

    def equal_cost_key(self, key: str) -> Optional[str]:
        """The plain training that was made as expensive as this one; None where there is none."""
        if key.endswith(EQUAL_COST):
            return None
        found = (k for k, runs in self.results.items() if runs[0].equal_cost_to == key)
        return next(found, None)

    def plain_key(self, key: str) -> Optional[str]:
        """What a key is measured by: its table's baseline, its namesake, or the one plain method."""
        base = key.removesuffix(EQUAL_COST)
        for table in TABLES:
            for row in table.rows:
                if row.key == base and (found := baseline_of(row, table)) is not None:
                    if found.key in self.results:
                        return found.key
        ours = self.results[base][0] if base in self.results else None
        plain = [
            k
            for k, runs in self.results.items()
            if _may_be_plain(k, runs)
            and (ours is None or have_the_same_data(ours.config, runs[0].config))
        ]
        if ours is not None and ours.is_gradaug:
            own = ours.settings
            for lengths_too in (False, True):
                alike = [
                    k
                    for k in plain
                    if differ_in_gradaug_alone(own, self.results[k][0].settings, lengths_too)
                ]
                if len(alike) == 1:
                    return alike[0]
        namesake = base.replace('gradaug', 'baseline')
        if namesake in plain and 'baseline' in namesake:
            # With other settings too, none of which are this one's, it is not clear which to take.
            return None if any(k.startswith(f'{namesake} (') for k in plain) else namesake
        named = [k for k in plain if 'baseline' in k or 'plain' in k]
        return (named or plain)[0] if len(named or plain) == 1 else None


def _may_be_plain(key: str, runs: Sequence[Result]) -> bool:
    return not key.endswith(EQUAL_COST) and not runs[0].is_gradaug


@dataclass
class Found:
    """Everything that the work dirs hold."""

    groups: list[Group] = field(default_factory=list)
    left_out: list[tuple[Result, str]] = field(default_factory=list)  # and why
    evaluations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by their kind

    def add(self, group: Group, results: Iterable[Result]) -> None:
        """Put finished results to the others of their group, each seed once."""
        for result in results:
            if result.status != 'done':
                self.left_out.append((result, result.status))
                continue
            known = next((g for g in self.groups if g.identity == group.identity), None)
            if known is None:
                self.groups.append(group)
                known = group
            known.facts += [fact for fact in group.facts if fact not in known.facts]
            others = known.results.setdefault(result.key, [])
            twin = next((r for r in others if r.seed == result.seed and r.seed is not None), None)
            if twin is None:
                others.append(result)
            else:
                where = short(twin.source)
                self.left_out.append((result, f'seed {result.seed} was found before, in {where}'))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, Optional[float]]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def difference(
    ours: Sequence[Result], plain: Sequence[Result], metric: str
) -> Optional[Difference]:
    """None without results of both. The same seed means the same training images and first weights."""
    if not ours or not plain:
        return None
    one, other = (
        {r.seed: r.last[metric] for r in results if r.seed is not None} for results in (ours, plain)
    )
    found = paired(one, other, -1 if lower_is_better(metric, ours[0].config) else 1)
    if found is not None:
        return found
    means = [statistics.fmean(r.last[metric] for r in results) for results in (ours, plain)]
    return Difference(means[0] - means[1], None, 0, 0)


def mean_curve(curves: Sequence[Points]) -> list[tuple[int, float, float]]:
    """(iteration, mean, deviation) over seeds at the iterations that all have."""
    tables = [dict(curve) for curve in curves if curve]
    if not tables:
        return []
    steps = sorted(set(tables[0]).intersection(*tables[1:]))
    points = []
    for step in steps:
        mean, deviation = mean_and_deviation([table[step] for table in tables])
        points.append((step, mean, deviation or 0.0))
    return points
