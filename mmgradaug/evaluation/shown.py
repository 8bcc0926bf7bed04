"""Results of evaluations as tables and pictures: for the commands and for the report. Imports no torch."""

import statistics
from collections.abc import Sequence
from typing import Any, Optional

from mmgradaug.grids import Grid
from mmgradaug.pictures import Line, Panel, looks, panels

from .corruption_error import ALEXNET_ERRORS

CORRUPTIONS = tuple(ALEXNET_ERRORS)
SEVERITIES = (1, 2, 3, 4, 5)
# As Table 8 heads its columns.
SHORT = dict(
    zip(
        CORRUPTIONS,
        'Gauss Shot Impulse Defocus Glass Motion Zoom Snow Frost Fog Bright Contrast Elastic Pixel JPEG'.split(),
    )
)
# Where the corrupted images are from, by the key in a result's setting.
SOURCES = dict(
    imagenet_c='ImageNet-C',
    cifar_c='CIFAR-10-C or CIFAR-100-C',
    seed='Test images corrupted like ImageNet-C (not its official files)',
)
IMAGENET_CLASSES = 1000  # AlexNet's errors are of them
OWN, FULL = 'own statistics', "the full network's statistics"

Result = dict[str, Any]


def cell(value: Optional[float], digits: int = 2) -> str:
    return '-' if value is None else f'{value:.{digits}f}'


def name_of(result: Result) -> str:
    return result['model']['name']


# Corruptions


def source_of(result: Result) -> str:
    """A key of SOURCES."""
    return next((n for n in SOURCES if n in result.get('setting', {}).get('source', {})), 'seed')


def by_corruption(result: Result, corruption: str) -> Optional[float]:
    """Error in per cent, mean over the severities; None unless all are there."""
    found = result['sets'].get(corruption, {})
    if len(found) < len(SEVERITIES):
        return None
    return 100 * statistics.fmean(entry['error'] for entry in found.values())


def by_severity(result: Result, severity: int) -> Optional[float]:
    """Error in per cent, mean over the corruptions; None unless all are there."""
    found = [result['sets'].get(c, {}).get(str(severity)) for c in CORRUPTIONS]
    return None if None in found else 100 * statistics.fmean(entry['error'] for entry in found)


def images_of(result: Result) -> int:
    """Of a set."""
    return next((s['images'] for by in result['sets'].values() for s in by.values()), 0)


def severity_grid(result: Result) -> Grid:
    """A model's errors severity by severity."""
    rows = []
    for corruption, found in result['sets'].items():
        sets = [found.get(str(s)) for s in SEVERITIES]
        ce = (result.get('corruption_errors') or {}).get(corruption)
        errors = (cell(entry and 100 * entry['error']) for entry in sets)
        rows.append([corruption, *errors, cell(by_corruption(result, corruption)), cell(ce, 1)])
    head = ['', *map(str, SEVERITIES), 'mean', 'CE']
    return Grid(f'{name_of(result)}: top-1 error in % by severity', head, rows)


def robustness_grid(results: Sequence[Result]) -> Grid:
    """All models as in Table 8: corruption errors on ImageNet-C, else top-1 errors."""
    official = all(result.get('corruption_errors') for result in results)
    rows = []
    for result in results:
        clean = result['clean'] and 100 * result['clean']['error']
        if official:
            cells = [cell(result['corruption_errors'][c], 0) for c in CORRUPTIONS]
            cells.append(cell(result['mce'], 1))
        else:
            errors = [by_corruption(result, c) for c in CORRUPTIONS]
            known = [error for error in errors if error is not None]
            cells = [cell(error, 1) for error in errors]
            whole = len(known) == len(errors)
            cells.append(cell(statistics.fmean(known) if whole else None, 1))
        rows.append([name_of(result), cell(clean, 1), *cells])
    what = (
        "Corruption errors, in % of AlexNet's"
        if official
        else 'Top-1 errors in %, mean over severities'
    )
    head = ['', 'clean', *SHORT.values(), 'mCE' if official else 'mean']
    return Grid(what, head, rows, '\n'.join(_robustness_notes(results)))


def _robustness_notes(results: Sequence[Result]) -> list[str]:
    first = results[0]
    source, images = source_of(first), images_of(first)
    notes = [f'{SOURCES[source]}; {images} images a set.']
    if 'pipeline' in first:
        notes.append(f'Through {" > ".join(first["pipeline"])}.')
    missing = first.get('missing') or []
    if source == 'seed':
        notes.append(
            'The test images were corrupted here, with the constants of ImageNet-C: NOT comparable with '
            "results on\nthe official files of ImageNet-C or CIFAR-10-C, and not normalised by AlexNet's errors."
        )
    elif source == 'cifar_c':
        notes.append("Official images of CIFAR-C; the mean is not normalised by AlexNet's errors.")
    elif missing:
        some = ', '.join(missing[:5]) + (', ...' if len(missing) > 5 else '')
        notes.append(f'No mCE: {len(missing)} of 75 sets were not tested ({some}).')
    elif first['classes'] != IMAGENET_CLASSES:
        notes.append(
            f"AlexNet's errors are of ImageNet's {IMAGENET_CLASSES} classes, this network has "
            f'{first["classes"]}: NOT comparable with published mCEs.'
        )
    if images and first.get('setting', {}).get('max_images'):
        notes.append('A part of the images only (--max-images).')
    for other in results[1:]:
        if images_of(other) != images:
            notes.append(f'{name_of(other)} was tested on {images_of(other)} images a set.')
    return notes


