"""Results as tables: methods beside one another, and beside the paper's numbers."""

import statistics
from collections.abc import Sequence
from typing import Any, Optional

from mmgradaug.arguments import shown
from mmgradaug.grids import Grid

from .results import Difference, Found, Group, Result, difference, mean_and_deviation
from .settings import differing_otherwise
from .tables import EQUAL_COST, METRICS, ROWS, TOP1, Row, Table, baseline_of, metric_of

NO_RUN, NOTHING = 'no run', '–'


def number(value: Optional[float], deviation: Optional[float] = None, digits: int = 2) -> str:
    if value is None:
        return NOTHING
    return f'{value:.{digits}f}' + ('' if deviation is None else f' ± {deviation:.{digits}f}')


def signed(value: Optional[float]) -> str:
    # No negative zero.
    return NOTHING if value is None else f'{round(value, 2) + 0.0:+.2f}'.replace('-', '−')


def three_digits(value: float) -> str:
    """Three digits that count, without a power of ten."""
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def difference_in_cell(found: Optional[Difference], seeds: int) -> str:
    """A difference with its standard error, or why it has none."""
    if found is None:
        return NOTHING
    if found.error is not None:
        pairs = '' if found.pairs == seeds else f', {found.pairs} pairs'
        return f'{signed(found.mean)} ({found.error:.2f}){pairs}'
    return f'{signed(found.mean)} ({"1 pair" if found.pairs else "no common seed"})'


def metric_name(metric: str) -> str:
    return metric_of(metric).name


def mean_cell(results: Sequence[Result], metric: str) -> str:
    values = [result.last[metric] for result in results if metric in result.last]
    if len(values) < len(results):  # a mean over some of the seeds would stand beside one over all
        return NOTHING
    return number(*mean_and_deviation(values))


def seconds_of(results: Sequence[Result]) -> Optional[float]:
    values = [result.seconds for result in results if result.seconds]
    return statistics.median(values) if values else None


def ordered_keys(group: Group) -> list[str]:
    """In the paper's order, a plain training first and its longer one after it."""
    keys = list(group.results)
    plain = [key for key in keys if group.plain_key(key) == key]
    order = []
    for key in [*plain, *keys]:
        if key not in order and not key.endswith(EQUAL_COST):
            order += [key, *([key + EQUAL_COST] if key + EQUAL_COST in keys else [])]
    return [*order, *(key for key in keys if key not in order)]


def label_of(group: Group, key: str) -> str:
    """The method; where several have the same, also on which data, or else its key."""
    label = _label(group, key)
    twins = [other for other in group.results if _label(group, other) == label]
    if len(twins) < 2:
        return label
    datasets = [ROWS[k].dataset for k in (t.removesuffix(EQUAL_COST) for t in twins) if k in ROWS]
    if len(set(datasets)) == len(twins):
        return f'{label} ({ROWS[key.removesuffix(EQUAL_COST)].dataset})'
    return f'{label} ({key})'


def _label(group: Group, key: str) -> str:
    label = group.results[key][0].label
    if key.endswith(EQUAL_COST) and 'equal cost' not in label:
        label += ', equal cost'
    return label


def summary(group: Group) -> Grid:
    """Every method of a group: its metrics, differences, cost and memory."""
    metrics = group.metrics[:2]
    longer = any(key.endswith(EQUAL_COST) for key in group.results)
    main = metrics[0] if metrics else ''
    head = ['method', 'seeds', *map(metric_name, metrics), 'to plain']
    head += [*(['to plain, equal cost'] if longer else []), 'length', 'ms/iteration', 'memory']
    rows = []
    for key in ordered_keys(group):
        results = group.results[key]
        plain_key = group.plain_key(key)
        plain = group.results.get(plain_key or '', [])
        cells = [label_of(group, key), str(len(results))]
        cells += [mean_cell(results, metric) for metric in metrics]
        is_plain = key == plain_key
        cells.append(
            NOTHING
            if is_plain or not main
            else difference_in_cell(difference(results, plain, main), len(results))
        )
        if longer:
            other = group.results.get(group.equal_cost_key(key) or '', []) if main else []
            cells.append(difference_in_cell(difference(results, other, main), len(results)))
        cells += [_length(results), _time(results, plain if not is_plain else []), _memory(results)]
        rows.append(cells)
    notes = (
        f'{group.sentence.rstrip(".")}. Final weights, mean ± deviation over seeds; differences: mean over '
        'common seeds, standard error in brackets; time of an iteration: median.'
    )
    return Grid(group.title, head, rows, notes, group.badge)


