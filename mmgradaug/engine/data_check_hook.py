"""Labels that mean the same in training, in testing and to the network, before anything is computed."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from mmengine.dataset import RepeatDataset
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmgradaug.arguments import shown
from mmgradaug.categories import classes_of, wrong_categories
from mmgradaug.registry import HOOKS
from mmgradaug.wrapped_datasets import inner_datasets

from .annotations import check_annotations, check_ids, left_out_annotations
from .placed_batches import NamedDataset, smallest_batch

# Of more images it is not said how many each class has, nor which files are left out: it takes too long.
MANY = 100_000
# What a file that is left out ends in if it is an image. Pillow's own list has films and data too.
IMAGE_ENDINGS = {
    *('.jpg', '.jpeg', '.jfif', '.jp2', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.avif'),
    *('.heic', '.ppm', '.pgm', '.pbm'),
}

# Parts of a model whose head has another number of classes than the data: of things alone, beside another head for
# stuff, or of the most words of a text.
OTHERWISE_COUNTED = ('panoptic_fusion_head', 'language_model')


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Compares the classes of data sets, network and checkpoint by name; for any config.

    In a config: ``default_hooks = dict(data_check=dict(type='mmgradaug.DataCheckHook'), ...)``. A class
    folder that is missing shifts all labels after it, and a wrong accuracy looks like any other. The first
    process also reads all annotations of the training data once (COCO: some ten seconds), says how many images
    there are of the classes, and warns of images in class folders whose names' endings are not taken. One that
    cannot be loaded is named, in validation and test too.

    Args:
        read_all: look at every image's annotation, not at the classes alone.
        replace_broken: how many images of the training data may be broken, on each rank: in place of such
            a one the next one is taken, which is logged. None by default: the first one ends the training.
            In validation and test none may be, as the figures would be of other images.

    Raises:
        TypeError, ValueError: before the first iteration or test; it names what differs and says what to
            write.
        RuntimeError: an image cannot be loaded.
    """

    # After the hooks that build or convert, before a checkpoint is loaded.
    priority = 'LOW'

    def __init__(self, read_all: bool = True, replace_broken: int = 0) -> None:
        if (
            isinstance(replace_broken, bool)
            or not isinstance(replace_broken, int)
            or replace_broken < 0
        ):
            raise ValueError(
                f'DataCheckHook: replace_broken is a number of images, 0 or more, got {replace_broken!r}'
            )
        self.read_all = read_all
        self.replace_broken = replace_broken
        self._reported: set[int] = set()

    def before_train(self, runner: Runner) -> None:
        if self.replace_broken:
            dataset = runner.train_dataloader.dataset
            if not isinstance(dataset, NamedDataset):
                raise TypeError(
                    'DataCheckHook: replace_broken needs the data loading of ExactResumeHook: write '
                    "default_hooks=dict(exact_resume=dict(type='mmgradaug.ExactResumeHook'), ...)"
                )
            dataset.replace_broken = self.replace_broken
        found = [list(self._training_problems(runner)) if is_main_process() else []]
        broadcast_object_list(found)
        _refuse(found[0])
        if smallest_batch(runner) == 1:
            runner.logger.warning(
                'the last batch of an epoch, or every batch, is of one image: a batch '
                'norm that sees one value of a channel fails, of more computes statistics of one image. '
                'Write train_dataloader.drop_last=True or another train_dataloader.batch_size'
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict[str, Any]] = None,
    ) -> None:
        if not self.replace_broken:
            return
        dataset = runner.train_dataloader.dataset
        broken = set(np.flatnonzero(np.frombuffer(dataset.broken, np.int8)).tolist())
        if broken != self._reported:
            names = [dataset.name(index) for index in sorted(broken - self._reported)]
            runner.logger.warning(
                f'{", ".join(names)} could not be loaded: the next image was taken instead '
                f'({len(broken)} broken so far, {self.replace_broken} may be)'
            )
            self._reported = broken

    def before_val(self, runner: Runner) -> None:
        _name_broken(runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        _name_broken(runner.test_dataloader)

    def _training_problems(self, runner: Runner) -> Iterator[str]:
        dataset = runner.train_dataloader.dataset
        classes = classes_of(dataset)
        if self.read_all:
            runner.logger.info(images_of(dataset))
            if words := left_out(dataset):
                runner.logger.warning(words)

            def tell_left_out(each: Any) -> None:
                for notice in left_out_annotations(each):
                    runner.logger.warning(notice)

            yield from _refused(check_annotations, dataset)
            yield from _refused(tell_left_out, dataset)
        if isinstance(runner._val_loop, BaseLoop):
            validation = runner.val_dataloader.dataset
            yield from differing(classes, classes_of(validation), 'training', 'val')
            yield from wrong_categories(validation)
            if self.read_all:
                yield from _refused(check_ids, validation)
        yield from wrong_categories(dataset)
        outputs = num_classes_of(runner.model)
        if classes is not None and outputs is not None and outputs != len(classes):
            empty = [name for name, count in (images_by_class(dataset) or {}).items() if not count]
            advice = (
                f'no image is in {shown(empty)}: remove the folder or fill it, or'
                if empty
                else 'write'
            )
            yield (
                f'the head has num_classes={outputs}, but the training data have {len(classes)} classes '
                f'({shown(classes)}): {advice} num_classes={len(classes)} in the head, and in the '
                'data_preprocessor if it says it, or other data'
            )
        elif self.read_all:
            yield from wrong_annotations(dataset, outputs)
        if isinstance(runner._val_loop, BaseLoop) and outputs is not None:
            yield from impossible_topk(runner.val_loop.evaluator.metrics, outputs)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """A tested or resumed checkpoint knows the classes that it was trained on."""
        meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
        trained = (meta or {}).get('dataset_meta') or {}
        trained = trained.get('classes', trained.get('CLASSES'))
        for name, loop in (('test', runner._test_loop), ('val', runner._val_loop)):
            if isinstance(loop, BaseLoop) and not isinstance(runner._train_loop, BaseLoop):
                classes = classes_of(loop.dataloader.dataset)
                _refuse(
                    [
                        *differing(trained, classes, "the checkpoint's training", name),
                        *wrong_categories(loop.dataloader.dataset),
                    ]
                )
        if runner._resume and isinstance(runner._train_loop, BaseLoop):
            classes = classes_of(runner.train_dataloader.dataset)
            _refuse(list(differing(trained, classes, "the checkpoint's training", 'training')))


def _refused(check: Callable[[Any], object], dataset: Any) -> Iterator[str]:
    """Why a check refuses a data set, or those within it."""
    for each in inner_datasets(dataset):
        try:
            check(each)
        except ValueError as error:
            yield str(error)


def _name_broken(loader: DataLoader[Any]) -> None:
    if not isinstance(loader.dataset, NamedDataset):
        # A DataLoader's own __setattr__ refuses another dataset, for the sake of the samplers made for it.
        object.__setattr__(loader, 'dataset', NamedDataset(loader.dataset))


def differing(
    one: Optional[Sequence[str]], other: Optional[Sequence[str]], name: str, other_name: str
) -> Iterator[str]:
    """In which way two lists of classes differ, in a sentence; nothing where one is not known."""
    if one is None or other is None or list(one) == list(other):
        return
    lacking = [each for each in one if each not in other]
    more = [each for each in other if each not in one]
    what = 'in another order'
    if lacking or more:
        what = ', '.join(
            f'{text} {shown(names)}'
            for text, names in (('without', lacking), ('with also', more))
            if names
        )
    yield (
        f'the classes of the {other_name} data are not those of the {name} data: {what}. Labels are '
        'numbers in the order of the names, so all would be wrong. Mend the folders or annotations, or '
        f'give {other_name}_dataloader.dataset.metainfo.classes the same names'
    )


def images_by_class(dataset: Any) -> Optional[dict[str, int]]:
    """Images of each class of a classification data set; None of another."""
    classes = classes_of(dataset)
    if classes is None or not callable(getattr(dataset, 'get_data_info', None)):
        return None
    counts = dict.fromkeys(classes, 0)
    for index in range(len(dataset)):
        label = dataset.get_data_info(index).get('gt_label')
        if not isinstance(label, (int, np.integer)) or not 0 <= label < len(classes):
            return None
        counts[classes[int(label)]] += 1
    return counts


def images_of(dataset: Any) -> str:
    """How many there are to train with, and of which class the fewest and the most."""
    while isinstance(dataset, RepeatDataset):
        dataset = dataset.dataset
    counts = images_by_class(dataset) if len(dataset) <= MANY else None
    if not counts:
        return f'{len(dataset):,} images to train with'
    few, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    span = f'{counts[few]:,} ({few}) to {counts[most]:,} ({most})'
    if counts[few] == counts[most]:
        span = f'{counts[few]:,}'
    return f'{len(dataset):,} images of {len(counts)} classes to train with, {span} of each'


def left_out(dataset: Any) -> str:
    """Which images in class folders are not taken, since their names end as none that the data set takes."""
    found: list[Path] = []
    taken: set[str] = set()
    for each in inner_datasets(dataset):
        folder, endings = getattr(each, 'img_prefix', None), getattr(each, 'extensions', None)
        if not folder or not endings or getattr(each, 'ann_file', None) or len(each) > MANY:
            continue
        taken.update(endings)
        files = (path for path in Path(folder).rglob('*') if path.suffix.lower() in IMAGE_ENDINGS)
        found += [path for path in files if not path.name.lower().endswith(tuple(endings))]
    if not found:
        return ''
    more = ', '.join(f"'{ending}'" for ending in sorted({path.suffix.lower() for path in found}))
    return (
        f'{len(found)} images are left out, {min(found)} for instance: to take them too write '
        f'dataset.extensions=({", ".join(map(repr, sorted(taken)))}, {more})'
    )


def impossible_topk(metrics: Sequence[Any], num_classes: int) -> Iterator[str]:
    """Metrics that ask for the best five of three classes, which fail after the first epoch."""
    for metric in metrics:
        topk = getattr(metric, 'topk', None)
        if isinstance(topk, (list, tuple)) and max(topk, default=0) > num_classes:
            kind = type(metric).__name__
            yield (
                f'the val_evaluator {kind} has topk={tuple(topk)}, but the network tells {num_classes} classes '
                f"apart: write val_evaluator=dict(type='{kind}', topk=(1,)), and the same test_evaluator"
            )


def wrong_annotations(dataset: Any, num_classes: Optional[int]) -> Iterator[str]:
    """What is wrong with the labels and boxes of a data set of MMEngine's kind; the first of each kind."""
    if not callable(getattr(dataset, 'get_data_info', None)):
        return
    classes = classes_of(dataset)
    seen: set[str] = set()
    instances = 0
    is_detection = False
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        labels = info.get('gt_label')
        is_detection |= 'instances' in info
        boxes = info.get('instances') or []
        instances += len(boxes)
        if labels is None:
            labels = [box.get('bbox_label') for box in boxes]
        for label in np.atleast_1d(np.asarray(labels)):
            if num_classes is not None and not 0 <= int(label) < num_classes:
                if 'label' not in seen:
                    yield (
                        f'{info.get("img_path", index)} has label {int(label)}, but the head has '
                        f'num_classes={num_classes}: labels are 0 to {num_classes - 1}'
                    )
                seen.add('label')
        for box in boxes:
            if not all(math.isfinite(number) for number in box.get('bbox', ())):
                if 'box' not in seen:
                    yield (
                        f'{info.get("img_path", index)} has the box {box["bbox"]}: mend or remove '
                        'the annotation'
                    )
                seen.add('box')
    if is_detection and not instances:
        yield (
            f'{getattr(dataset, "ann_file", "the annotation file")} has no box of the classes '
            f'{shown(classes or ())}: look at its category ids and areas'
        )


def num_classes_of(model: nn.Module) -> Optional[int]:
    """How many of the data's classes a classifier's or detector's head tells apart; None if there is no such number."""
    inner: Any = model.module if is_model_wrapper(model) else model
    if any(getattr(inner, part, None) is not None for part in OTHERWISE_COUNTED):
        return None
    # MMDetection's RPN finds objects of any class. By name, as that package may not be installed.
    if 'RPN' in (kind.__name__ for kind in type(inner).__mro__):
        return None
    head = getattr(inner, 'roi_head', None)
    head = getattr(head, 'bbox_head', None) or getattr(inner, 'bbox_head', None)
    head = head or getattr(inner, 'head', None)
    if isinstance(head, (nn.ModuleList, list, tuple)):
        head = head[0]
    number = getattr(head, 'num_classes', None)
    return number if isinstance(number, int) and number > 0 else None


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ValueError(' '.join(f'{problem.rstrip(".")}.' for problem in problems))