def robustness_figure(results: Sequence[Result]) -> Any:
    """Bars by corruption, curves by severity."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, (bars, curves) = pyplot.subplots(
        1, 2, figsize=(13, 4.6), width_ratios=(3, 1), sharey=True, layout='constrained'
    )
    width = 0.8 / len(results)
    styles = looks([name_of(result) for result in results])
    handles = []
    for i, result in enumerate(results):
        look = styles[name_of(result)]
        shift = (i - (len(results) - 1) / 2) * width
        heights = [by_corruption(result, c) for c in CORRUPTIONS]
        drawn = [(place + shift, y) for place, y in enumerate(heights) if y is not None]
        mce = result.get('mce')
        label = name_of(result) if mce is None else f'{name_of(result)}, mCE {mce:.1f}'
        xs, ys = [x for x, _ in drawn], [y for _, y in drawn]
        handles.append(bars.bar(xs, ys, width, color=look['color'], label=label))
        points = [(s, y) for s in SEVERITIES if (y := by_severity(result, s)) is not None]
        if result['clean']:
            points.insert(0, (0, 100 * result['clean']['error']))
        if points:
            curves.plot(*zip(*points), markersize=4, **look)
    bars.set_xticks(range(len(CORRUPTIONS)), SHORT.values(), rotation=45, ha='right')
    bars.set_ylabel('top-1 error %')
    bars.set_title('mean over the five severities', fontsize=10)
    curves.set_xticks([0, *SEVERITIES], ['clean', *map(str, SEVERITIES)])
    curves.set_xlabel('severity')
    curves.set_title('mean over the fifteen corruptions', fontsize=10)
    for axis in (bars, curves):
        axis.grid(alpha=0.3, axis='y')
        axis.set_axisbelow(True)
    figure.suptitle(SOURCES[source_of(results[0])], fontsize=11)
    figure.legend(
        handles=handles, loc='outside lower center', ncols=min(len(handles), 5), frameon=False
    )
    return figure


# FGSM


def variants_of(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(variant for result in results for variant in result['top1']))


def fgsm_grids(results: Sequence[Result]) -> list[Grid]:
    """A table for each variant, as Table 9: models in lines, epsilons in columns."""
    grids = []
    for variant in variants_of(results):
        some = [result for result in results if variant in result['top1']]
        epsilons = sorted({eps for result in some for eps in result['eps']})
        rows = []
        for result in some:
            top1 = dict(zip(result['eps'], result['top1'][variant]))
            cells = (cell(top1.get(eps)) for eps in epsilons)
            rows.append([name_of(result), str(result['images']), cell(result['clean']), *cells])
        head = ['', 'images', 'clean', *(f'{eps:g}' for eps in epsilons)]
        grids.append(Grid(f'Top-1 % under FGSM, epsilon in {variant}', head, rows))
    grids[-1].notes = (
        'White box, true labels, the network in eval mode. Pixel: epsilon for pixels in [0, 1]; normalised: for\n'
        'the preprocessed image. The paper does not say which its Table 9 has, nor whether it clamps.'
    )
    return grids


def fgsm_figure(results: Sequence[Result]) -> Any:
    parts = []
    for variant in variants_of(results):
        lines = [
            Line(name_of(r), [(0.0, r['clean']), *zip(r['eps'], r['top1'][variant])])
            for r in results
            if variant in r['top1']
        ]
        parts.append(Panel(variant, lines, 'top-1 %'))
    return panels(parts, 'epsilon', 'Accuracy under FGSM', 2, from_zero=True, markers=True)


# Width


def width_grid(results: Sequence[Result]) -> Grid:
    """The models side by side."""
    by_width = [{point['width']: point for point in result['points']} for result in results]
    head = ['width', *(f'{name_of(r)}: {what}' for r in results for what in (OWN, FULL))]
    rows = []
    for width in sorted({width for points in by_width for width in points}):
        cells = []
        for points in by_width:
            point = points.get(width, {})
            cells += [cell(point.get(key)) for key in ('recalibrated', 'full_statistics')]
        rows.append([f'{width:g}', *cells])
    images = results[0].get('training_images', '?')
    notes = f'Own statistics: batch norms measured anew on {images} training images.'
    return Grid('Top-1 % of sub-networks', head, rows, notes)


def width_figure(results: Sequence[Result]) -> Any:
    parts = [
        Panel(
            heading,
            [Line(name_of(r), [(p['width'], p[key]) for p in r['points']]) for r in results],
            'top-1 %',
        )
        for key, heading in (('recalibrated', OWN), ('full_statistics', FULL))
    ]
    title = 'Accuracy of sub-networks over width'
    return panels(parts, 'width', title, from_zero=True, markers=True)
