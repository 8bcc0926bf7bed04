"""``mmgradaug report``: what runs left, first among themselves, then beside the paper's tables."""

import argparse
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from mmgradaug import pictures
from mmgradaug.evaluation import shown
from mmgradaug.files import UserError, short, write_whole
from mmgradaug.grids import Grid, as_markdown, show
from mmgradaug.pictures import Line, Panel

from .reading import describe, read_work_dirs
from .results import OWN, Found, Group, mean_curve
from .summary import (
    NOTHING,
    cost_grid,
    label_of,
    metric_name,
    ordered_keys,
    paper_grid,
    seconds_of,
    summary,
    table2_grid,
    verdicts,
)
from .tables import EQUAL_COST, TABLES, Table, baseline_of

MARK = 'written by mmgradaug report'  # in each file, to know an earlier report by
MOST_CURVES = 8  # in a picture

Part = dict[str, Any]  # of the page; 'kind' says what the template makes of it


def heading(level: int, text: str, anchor: str = '') -> Part:
    return dict(kind='heading', level=level, text=text, anchor=anchor)


def text(words: str, badge: str = '') -> Part:
    return dict(kind='text', text=words, badge=badge)


def grid(made: Grid) -> Part:
    wide = any(len(row) > 1 for row in made.rows) and len(made.head) > 12
    return dict(kind='grid', grid=made, markdown=as_markdown(made), wide=wide)


def picture(figure: Any, name: str, caption: str) -> Part:
    """About as wide as it was drawn, so that its text is of the page's size and can be read on a phone."""
    png, svg = pictures.as_png(figure), pictures.as_svg(figure, name)
    inches = figure.get_size_inches()[0]
    svg = svg.replace(
        '<svg ', f'<svg style="width: {115 * inches:.0f}px; min-width: {62 * inches:.0f}px" ', 1
    )
    pictures.close(figure)
    return dict(kind='picture', name=name, png=png, svg=svg, caption=caption)


def compose(found: Found, title: str) -> list[Part]:
    """The whole report: own runs, the paper's tables that have a run, evaluations, what is left out."""
    body: list[Part] = []
    contents = []
    for group in found.groups:
        contents.append((f'{group.title} ({group.badge})', group.anchor))
        body += group_parts(group)
    table2 = next(table for table in TABLES if table.name == 'table2')
    rows = {row.key for row in table2.rows}
    costs = found.evaluations.get('cost', [])
    own_costs = [entry for entry in costs if entry['model']['name'] not in rows]
    if len(own_costs) < len(costs) or any(_has_run(table2, g) for g in found.groups):
        contents.append((table2.title, 'table2'))
        body += [heading(2, table2.short_title, 'table2'), grid(table2_grid(table2, found))]
    if own_costs:
        contents.append(('Cost', 'cost'))
        body += [heading(2, 'Cost', 'cost'), grid(cost_grid(own_costs))]
    for name, anchor, parts in evaluation_parts(found):
        contents.append((name, anchor))
        body += [heading(2, name, anchor), *parts]
    if found.left_out:
        contents.append((f'Left out: {len(found.left_out)} unfinished or other runs', 'left-out'))
        left_out = [
            [r.label, NOTHING if r.seed is None else str(r.seed), why, short(r.source)]
            for r, why in found.left_out
        ]
        head = ['run', 'seed', 'why', 'where']
        body += [heading(2, 'Left out', 'left-out')]
        body.append(grid(Grid('Runs that no figure above counts', head, left_out)))
    return [heading(1, title), dict(kind='contents', items=contents), *body]


def _has_run(table: Table, group: Group) -> bool:
    return any(row.key in group.results for row in table.rows)


