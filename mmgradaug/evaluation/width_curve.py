"""``mmgradaug width-curve``: accuracy of every sub-network of one checkpoint, with statistics of its own."""

import argparse

from rich.progress import track

from mmgradaug.files import short, write_json
from mmgradaug.grids import show
from mmgradaug.pictures import save
from mmgradaug.slimming import recalibrate_statistics

from .extract import plan, take_out
from .shown import FULL, OWN, width_figure, width_grid
from .trained_classifier import CONSOLE, load_classifier, result_file, results_beside

KIND = 'width_curve'


def run(args: argparse.Namespace) -> None:
    """The command. Raises UserError if it cannot be done."""
    classifier = load_classifier(args, stock=True)
    others = results_beside(classifier, args.compare, KIND)
    file = result_file(args, classifier.name, 'width_curves', KIND)
    images = classifier.training_images(args.recalibrate)
    plan(classifier, images[0])
    loader = classifier.loader(classifier.test_set(), args.max_images)
    points = []
    for width in sorted(set(args.widths)):
        small = take_out(classifier, width)
        title = f'width {width:g}'
        before = classifier.accuracy(small, loader, f'{title}, {FULL}')
        recalibrate_statistics(small, track(images, f'{title}, measuring', console=CONSOLE))
        after = classifier.accuracy(small, loader, f'{title}, {OWN}')
        parameters = sum(p.numel() for p in small.parameters())
        points.append(
            dict(width=width, parameters=parameters, recalibrated=after, full_statistics=before)
        )
    result = dict(
        kind=KIND,
        model=classifier.identity,
        training_images=sum(len(batch) for batch in images),
        test_images=len(loader.dataset),
        points=points,
    )
    write_json(file, result)
    results = [result, *others]
    show(width_grid(results))
    save(width_figure(results), file.with_suffix('.png'))
    print(f'\nWritten to {short(file.parent)}: width_curve.json, width_curve.png')
