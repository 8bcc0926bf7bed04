"""What tools that look at a trained classifier share: loading it, its test images, result files."""

import argparse
import copy
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
from common import check_fits, load_config, require_checkpoint
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint, set_random_seed
from mmpretrain.models import ImageClassifier
from mmpretrain.models.heads import MultiLabelClsHead
from mmpretrain.registry import DATASETS, MODELS
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import mmgradaug  # noqa: F401  registers our classes, whether or not the configs import them
from mmgradaug.config_types import class_of, default_scope
from mmgradaug.models import (
    GradAugClassifier,
    GradAugSemiClassifier,
    MeanTeacherClassifier,
    SemiClsDataPreprocessor,
    SlimmableResNet,
)
from mmgradaug.models.regularizers import DistillationClsDataPreprocessor, DistillationClsHead
from mmgradaug.wrapped_datasets import evenly_spread

CONSOLE = Console(stderr=True)  # progress bars; results go to standard output
SCOPE = 'mmpretrain'  # of configs that name none
# Ours that only train otherwise.
STOCK_TYPES = {
    GradAugClassifier: 'ImageClassifier',
    GradAugSemiClassifier: 'ImageClassifier',
    MeanTeacherClassifier: 'ImageClassifier',
    SemiClsDataPreprocessor: 'ClsDataPreprocessor',
    DistillationClsDataPreprocessor: 'ClsDataPreprocessor',
    DistillationClsHead: 'LinearClsHead',
    SlimmableResNet: 'ResNet',
}


