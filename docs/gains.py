"""Draws the differences that stand in the tables of docs/when_it_helps.md: python docs/gains.py.

What the page says is what the picture shows: it is drawn from the page's text. A bar is two standard errors to either
side, beyond which the page says "better" or "worse".
"""

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parent / 'when_it_helps.md'
PICTURE = PAGE.parent / 'results' / 'gains.png'
SCRATCH = 'From scratch'
SHIPPED = 'the shipped configs, as much time'
DATASETS = {'cifar10': 'CIFAR-10', 'trashnet': 'TrashNet'}
# Each at its better rate, where there are two.
METHODS = {
    'economy': 'GradAug, economy',
    'gradaug': 'GradAug, n = 3',
    'economy-trivial': 'GradAug, economy, with TrivialAugment',
    'trivial': 'TrivialAugment',
    'mixup': 'Mixup',
    'cutmix': 'CutMix',
    'gradaug-cutmix': 'GradAug, n = 3, with CutMix',
    'economy-cutmix': 'GradAug, economy, with CutMix',
    'economy-long': 'GradAug, economy',
    'gradaug-long': 'GradAug, n = 3',
    'economy-soft-long': 'GradAug, economy, soft labels',
}
DIFFERENCE = re.compile(r'(?:(economy) )?([+-][\d.]+) \(([\d.]+)\)')
COLOURS = {'better': '#2ca02c', 'tie': '#7f7f7f', '': '#7f7f7f', 'worse': '#d62728'}


class Gain(NamedTuple):
    """A difference to plain training at equal cost, in points, and its standard error."""

    section: str
    label: str
    mean: float
    error: float
    verdict: str


def gains(text: str) -> list[Gain]:
    """Those of the page's text, in its order."""
    found, section = [], ''
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if line.startswith('## '):
            section = line[3:]
        elif match := re.match(r'<!-- table (\S+) (\w+) (\d+) ', line):
            section = f'Fine-tuning, {DATASETS[match[2]]}, {int(match[3]):,} labels'
            section += ', counted' if '_cpu' in match[1] else ''
        elif match := re.match(r'<!-- table: finetune_sweep (\d+) ', line):
            section = f'Fine-tuning, CIFAR-10, {int(match[1]):,} labels, {SHIPPED}'
        elif match := re.match(r'<!-- detection \S+/(\w+)\.json ', line):
            images = match[1].replace('_long', ', twice as long')
            section = f'Detector with a pretrained backbone, {images}, box AP'
        elif not line.startswith('| ') or len(cells) < 4:
            continue
        elif section == SCRATCH:
            verdict = cells[2].strip('*')
            for form, mean, error in DIFFERENCE.findall(cells[1]):
                label = re.sub(r', economy(?=,|$)', '', cells[0])
                name = f'{label}: {form}' if form else cells[0]
                found.append(Gain(section, name, float(mean), float(error), verdict))
        elif section.endswith(SHIPPED) and cells[0] in METHODS.values():
            # The last difference: of GradAug to plain training of as much time.
            mean, error = map(float, DIFFERENCE.findall(line)[-1][1:])
            verdict = '' if abs(mean) <= 2 * error else 'better' if mean > 0 else 'worse'
            found.append(Gain(section, cells[0], mean, error, verdict))
        elif name := METHODS.get(cells[0].removesuffix('-lr0.005')):
            matches = map(DIFFERENCE.fullmatch, cells)
            for match, verdict in list(zip(matches, cells[1:]))[:-1]:
                if match:
                    found.append(Gain(section, name, float(match[2]), float(match[3]), verdict))
                    break  # the first, which is top-1's or box AP's
    best: dict[tuple[str, str], Gain] = {}
    for gain in found:
        key = gain.section, gain.label
        best[key] = max(best.get(key, gain), gain, key=lambda each: each.mean)
    return list(best.values())


def draw(rows: list[Gain], file: Path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    sections = list(dict.fromkeys(row.section for row in rows))
    heights = [sum(row.section == section for row in rows) + 0.6 for section in sections]
    chart, axes = pyplot.subplots(
        len(sections), 1, figsize=(9, 0.27 * sum(heights) + 0.45 * len(sections)), sharex=True,
        height_ratios=heights, layout='constrained', squeeze=False,
    )  # fmt: skip
    for axis, section in zip(axes.flat, sections):
        shown = [row for row in rows if row.section == section][::-1]
        axis.axvline(0, color='black', linewidth=0.8)
        for place, row in enumerate(shown):
            axis.errorbar(
                row.mean, place, xerr=2 * row.error, fmt='o', color=COLOURS[row.verdict],
                capsize=3, markersize=5,
            )  # fmt: skip
        axis.set_yticks(range(len(shown)), [row.label for row in shown], fontsize=8)
        axis.set_ylim(-0.7, len(shown) - 0.3)
        axis.set_title(section, fontsize=9, loc='left', fontweight='bold')
        axis.grid(axis='x', alpha=0.3)
    axes.flat[-1].set_xlabel('points over plain training at equal cost, ± 2 standard errors')
    chart.savefig(file, dpi=90)
    pyplot.close(chart)


if __name__ == '__main__':
    draw(gains(PAGE.read_text()), PICTURE)