def group_parts(group: Group) -> list[Part]:
    said = verdicts(group) or ['']
    parts = [heading(2, group.title, group.anchor), text(said[0], group.badge)]
    parts += [text(sentence) for sentence in said[1:]]
    parts += [grid(summary(group)), *curves(group)]
    tables = [table for table in TABLES if _has_run(table, group) and table.name != 'table2']
    for table in tables:
        parts += [heading(3, table.title), grid(paper_grid(table, group))]
        if table.axes:
            parts += figure2(table, group)
    described = [
        (label_of(group, key), describe(results[0].config, with_length=True))
        for key, results in group.results.items()
    ]
    names_of: dict[str, list[str]] = {}  # what is true of several runs is said once
    for name, words in [*described, *group.facts]:
        if words:
            names_of.setdefault(words, []).append(name)
    facts = [(_joined(names), words) for words, names in names_of.items()]
    if facts:
        parts.append(dict(kind='facts', title='What was run, and how', facts=facts))
    return parts


def _joined(names: Sequence[str]) -> str:
    return ', '.join(names) if len(names) <= 4 else f'{names[0]}, and {len(names) - 1} others'


def curves(group: Group) -> list[Part]:
    """Metrics and training loss over what training cost, mean over seeds."""
    keys = [key for key in ordered_keys(group)][:MOST_CURVES]
    plain_key = next((k for k in keys if group.plain_key(k) == k), None)
    plain_time = seconds_of(group.results[plain_key]) if plain_key else None
    x_label = 'iterations'
    costs = dict.fromkeys(keys, 1.0)
    if plain_key and plain_time:
        x_label = 'training cost, in plain iterations by measured time'
        for key in keys:
            seconds = seconds_of(group.results[key])
            # Both plain trainings have the same step; their times differ by what else ran.
            if seconds and not key.endswith(EQUAL_COST):
                costs[key] = seconds / plain_time
    shown_panels = []
    for metric in group.metrics[:2]:
        lines = _lines(group, keys, costs, lambda result, m=metric: result.curves.get(m, []))
        if lines:
            shown_panels.append(Panel('', lines, metric_name(metric)))
    losses = _lines(group, keys, costs, lambda result: result.loss)
    if losses and all(y > 0 for line in losses for _, y in line.points):
        losses = [line._replace(deviations=None) for line in losses]
        shown_panels.append(Panel('training loss of the full network', losses, 'loss', log=True))
    if not shown_panels:
        return []
    counts = sorted({len(group.results[key]) for key in keys})
    seeds = '1 seed' if counts == [1] else f'{" to ".join(map(str, counts))} seeds'
    caption = f'Means of {seeds}; bands: one deviation.' if counts != [1] else 'One seed.'
    if len(group.results) > MOST_CURVES:
        caption += f' The first {MOST_CURVES} of {len(group.results)} methods.'
    title = group.title if group.badge == OWN else group.badge
    figure = pictures.panels(shown_panels, x_label, title)
    return [picture(figure, f'{group.anchor}-curves', caption)]


def _lines(group: Group, keys: Sequence[str], costs: dict[str, float], of: Any) -> list[Line]:
    lines = []
    for key in keys:
        points = mean_curve([of(result) for result in group.results[key]])
        if len(points) > 1:
            line = [(costs[key] * x, y) for x, y, _ in points]
            deviations = [d for _, _, d in points]
            is_gradaug = group.results[key][0].is_gradaug
            lines.append(Line(label_of(group, key), line, deviations, is_gradaug))
    return lines


def figure2(table: Table, group: Group) -> list[Part]:
    """Accuracy over the values of each axis, beside the baseline."""
    metric = group.metrics[0]
    base = baseline_of(table.rows[0], table)
    plain = group.results.get(base.key, []) if base else []
    names = {'n': 'number of sub-networks n', 'alpha': 'width lower bound alpha'}
    parts = []
    for axis in table.axes:
        points = []
        for row in table.rows:
            name, _, value = row.label.partition(' = ')
            if name == axis and row.key in group.results:
                values = [result.last[metric] for result in group.results[row.key]]
                points.append((float(value), sum(values) / len(values)))
        if len(points) < 2:
            continue
        lines = [Line('GradAug', points)]
        if plain:
            level = sum(result.last[metric] for result in plain) / len(plain)
            lines.append(Line('baseline', [(x, level) for x, _ in points]))
        parts.append(Panel(names[axis], lines, metric_name(metric)))
    if not parts:
        return []
    figure = pictures.panels(parts, '', group.badge, markers=True)
    return [picture(figure, f'{group.anchor}-{table.name}', 'Mean over seeds.')]


