"""A trained classifier with its test images, and the result files of commands that look at it."""

import argparse
import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
from mmengine.config import Config
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

import mmgradaug  # noqa: F401  registers our classes, whether or not the configs import them
from mmgradaug.config_types import class_of, default_scope
from mmgradaug.files import UserError, read_json, require_folder, short
from mmgradaug.launch import check_fits, load_config, parse_options, require_checkpoint
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

    def test_set(self, dataset: Optional[dict[str, Any]] = None) -> Any:
        """The config's test set, or another dataset's config instead; UserError if it cannot be read."""
        init_default_scope(default_scope(self.cfg, SCOPE))
        dataset = self.cfg.test_dataloader.dataset if dataset is None else dataset
        try:
            return DATASETS.build(dataset)
        except OSError as error:
            raise UserError(
                f'{self.config}: the test set cannot be read: {error}\nData elsewhere: --cfg-options '
                'test_dataloader.dataset.data_root=DIR'
            ) from error

    def loader(self, dataset: Any, limit: int = 0) -> Any:
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

    def batches(self, loader: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images as the network gets them, (N, C, H, W), normalised, and labels (N,); on the device."""
        for data in loader:
            data = self.model.data_preprocessor(data, False)
            samples = data['data_samples']
            if not all('gt_label' in s and s.gt_label.numel() == 1 for s in samples):
                raise UserError(
                    f'{self.config}: each test image has to have one label, as a class of its own'
                )
            labels = torch.cat([sample.gt_label.flatten() for sample in samples])
            yield data['inputs'], labels.to(data['inputs'].device)

    def logits(self, inputs: Tensor) -> Tensor:
        """(N, classes), of preprocessed images; with a graph where gradients are on."""
        return self.model(inputs)

    @torch.no_grad()
    def accuracy(self, model: nn.Module, loader: Any, what: str) -> float:
        """Top-1 in per cent of a network on this one's images; UserError if images have several labels."""
        if isinstance(self.model.head, MultiLabelClsHead):
            raise UserError(
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

        Raises UserError if there are none.
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
            raise UserError(
                f'{self.config}: the training set cannot be read: {error}\nData elsewhere: '
                '--cfg-options train_dataloader.dataset.data_root=DIR'
            ) from error
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
            raise UserError(f'{self.config}: the training set has no whole batch of images')
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
    """What the command line asks for: config, checkpoint, and how it is run.

    Args:
        args: with ``config``, ``checkpoint``, ``name``, ``cfg_options``, ``device``, ``batch_size`` and
            ``num_workers``.
        stock: build MMPretrain's own classifier for it, see :func:`stock_config`.

    Raises:
        UserError: config and checkpoint do not belong together, or are of no classifier; ``args.out`` cannot be
            written to.
    """
    if vars(args).get('out') is not None:
        require_folder(args.out)
    cfg = load_config(args.config, parse_options(args.cfg_options))
    require_checkpoint(args.checkpoint)
    init_default_scope(default_scope(cfg, SCOPE))
    model_cfg = dict(cfg.model)
    if model_cfg.get('data_preprocessor') is None:
        model_cfg['data_preprocessor'] = cfg.get('data_preprocessor')
    if stock:
        model_cfg = stock_config(model_cfg)
    model = revert_sync_batchnorm(MODELS.build(model_cfg))
    if not isinstance(model, ImageClassifier):
        raise UserError(f'{args.config} has no image classifier: its model is {cfg.model.type}')
    check_fits(model, args.checkpoint, args.config)
    loaded = load_checkpoint(model, args.checkpoint, map_location='cpu', logger='silent')
    device = args.device or get_device()
    model.to(device).eval()
    return TrainedClassifier(
        args.name or Path(args.config).stem,
        cfg,
        args.config,
        args.checkpoint,
        model,
        device,
        args.batch_size,
        args.num_workers,
        (loaded.get('meta') or {}).get('dataset_meta', {}).get('classes'),
    )


def results_beside(
    classifier: TrainedClassifier, files: Sequence[Path], kind: str
) -> list[dict[str, Any]]:
    """Other models' results, to be shown beside this one's; UserError if two have the same name."""
    others = read_results(files, kind)
    names = [classifier.name, *(other['model']['name'] for other in others)]
    if len(set(names)) < len(names):
        raise UserError(
            f'models of the same name: {", ".join(names)}. Give this one another by --name'
        )
    return others


def read_results(files: Sequence[Path], kind: str) -> list[dict[str, Any]]:
    """Result files of one command.

    Raises:
        UserError: one is something else.
    """
    found = []
    for file in files:
        data = read_json(file)
        if not isinstance(data, dict) or data.get('kind') != kind:
            raise UserError(f'{file} is no such result (it has no "kind": "{kind}")')
        found.append(data)
    return found


def result_file(args: argparse.Namespace, name: str, folder: str, kind: str) -> Path:
    """Where a command's result goes.

    Raises:
        UserError: there is one already, and ``--overwrite`` was not given.
    """
    file = (args.out or Path('work_dirs') / folder / name) / f'{kind}.json'
    if file.exists() and not args.overwrite:
        raise UserError(f'{short(file)} is there already: use another --out, or --overwrite')
    return file