@dataclass
class TrainedClassifier:
    """A classifier with its weights, in eval mode on the device, and what it was made for.

    Args:
        name: in tables and pictures.
        cfg: its config, with the command line's options.
        config: the config's file.
        checkpoint: the checkpoint's file, or its address.
        model: with its data preprocessor.
        device: 'cpu', 'cuda', ...
        batch_size: of test images; None for the config's.
        num_workers: likewise.
        classes: names, where the checkpoint has them.
    """

    name: str
    cfg: Config
    config: str
    checkpoint: str
    model: ImageClassifier
    device: str
    batch_size: Optional[int] = None
    num_workers: Optional[int] = None
    classes: Optional[Sequence[str]] = None

    @property
    def identity(self) -> dict[str, str]:
        """What is written into result files, and tells whether a half-done file is of this model."""
        return dict(
            name=self.name,
            config=self.config,
            checkpoint=self.checkpoint,
            weights=weights_digest(self.model),
        )

    def test_set(self, dataset: Optional[dict[str, Any]] = None) -> Dataset:
        """The config's test set, or another dataset's config instead; exit if it cannot be read."""
        init_default_scope(default_scope(self.cfg, SCOPE))
        dataset = self.cfg.test_dataloader.dataset if dataset is None else dataset
        try:
            return DATASETS.build(dataset)
        except OSError as error:
            sys.exit(
                f'{self.config}: the test set cannot be read: {error}\nData elsewhere: --cfg-options '
                'test_dataloader.dataset.data_root=DIR'
            )

    def loader(self, dataset: Dataset, limit: int = 0) -> DataLoader:
        """Batches of a dataset, in order, each image once; with ``limit`` cut down to as many, evenly spread."""
        dataset = evenly_spread(dataset, limit)
        cfg = dict(self.cfg.test_dataloader, dataset=dataset)
        cfg['sampler'] = dict(type='DefaultSampler', shuffle=False)
        for key, value in (('batch_size', self.batch_size), ('num_workers', self.num_workers)):
            if value is not None:
                cfg[key] = value
        if cfg.get('num_workers', 0) == 0:
            cfg['persistent_workers'] = False
        return Runner.build_dataloader(cfg)

    def batches(self, loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
        """Images as the network gets them, (N, C, H, W), normalised, and labels (N,); on the device."""
        for data in loader:
            data = self.model.data_preprocessor(data, False)
            samples = data['data_samples']
            if not all('gt_label' in s and s.gt_label.numel() == 1 for s in samples):
                sys.exit(
                    f'{self.config}: each test image has to have one label, as a class of its own'
                )
            labels = torch.cat([sample.gt_label.flatten() for sample in samples])
            yield data['inputs'], labels.to(data['inputs'].device)

    def logits(self, inputs: Tensor) -> Tensor:
        """(N, classes), of preprocessed images; with a graph where gradients are on."""
        return self.model(inputs)

    @torch.no_grad()
    def accuracy(self, model: nn.Module, loader: DataLoader, what: str) -> float:
        """Top-1 in per cent of a network on this one's images; exit if images have several labels."""
        if isinstance(self.model.head, MultiLabelClsHead):
            sys.exit(
                f'{self.config}: {type(self.model.head).__name__} answers a question for each class, so '
                'there is no top-1: this works for heads with one softmax over the classes'
            )
        correct = number = 0
        batches = track(self.batches(loader), what, total=len(loader), console=CONSOLE)
        for inputs, labels in batches:
            correct += int((model(inputs).argmax(1) == labels).sum())
            number += len(labels)
        return 100.0 * correct / number

    def training_images(self, limit: int) -> list[Tensor]:
        """About ``limit`` preprocessed training images, (N, C, H, W) each, augmented but not mixed.

        The same at each call: augmentation and order are drawn from the seed 0.

        Exit if there are none.
        """
        init_default_scope(default_scope(self.cfg, SCOPE))
        cfg = copy.deepcopy(self.cfg.train_dataloader)
        if self.num_workers is not None:
            cfg.num_workers = self.num_workers
        if cfg.get('num_workers', 0) == 0:
            cfg.persistent_workers = False
        try:
            loader = Runner.build_dataloader(cfg, seed=0)
        except OSError as error:
            sys.exit(
                f'{self.config}: the training set cannot be read: {error}\nData elsewhere: '
                '--cfg-options train_dataloader.dataset.data_root=DIR'
            )
        set_random_seed(0)
        found: list[Tensor] = []
        number = 0
        for data in loader:
            # Without labels, which unlabelled images lack.
            images = self.model.data_preprocessor(dict(inputs=data['inputs']), False)['inputs']
            if len(images) == 1 and found:  # of an epoch's last image there may be no variance
                break
            found.append(images)
            number += len(images)
            # Infinite samplers go on after the last image.
            if number >= min(limit, len(loader.dataset)):
                break
        if not found:
            sys.exit(f'{self.config}: the training set has no whole batch of images')
        return found


def weights_digest(model: torch.nn.Module) -> str:
    """Names weights and buffers by what is in them, wherever they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()[:16]


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG CHECKPOINT and what says how they are run."""
    parser.add_argument('config', help='the config that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='a .pth file')
    parser.add_argument(
        '--name', help="of the model in tables and pictures (default: the config's)"
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. test_dataloader.dataset.data_root=DIR',
    )
    parser.add_argument(
        '--device', default=get_device(), help='cpu, cuda, cuda:1, ... (default here: %(default)s)'
    )
    parser.add_argument(
        '--batch-size', type=positive, metavar='N', help="of test images (default: the config's)"
    )
    parser.add_argument(
        '--num-workers', type=int, metavar='N', help="loading images (default: the config's)"
    )


def add_result_arguments(parser: argparse.ArgumentParser, folder: str) -> None:
    """How much is tested, beside what it is shown, and where it goes: below work_dirs/, ``folder``."""
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
        help="other models' results of this tool, to be shown beside",
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help=f'default: work_dirs/{folder}/NAME')
    parser.add_argument('--overwrite', action='store_true', help='replace an earlier result')


def positive(text: str) -> int:
    """Of an argument: a whole number from 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number from 1, got {text!r}')
    return value


def width_of(text: str) -> float:
    """Of an argument: the width of a sub-network."""
    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if not 0.0 < width <= 1.0:
        raise argparse.ArgumentTypeError(f'a width is in (0, 1], 0.9 for instance; got {text!r}')
    return width


def stock_config(model: dict[str, Any]) -> dict[str, Any]:
    """A classifier's config as MMPretrain's own, which has the same weights under the same names.

    Backbones that MMPretrain lacks stay.
    """
    model = copy.deepcopy(dict(model))
    model['type'] = _stock_type(model)
    for key in ('gradaug', 'mean_teacher'):
        model.pop(key, None)
    for key in ('backbone', 'data_preprocessor', 'head'):
        part = model.get(key) or {}
        # Regularizers of blocks: ShakeDrop scales branches in the test too.
        if part.get('type') is not None and not part.get('regularizers'):
            stock = _stock_type(part)
            if stock != part['type']:
                part['type'] = stock
                part.pop('regularizers', None)
    for key in ('teacher', 'teacher_checkpoint'):
        (model.get('data_preprocessor') or {}).pop(key, None)
    for key in ('temperature', 'hard_weight'):
        model['head'].pop(key, None)
    return model


def _stock_type(part: dict[str, Any]) -> Any:
    """MMPretrain's name where a part is one of ours, else its own type."""
    return STOCK_TYPES.get(class_of(part, MODELS, SCOPE), part['type'])


def load_classifier(args: argparse.Namespace, stock: bool = False) -> TrainedClassifier:
    """What :func:`add_model_arguments` asked for; exit if the two do not belong together.

    Args:
        stock: build MMPretrain's own classifier for it, see :func:`stock_config`.
    """
    args = argparse.Namespace(
        **{'launcher': 'none', 'work_dir': None, 'local_rank': 0, **vars(args)}
    )
    cfg = load_config(args)
    require_checkpoint(args.checkpoint)
    init_default_scope(default_scope(cfg, SCOPE))
    model_cfg = dict(cfg.model)
    if model_cfg.get('data_preprocessor') is None:
        model_cfg['data_preprocessor'] = cfg.get('data_preprocessor')
    if stock:
        model_cfg = stock_config(model_cfg)
    model = revert_sync_batchnorm(MODELS.build(model_cfg))
    if not isinstance(model, ImageClassifier):
        sys.exit(f'{args.config} has no image classifier: its model is {cfg.model.type}')
    check_fits(model, args.checkpoint, args.config)
    loaded = load_checkpoint(model, args.checkpoint, map_location='cpu', logger='silent')
    model.to(args.device).eval()
    return TrainedClassifier(
        args.name or Path(args.config).stem,
        cfg,
        args.config,
        args.checkpoint,
        model,
        args.device,
        args.batch_size,
        args.num_workers,
        (loaded.get('meta') or {}).get('dataset_meta', {}).get('classes'),
    )


def write_whole(file: Path, text: str) -> None:
    """Write a text file in one move: whoever stops the tool leaves the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f'.{file.name}.')
    with os.fdopen(handle, 'w') as stream:
        stream.write(text)
    os.chmod(temporary, 0o666 & ~_umask())
    os.replace(temporary, file)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def results_beside(
    classifier: TrainedClassifier, files: Sequence[Path], kind: str
) -> list[dict[str, Any]]:
    """Other models' results, to be shown beside this one's; exit if two have the same name."""
    others = read_results(files, kind)
    names = [classifier.name, *(other['model']['name'] for other in others)]
    if len(set(names)) < len(names):
        sys.exit(f'models of the same name: {", ".join(names)}. Give this one another by --name')
    return others


def read_results(files: Sequence[Path], kind: str) -> list[dict[str, Any]]:
    """Result files of the same tool, to be shown beside the new one; exit if one is something else."""
    found = []
    for file in files:
        try:
            data = json.loads(Path(file).read_text())
        except OSError as error:
            sys.exit(f'{file}: {error.strerror}')
        except ValueError:
            sys.exit(f'{file} is not JSON')
        if not isinstance(data, dict) or data.get('kind') != kind:
            sys.exit(
                f'{file} is no result of {Path(sys.argv[0]).name} (it has no "kind": "{kind}")'
            )
        found.append(data)
    return found