def _length(results: Sequence[Result]) -> str:
    lengths = sorted({result.iterations for result in results if result.iterations})
    ends = [f'{length:,}' for length in dict.fromkeys([*lengths[:1], *lengths[-1:]])]
    epochs = {result.epochs for result in results} - {None}
    text = ' to '.join(ends) or NOTHING
    if len(epochs) != 1:
        return text
    number = epochs.pop()
    return f'{text} ({number} epoch{"" if number == 1 else "s"})'


def _time(results: Sequence[Result], plain: Sequence[Result]) -> str:
    seconds, of_plain = seconds_of(results), seconds_of(plain)
    if seconds is None:
        return NOTHING
    times = f' ({seconds / of_plain:.2f}×)' if of_plain else ''
    return f'{three_digits(1000 * seconds)}{times}'


def _memory(results: Sequence[Result]) -> str:
    memory = [result.memory for result in results if result.memory]
    return f'{max(memory):,.0f} MB' if memory else NOTHING


def verdicts(group: Group) -> list[str]:
    """How each method compares with plain training, in a sentence or two: GradAug first, then in the table's order."""
    if not group.metrics:
        return []
    found = {
        key: _verdict(group, key) for key in ordered_keys(group) if not key.endswith(EQUAL_COST)
    }
    gradaug = [key for key in found if group.results[key][0].is_gradaug and found[key]]
    if not gradaug:
        return ['No GradAug run beside a plain one.']
    gradaug.sort(key=lambda key: group.equal_cost_key(key) is None)
    return [found[key] for key in [*gradaug, *(k for k in found if k not in gradaug)] if found[key]]


def _verdict(group: Group, key: str) -> str:
    plain_key = group.plain_key(key)
    if plain_key is None or plain_key == key:
        return ''
    lengths = [_length(group.results[each]) for each in (plain_key, key)]
    same = 'of the same length' if len(set(lengths)) == 1 else f'({" against ".join(lengths)})'
    metric = group.metrics[0]
    sentences = []
    plain = 'plain training'
    if (
        len({group.plain_key(each) for each, runs in group.results.items() if runs[0].is_gradaug})
        > 1
    ):
        plain = label_of(group, plain_key)
    for other, what in (
        (group.equal_cost_key(key) or '', f'{plain} at equal cost'),
        (plain_key, f'{plain} {same}'),
    ):
        found = difference(group.results[key], group.results.get(other, []), metric)
        if found is not None:
            name = metric_name(metric).removesuffix(' %')
            sentences.append(_sentence(label_of(group, key), found, what, name))
    return ' '.join([*sentences, *_otherwise(group, key, plain_key)])


def _otherwise(group: Group, key: str, plain_key: str) -> list[str]:
    """What else tells one's own GradAug training from the plain one, a sentence; a table's rows are as they should."""
    ours, plain = group.results[key][0], group.results[plain_key][0]
    if not ours.is_gradaug or not ours.config or not plain.config or key in ROWS:
        return []
    differing = differing_otherwise(ours.settings, plain.settings, lengths_too=True)
    if not differing:
        return []
    values = [
        f'{name} ({_value(ours.settings, name)} against {_value(plain.settings, name)})'
        for name in differing
    ]
    return [f'They differ in {shown(values, 2)} too.']


def _value(settings: dict[str, Any], key: str) -> str:
    text = str(settings.get(key, 'absent'))
    return text if len(text) <= 40 else f'{text[:37]}...'


def _sentence(label: str, found: Difference, what: str, name: str) -> str:
    direction = 'above' if found.mean > 0 else 'below'
    # Of what is in other units than points, as many digits as it takes.
    is_small = 0 < max(abs(found.mean), found.error or 0.0) < 0.05
    digits = '.2g' if is_small else '.1f'
    text = f'{label} is {abs(found.mean):{digits}} points of {name} {direction} {what}'
    if not float(f'{found.mean:{digits}}'):
        text = f'{label} is level with {what} in {name}'
        if found.error is not None:
            text += f' (standard error {found.error:{digits}})'
            few = '; two seeds cannot tell a difference from chance' if found.pairs == 2 else ''
            return f'{text}{few}.'
    if not found.pairs:
        return f'{text}; they have no common seed.'
    text += f' (better with {found.better} of {found.pairs} seeds'
    if found.error is None:
        return f'{text}); one seed cannot tell a difference from chance.'
    text += f', standard error {found.error:{digits}})'
    if found.pairs == 2:
        return f'{text}; two seeds cannot tell a difference from chance.'
    if not found.is_certain:
        return f'{text}: less than two standard errors, so it may be chance.'
    return f'{text}, more than two standard errors{FEW_SEEDS.get(found.pairs, "")}.'


# How often chance alone goes beyond two standard errors (Student's t).
FEW_SEEDS = {
    3: ' (by chance in one of five comparisons of three seeds)',
    4: ' (by chance in one of seven comparisons of four seeds)',
}


