"""Arguments of the commands that look at trained networks. Imports no torch, so that --help is quick."""

import argparse
from collections.abc import Callable
from pathlib import Path

from .corruption_error import ALEXNET_ERRORS

EPSILONS = (0.05, 0.10, 0.15, 0.20, 0.25)  # Table 9
WIDTHS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
SPACES = ('pixel', 'normalised')
# Of grad-cam, by the name of the class.
CAM_METHODS = {
    'gradcam': 'GradCAM',
    'gradcam++': 'GradCAMPlusPlus',
    'hirescam': 'HiResCAM',
    'xgradcam': 'XGradCAM',
    'layercam': 'LayerCAM',
    'eigencam': 'EigenCAM',
    'scorecam': 'ScoreCAM',
}

Add = Callable[[str, str, str, str], argparse.ArgumentParser]


def add_evaluations(add: Add) -> None:
    """robustness, fgsm, cam, extract, width-curve, detections.

    Args:
        add: makes a command from its name, summary, function and example.
    """
    for part in (_robustness, _fgsm, _cam, _extract, _width_curve, _detections):
        part(add)


def _robustness(add: Add) -> None:
    parser = add(
        'robustness',
        "test a classifier on ImageNet-C (Table 8) or CIFAR-C; without either the config's test images are "
        'corrupted here, which is not comparable with the official ones; stopped, the same command goes on',
        'evaluation.robustness:run',
        'CONFIG CHECKPOINT --imagenet-c data/imagenet-c --compare work_dirs/robustness/baseline/robustness.json',
    )
    _model(parser)
    official = parser.add_mutually_exclusive_group()
    official.add_argument(
        '--imagenet-c',
        type=folder,
        metavar='PATH',
        help='the official images: gaussian_noise/1/n01440764/..., or noise/gaussian_noise/...',
    )
    official.add_argument(
        '--cifar-c',
        type=folder,
        metavar='PATH',
        help='folder CIFAR-10-C or CIFAR-100-C: gaussian_noise.npy, ..., labels.npy',
    )
    names = tuple(ALEXNET_ERRORS)
    parser.add_argument(
        '--corruptions',
        nargs='+',
        choices=names,
        default=names,
        metavar='NAME',
        help=f'some of: {", ".join(names)} (default: all)',
    )
    parser.add_argument(
        '--severities',
        nargs='+',
        type=int,
        choices=range(1, 6),
        default=range(1, 6),
        metavar='S',
        help='some of 1 to 5 (default: all)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, metavar='N', help='of corrupting images here (default: 0)'
    )
    parser.add_argument('--no-clean', action='store_true', help='leave the clean test images out')
    _result(parser, 'robustness')


def _fgsm(add: Add) -> None:
    parser = add(
        'fgsm',
        'attack the test images of a classifier by the fast gradient sign method (Table 9): white box, true '
        'labels; in all four readings of the paper, which does not say its space nor whether it clamps',
        'evaluation.attack:run',
        'CONFIG CHECKPOINT --eps 0.05 0.10 --compare work_dirs/fgsm/*/fgsm.json',
    )
    _model(parser)
    parser.add_argument(
        '--eps',
        type=epsilon,
        nargs='+',
        default=EPSILONS,
        metavar='E',
        help=f"severities (default: {' '.join(f'{eps:g}' for eps in EPSILONS)}, the paper's)",
    )
    parser.add_argument(
        '--space',
        nargs='+',
        choices=SPACES,
        default=SPACES,
        help='what epsilon is for: pixels in [0, 1], or the preprocessed image (default: both)',
    )
    parser.add_argument(
        '--clamp',
        nargs='+',
        choices=('yes', 'no'),
        default=('yes', 'no'),
        help='whether attacked pixels are kept in [0, 255] (default: both)',
    )
    _result(parser, 'fgsm')


def _cam(add: Add) -> None:
    parser = add(
        'cam',
        'draw where a classifier looks: class activation maps of a baseline, of sub-networks and of the '
        'full network side by side (Figure 1)',
        'evaluation.cam:run',
        'CONFIG CHECKPOINT photos/ --width 0.9 --baseline CONFIG_B CHECKPOINT_B',
    )
    _model(parser)
    parser.add_argument('image', type=Path, help='an image, or a folder of images')
    parser.add_argument(
        '--width', type=width, nargs='+', default=[], metavar='W', help='of sub-networks, in (0, 1]'
    )
    parser.add_argument(
        '--baseline', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='a network to be shown beside'
    )
    parser.add_argument(
        '--recalibrate',
        type=int,
        default=512,
        metavar='N',
        help="training images on which sub-networks' batch norm statistics are measured; 0 for the full "
        "network's statistics (default: 512)",
    )
    parser.add_argument(
        '--target',
        default='predicted',
        metavar='CLASS',
        help="of which class: a name, a number, or 'predicted', each network's own (default)",
    )
    parser.add_argument(
        '--layer', metavar='NAME', help="default: the one that gives the backbone's last map"
    )
    parser.add_argument(
        '--method', choices=CAM_METHODS, default='gradcam', help='of grad-cam (default: gradcam)'
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help='default: work_dirs/cam/NAME')