def evaluation_parts(found: Found) -> list[tuple[str, str, list[Part]]]:
    """Title, anchor and parts for each kind of evaluation."""
    parts = []
    if results := found.evaluations.get('robustness'):
        figure = picture(shown.robustness_figure(results), 'robustness', 'Errors by corruption.')
        parts.append(('Corruptions', 'corruptions', [grid(shown.robustness_grid(results)), figure]))
    if results := found.evaluations.get('fgsm'):
        figure = picture(shown.fgsm_figure(results), 'fgsm', 'Accuracy by severity.')
        parts.append(('FGSM', 'fgsm', [*map(grid, shown.fgsm_grids(results)), figure]))
    if results := found.evaluations.get('width_curve'):
        figure = picture(shown.width_figure(results), 'width', 'Accuracy by width.')
        parts.append(('Sub-networks', 'width', [grid(shown.width_grid(results)), figure]))
    return parts


def render(parts: Sequence[Part], title: str, created: str) -> dict[str, str]:
    """The page and its Markdown."""
    import jinja2

    loader = jinja2.PackageLoader('mmgradaug.experiments', 'templates')
    environment = jinja2.Environment(
        loader=loader,
        autoescape=lambda name: (name or '').endswith('.html'),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return {
        page: environment.get_template(page).render(
            parts=parts, title=title, created=created, mark=MARK, nothing=NOTHING
        )
        for page in ('index.html', 'report.md')
    }


def write(out: Path, files: dict[str, Any]) -> None:
    """Write a report in place of an earlier one.

    Raises:
        UserError: something else is in its place.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f'{out} is not a folder; write another --out')
    pictures: set[str] = set()
    for name in ('index.html', 'report.md'):
        earlier = (out / name).read_text(errors='replace') if (out / name).exists() else None
        if earlier is not None and MARK not in earlier:
            raise UserError(
                f'{short(out / name)} is no earlier report, so it stays as it is. Name another folder with --out'
            )
        pictures.update(re.findall(r']\(([\w.-]+\.png)\)', earlier or ''))
    for name, content in files.items():
        write_whole(out / name, content)
    for name in pictures - set(files):  # of the earlier report, no longer in this one
        (out / name).unlink(missing_ok=True)


def write_report(work_dirs: Sequence[Path], out: Path, title: Optional[str] = None) -> Found:
    """Read, and write. Raises UserError if there is nothing to report, or something else in its place."""
    found = read_work_dirs(work_dirs)
    if title is None:
        of_paper = any(_has_run(table, group) for table in TABLES for group in found.groups)
        beside = " beside the paper's" if of_paper else ''
        title = f'Runs of {", ".join(map(short, work_dirs))}{beside}'
    parts = compose(found, title)
    created = datetime.now().astimezone().isoformat(timespec='seconds')
    files: dict[str, Any] = {f'{p["name"]}.png': p['png'] for p in parts if p['kind'] == 'picture'}
    # The page last: a report with a page is whole.
    files |= dict(reversed(render(parts, title, created).items()))
    write(out, files)
    return found


def run(args: argparse.Namespace) -> None:
    """The command."""
    out = args.out or args.work_dirs[0] / 'report'
    found = write_report(args.work_dirs, out, args.title)
    rows = [
        [
            group.title,
            group.badge,
            str(len(group.results)),
            str(sum(map(len, group.results.values()))),
        ]
        for group in found.groups
    ]
    rows += [[kind, '', str(len(results)), ''] for kind, results in found.evaluations.items()]
    rows.append(['left out', '', '', str(len(found.left_out))])
    show(Grid('', ['what', 'comparison', 'methods', 'runs'], rows))
    print(f'Report: {short(out / "index.html")} and report.md beside it')
