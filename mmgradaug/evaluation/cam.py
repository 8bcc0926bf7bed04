"""``mmgradaug cam``: class activation maps of baseline, sub-networks and full network, as in Figure 1."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import mmcv
import numpy as np
import torch
from mmcv.transforms import Compose, LoadImageFromFile
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS
from rich.progress import track
from torch import Tensor, nn

from mmgradaug.config_types import default_scope, is_a
from mmgradaug.files import UserError, short
from mmgradaug.grids import Grid, show
from mmgradaug.pictures import save
from mmgradaug.slimming import recalibrate_statistics
from mmgradaug.wrapped_datasets import inner_configs

from .extract import plan, take_out
from .parsers import CAM_METHODS
from .trained_classifier import CONSOLE, SCOPE, TrainedClassifier, load_classifier

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
OVERVIEW_ROWS = 12


@dataclass
class Column:
    """A network whose maps are shown."""

    title: str
    classifier: TrainedClassifier
    model: nn.Module
    layer: str


@dataclass
class Map:
    """What a network sees in an image."""

    overlay: np.ndarray
    label: str
    score: float


def images_of(path: Path) -> list[Path]:
    """The image, or those in a folder.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f'no such image or folder: {path}')
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS)
    if not found:
        raise UserError(f'{path} has no image ({", ".join(EXTENSIONS)})')
    return found


def pipeline_of(classifier: TrainedClassifier) -> tuple[list[Any], list[Any]]:
    """The test's steps that load an image, none where the data set hands out arrays, and those after them."""
    scope = default_scope(classifier.cfg, SCOPE)
    steps = list(inner_configs(classifier.cfg.test_dataloader.dataset)[0].get('pipeline', ()))
    for i, step in enumerate(steps, 1):
        if is_a(step, LoadImageFromFile, TRANSFORMS, scope):
            return steps[:i], steps[i:]
    return [], steps


def preprocess(classifier: TrainedClassifier, file: Path) -> Tensor:
    """An image as the network gets it in the test, (1, C, H, W), loaded as the config says.

    Raises:
        UserError: it cannot be read.
    """
    init_default_scope(default_scope(classifier.cfg, SCOPE))
    loading, others = ([TRANSFORMS.build(s) for s in part] for part in pipeline_of(classifier))
    results: Any = dict(img_path=str(file), sample_idx=0)
    try:
        if loading:
            results = Compose(loading)(results)
        else:  # as the data sets that hand out arrays: in the order that the network takes
            image = mmcv.imread(str(file), channel_order='bgr' if to_rgb(classifier) else 'rgb')
            size = image.shape[:2]
            results.update(img=image, img_shape=size, ori_shape=size)
    except Exception as error:  # whatever a broken file makes of the reader
        raise UserError(f'{file} cannot be read as an image: {error}') from error
    if results is None:
        raise UserError(f'{file} cannot be read as an image')
    packed = Compose(others)(results)
    data = classifier.model.data_preprocessor(pseudo_collate([packed]), False)
    return data['inputs']


def to_rgb(classifier: TrainedClassifier) -> bool:
    return bool(getattr(classifier.model.data_preprocessor, 'to_rgb', False))


def as_picture(classifier: TrainedClassifier, inputs: Tensor) -> np.ndarray:
    """What the network sees, (H, W, 3) in [0, 1], RGB; of one channel in grey."""
    preprocessor = classifier.model.data_preprocessor
    pixels = inputs[0]
    if getattr(preprocessor, '_enable_normalize', False):
        pixels = pixels * preprocessor.std + preprocessor.mean
    if len(pixels) == 1:
        pixels = pixels.expand(3, -1, -1)
    elif not to_rgb(classifier) and pipeline_of(classifier)[0]:
        pixels = pixels.flip(0)  # MMCV loads BGR, and so the network takes it
    pixels = pixels.clamp(0, 255) / 255
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy(), dtype=np.float32)