def _extract(add: Add) -> None:
    parser = add(
        'extract',
        'take a sub-network out of a trained classifier: a smaller network of its own for stock MMPretrain, '
        'on request as ONNX, with batch norm statistics measured on training images',
        'evaluation.extract:run',
        'CONFIG CHECKPOINT --width 0.9 --onnx',
    )
    _model(parser)
    parser.add_argument(
        '--width',
        type=width,
        required=True,
        metavar='W',
        help='in (0, 1]: the share of channels kept',
    )
    _recalibrate(parser)
    parser.add_argument(
        '--average-widths',
        type=width,
        nargs='+',
        metavar='W',
        help='take the mean of the statistics of the sub-networks of these widths, none below --width, '
        'in place of its own',
    )
    parser.add_argument('--onnx', action='store_true', help='write an ONNX file too, and check it')
    parser.add_argument('--no-test', action='store_true', help='leave the accuracies out')
    parser.add_argument(
        '--latency-batch', type=positive, default=1, metavar='N', help='images (default: 1)'
    )
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='default: work_dirs/extracted/NAME_wW'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace what is in --out')


def _width_curve(add: Add) -> None:
    parser = add(
        'width-curve',
        'test sub-networks of several widths of one checkpoint, with statistics of their own and the full '
        "network's; a checkpoint that was trained without GradAug shows what its first channels are worth",
        'evaluation.width_curve:run',
        'CONFIG CHECKPOINT --compare work_dirs/width_curves/*/width_curve.json',
    )
    _model(parser)
    parser.add_argument(
        '--widths',
        type=width,
        nargs='+',
        default=WIDTHS,
        metavar='W',
        help=f'in (0, 1] (default: {" ".join(f"{w:g}" for w in WIDTHS)})',
    )
    _recalibrate(parser)
    _result(parser, 'width_curves')


def _detections(add: Add) -> None:
    parser = add(
        'detections',
        'draw the ground truth and what detectors find (boxes, masks, classes, scores) side by side',
        'evaluation.detections:run',
        'configs/coco/baseline_mask_rcnn_r50.py plain.pth --also configs/mask_rcnn_gradaug.py gradaug.pth '
        '--titles plain GradAug --num 4',
    )
    parser.add_argument('config', help='the config that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='a .pth file')
    parser.add_argument(
        '--also',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a further model; may be given several times',
    )
    parser.add_argument(
        '--titles',
        nargs='+',
        metavar='TITLE',
        help="one for each model, in the order of the models (default: the configs' names)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        '--num',
        type=positive,
        default=8,
        metavar='N',
        help='the first N images of the test set (default: 8)',
    )
    which.add_argument(
        '--indices', type=int, nargs='+', metavar='I', help='these images, counted from 0'
    )
    which.add_argument('--ids', type=int, nargs='+', metavar='ID', help='these images, by COCO id')
    parser.add_argument(
        '--score-thr',
        type=score,
        default=0.3,
        metavar='SCORE',
        help='draw detections with a higher score only (default: 0.3)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help="where the pictures go (default: detections in the first config's work dir)",
    )
    _cfg_options(parser)


# Arguments of several commands


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help='the config that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='a .pth file')
    parser.add_argument(
        '--name', help="of the model in tables and pictures (default: the config's)"
    )
    _cfg_options(parser)
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument(
        '--batch-size', type=positive, metavar='N', help="of test images (default: the config's)"
    )
    parser.add_argument(
        '--num-workers', type=int, metavar='N', help="loading images (default: the config's)"
    )


def _cfg_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. test_dataloader.dataset.data_root=DIR',
    )


def _recalibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--recalibrate',
        type=positive,
        default=2048,
        metavar='N',
        help='training images for the statistics, in whole batches (default: 2048)',
    )


def _result(parser: argparse.ArgumentParser, where: str) -> None:
    parser.add_argument(
        '--max-images',
        type=positive,
        default=0,
        metavar='N',
        help='test on N images alone, evenly spread over the test set',
    )
    parser.add_argument(
        '--compare',
        type=Path,
        nargs='+',
        default=[],
        metavar='JSON',
        help="other models' results of this command, to be shown beside",
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help=f'default: work_dirs/{where}/NAME')
    parser.add_argument('--overwrite', action='store_true', help='replace an earlier result')


def positive(text: str) -> int:
    """Of an argument: a whole number from 1."""
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number from 1, got {text!r}')
    return value


def width(text: str) -> float:
    """Of an argument: the width of a sub-network."""
    value = _number(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f'a width is in (0, 1], 0.9 for instance; got {text!r}')
    return value


def epsilon(text: str) -> float:
    """Of an argument: how far FGSM moves images."""
    value = _number(text)
    if not 0.0 <= value < float('inf'):
        raise argparse.ArgumentTypeError(f'an epsilon is 0 or more, got {text!r}')
    return value


def score(text: str) -> float:
    """Of an argument: of a detection."""
    value = _number(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f'a score is from 0 to 1, got {text!r}')
    return value


def folder(text: str) -> Path:
    """Of an argument: a folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f'no such folder: {text}')
    return Path(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0