def paper_grid(table: Table, group: Group) -> Grid:
    """A table of the paper with ours beside it."""
    metrics = [m for m in METRICS if any(m in row.figures for row in table.rows)]
    metrics = metrics or group.metrics[:1]  # Figure 2 prints no numbers
    names = [metric_name(metric) for metric in metrics]
    head = ['method', *(f'paper: {name}' for name in names), 'paper: to baseline']
    head += [*(f'ours: {name}' for name in names), 'ours: to baseline', 'seeds']
    rows: list[list[str]] = []
    heading = None
    for row in table.rows:
        of = f'In the paper: {row.network}, {row.dataset}'
        if of != heading:
            rows.append([of])
            heading = of
        rows.append(_paper_row(row, table, group, metrics))
    note = f'{table.note} ' if table.note else ''
    return Grid(table.title, head, rows, f'{note}Ours: {group.sentence}', group.badge)


def _paper_row(row: Row, table: Table, group: Group, metrics: Sequence[str]) -> list[str]:
    base = baseline_of(row, table)
    is_base = base is not None and base.key == row.key
    main = metrics[0]
    cells = [row.label]
    cells += [
        number(row.figures.get(metric), row.deviation if metric == main else None)
        for metric in metrics
    ]
    gain = None
    if base is not None and not is_base and main in row.figures and main in base.figures:
        gain = row.figures[main] - base.figures[main]
    cells.append(signed(gain))
    results = group.results.get(row.key, [])
    if not results:
        return [*cells, NO_RUN, *[NOTHING] * (len(metrics) + 1)]
    plain = group.results.get(base.key, []) if base else []
    found = None if is_base else difference(results, plain, main)
    return [
        *cells,
        *(mean_cell(results, metric) for metric in metrics),
        difference_in_cell(found, len(results)),
        str(len(results)),
    ]


def cost_grid(entries: Sequence[dict[str, Any]]) -> Grid:
    """What ``mmgradaug cost`` measured."""
    rows = [
        [
            entry['model']['name'].partition('+setting=')[0],
            entry.get('setting', ''),
            three_digits(1000 * entry['seconds_per_iteration']),
            f'{entry["peak_memory_mb"]:,.0f}',
            str(entry['iterations_per_epoch']),
            three_digits(entry['minutes_per_epoch']),
            three_digits(entry['total_hours']),
            f'{entry["iterations"]} iterations of {entry["batch_size"]} images, {entry["device"]}',
        ]
        for entry in entries
    ]
    head = [
        'config',
        'setting',
        'ms/iteration',
        'MB',
        'iterations/epoch',
        'min/epoch',
        'total hours',
        'timed',
    ]
    kinds = ' or '.join(dict.fromkeys(entry.get('memory_of', 'process') for entry in entries))
    notes = (
        'Extrapolated: nothing was trained. Of one process, without evaluations and the first iterations. '
        f'Memory: of the {kinds}.'
    )
    return Grid('', head, rows, notes)


def table2_grid(table: Table, found: Found) -> Grid:
    """Table 2: from runs of the paper's setting where there are any, else extrapolated."""
    head = ['method']
    for whose in ('paper', 'ours'):
        head += [f'{whose}: {what}' for what in ('epochs', 'MB', 'min/epoch', 'hours', 'top-1 %')]
    head.append('ours is')
    measured = {entry['model']['name']: entry for entry in found.evaluations.get('cost', [])}
    rows = []
    for row in table.rows:
        assert row.cost is not None
        cells = [row.label, *map(str, row.cost), number(row.figures[TOP1], digits=1)]
        runs = [r for g in found.groups for r in g.results.get(row.key, []) if r.epochs]
        if runs:
            hours = statistics.fmean(run.total_seconds or 0.0 for run in runs) / 3600
            epochs = runs[0].epochs or 1
            cells += [str(epochs), _memory(runs), number(60 * hours / epochs), number(hours)]
            cells += [mean_cell(runs, TOP1), f'{len(runs)} run(s), {runs[0].device}']
        elif row.key in measured:
            cells += _extrapolated(measured[row.key])
        else:
            cells += [NO_RUN, *[NOTHING] * 5]
        rows.append(cells)
    notes = (
        f'{table.note} Hours: of training iterations alone. Extrapolated: mmgradaug cost timed some '
        'iterations of the config, and nothing was trained.'
    )
    return Grid(table.title, head, rows, notes)


def _extrapolated(entry: dict[str, Any]) -> list[str]:
    return [
        str(entry['epochs'] or NOTHING),
        f'{entry["peak_memory_mb"]:,.0f} MB',
        three_digits(entry['minutes_per_epoch']),
        three_digits(entry['total_hours']),
        NOTHING,
        f'extrapolated from {entry["iterations"]} iterations, {entry["device"]}',
    ]