@torch.no_grad()
def last_layer(model: Any, inputs: Tensor) -> str:
    """The name of the module that gives the backbone's last feature map.

    Raises:
        UserError: there is none, or it is no map.
    """
    outputs: dict[str, Any] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
        for name, module in model.backbone.named_modules()
        if name
    ]
    try:
        feats = model.backbone(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    last = feats[-1] if isinstance(feats, (tuple, list)) else feats
    if isinstance(last, Tensor) and last.dim() == 4:
        for name, out in outputs.items():
            if out is last:
                return f'backbone.{name}'
    raise UserError(
        f"{type(model.backbone).__name__}'s last output is no feature map of one of its modules: say "
        'with --layer which convolution or stage to look at, backbone.layer4 for instance'
    )


def class_map(
    model: nn.Module, inputs: Tensor, layer: str, target: int, method: str = 'gradcam'
) -> np.ndarray:
    """A class's activation map, (H, W) of the image's size, in [0, 1].

    Args:
        model: in eval mode; no gradient stays behind.
        inputs: (1, C, H, W), preprocessed.
        layer: the name of a module that gives a map, (1, C', H', W').
        target: index of the class.
        method: of grad-cam, one of ``CAM_METHODS``; 'gradcam' is arXiv:1610.02391.

    Raises:
        UserError: there is no such layer, it gives no map, or grad-cam is missing.
    """
    try:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        raise UserError(
            f"class activation maps need grad-cam ({error}): pip install 'grad-cam>=1.5.5'"
        ) from error
    try:
        module = model.get_submodule(layer)
    except AttributeError as error:
        raise UserError(f'--layer: {error}') from error
    shapes: list[Any] = []
    hook = module.register_forward_hook(
        lambda _, __, out: shapes.append(getattr(out, 'shape', None))
    )
    with torch.no_grad():
        model(inputs)
    hook.remove()
    if not shapes or shapes[-1] is None or len(shapes[-1]) != 4:
        raise UserError(
            f'--layer {layer} gives no feature map of (N, C, H, W), but {shapes[-1] if shapes else "nothing"}: name '
            'a convolution or a stage of the backbone'
        )
    kind = getattr(pytorch_grad_cam, CAM_METHODS[method])
    try:
        with kind(model=model, target_layers=[module]) as cam:
            (found,) = cam(input_tensor=inputs, targets=[ClassifierOutputTarget(target)])
    finally:
        model.zero_grad(set_to_none=True)
    return found


def target_of(text: str, classes: Optional[Sequence[str]], number: int) -> Optional[int]:
    """Index of the class, by name or number; None for 'predicted'.

    Raises:
        UserError: there is no such class.
    """
    if text == 'predicted':
        return None
    if classes and text in classes:
        return list(classes).index(text)
    if text.isdigit() and int(text) < number:
        return int(text)
    known = (
        f': {", ".join(map(str, classes[:10]))}{", ..." if len(classes) > 10 else ""}'
        if classes
        else ''
    )
    raise UserError(f'--target {text} is no class{known}; or a number from 0 to {number - 1}')


def look(column: Column, file: Path, args: argparse.Namespace) -> tuple[np.ndarray, Map]:
    """The image as a network sees it, and its map."""
    from pytorch_grad_cam.utils.image import show_cam_on_image

    inputs = preprocess(column.classifier, file)
    with torch.no_grad():
        scores = column.model(inputs).softmax(1)[0]
    classes = column.classifier.classes
    target = target_of(args.target, classes, len(scores))
    predicted = int(scores.argmax()) if target is None else target
    found = class_map(column.model, inputs, column.layer, predicted, args.method)
    picture = as_picture(column.classifier, inputs)
    overlay = show_cam_on_image(picture, found, use_rgb=True, image_weight=0.5)
    label = str(classes[predicted]) if classes else f'class {predicted}'
    return picture, Map(overlay, label, float(scores[predicted]))


def draw(
    rows: Sequence[tuple[str, np.ndarray, list[Map]]], titles: Sequence[str], file: Path
) -> None:
    """Images in rows, networks in columns."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    columns = len(titles) + 1
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(2.6 * columns, 3.1 * len(rows)),
        squeeze=False,
        layout='constrained',
    )
    for line, (name, picture, maps) in zip(axes, rows):
        line[0].imshow(picture)
        line[0].set_title(name if len(name) <= 24 else f'{name[:21]}...', fontsize=9)
        for axis, title, seen in zip(line[1:], titles, maps):
            axis.imshow(seen.overlay)
            axis.set_title(title, fontsize=9)
            axis.set_xlabel(f'{seen.label}, {100 * seen.score:.0f} %', fontsize=9)
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
    save(figure, file)


def run(args: argparse.Namespace) -> None:
    """The command. Raises UserError if it cannot be done."""
    files = images_of(args.image)
    classifier = load_classifier(args, stock=True)
    columns: list[Column] = []

    def add(title: str, its: TrainedClassifier, model: nn.Module) -> None:
        layer = args.layer or last_layer(model, preprocess(its, files[0]))
        columns.append(Column(title, its, model, layer))

    if args.baseline:
        config, checkpoint = args.baseline
        its = argparse.Namespace(
            **{**vars(args), 'config': config, 'checkpoint': checkpoint, 'name': None}
        )
        baseline = load_classifier(its, stock=True)
        add('baseline', baseline, baseline.model)
    if args.width:
        images = classifier.training_images(args.recalibrate) if args.recalibrate else []
        # Two of it: in training mode, batch norms do not take a single value a channel.
        example = preprocess(classifier, files[0]).repeat(2, 1, 1, 1)
        plan(classifier, example)
        for width in args.width:
            small = take_out(classifier, width)
            if images:
                batches = track(images, f'statistics, width {width:g}', console=CONSOLE)
                recalibrate_statistics(small, batches)
            add(f'sub-network, w = {width:g}', classifier, small)
    add('full network', classifier, classifier.model)

    out = args.out or Path('work_dirs') / 'cam' / classifier.name
    titles = [column.title for column in columns]
    rows = []
    for file in track(files, 'maps', console=CONSOLE):
        found = [look(column, file, args) for column in columns]
        rows.append((file.name, found[-1][0], [seen for _, seen in found]))
        draw(rows[-1:], titles, out / f'{file.stem}_cam.png')
    if len(rows) > 1:
        draw(rows[:OVERVIEW_ROWS], titles, out / 'overview.png')
    lines = [
        [name, *(f'{seen.label} {100 * seen.score:.1f} %' for seen in maps)]
        for name, _, maps in rows
    ]
    notes = ''
    if args.width:
        notes = "Sub-networks: with the full network's batch norm statistics."
        if args.recalibrate:
            number = sum(len(batch) for batch in images)
            notes = f'Sub-networks: batch norm statistics measured on {number} training images.'
    show(Grid('', ['', *titles], lines, notes))
    print(
        f'\nWritten to {short(out)}: {", ".join(sorted(path.name for path in out.glob("*.png")))}'
    )
