"""The images of ImageNet-C, of CIFAR-C, or test images corrupted like them, one set after the other."""

import argparse
import copy
from collections.abc import Iterator
from typing import Any, Optional

from mmgradaug.config_types import short_name
from mmgradaug.datasets import Corrupt, cifar_c_file, imagenet_c_folder
from mmgradaug.files import UserError
from mmgradaug.wrapped_datasets import evenly_spread

from .shown import CORRUPTIONS, SEVERITIES
from .trained_classifier import TrainedClassifier

RESIZING = ('Resize', 'ResizeEdge')


class Sets:
    """Makes the images of one set after the other.

    Raises:
        UserError: the config has no test set with a pipeline of its own.
    """

    def __init__(self, classifier: TrainedClassifier, args: argparse.Namespace) -> None:
        self.classifier, self.args = classifier, args
        self.corrupted: Optional[Any] = None
        dataset = (classifier.cfg.get('test_dataloader') or {}).get('dataset')
        if dataset is None or 'pipeline' not in dataset:
            raise UserError(
                f'{classifier.config}: '
                + ('there is no test set' if dataset is None else f'{dataset.type} has no pipeline')
                + '. Corruptions are put into test_dataloader.dataset.pipeline: write the data set '
                'there itself, without a wrapper'
            )
        self.cfg = copy.deepcopy(dataset.to_dict())
        self.loads = any(short_name(step) == 'LoadImageFromFile' for step in self.cfg['pipeline'])
        # A preprocessor turns BGR, which MMCV loads, into RGB.
        self.to_rgb = bool(getattr(classifier.model.data_preprocessor, 'to_rgb', False))

    def get(self, corruption: str, severity: int) -> Any:
        """A dataset: the official images, or the config's test set with a corrupting step."""
        if self.args.imagenet_c or self.args.cifar_c:
            try:
                return self.classifier.test_set(self.official(corruption, severity))
            except ValueError as error:  # of arrays that are not what they should be
                raise UserError(str(error)) from error
        if self.corrupted is None:  # built once: of big sets that takes a while
            self.corrupted = self.classifier.test_set(self.corrupting(corruption, severity))
            self.corrupted = evenly_spread(self.corrupted, self.args.max_images)
        (step,) = (s for s in self.corrupted.pipeline.transforms if isinstance(s, Corrupt))
        step.corruption, step.severity = corruption, severity
        return self.corrupted

    def official(self, corruption: str, severity: int) -> dict[str, Any]:
        """The dataset's config, with as much of the config's pipeline as fits its images."""
        return dict(
            type='mmgradaug.ImageNetC' if self.args.imagenet_c else 'mmgradaug.CIFARC',
            data_root=str(self.args.imagenet_c or self.args.cifar_c),
            corruption=corruption,
            severity=severity,
            num_classes=self.args.num_classes,
            serialize_data=False,
            pipeline=self.for_files() if self.args.imagenet_c else self.for_arrays(),
        )

    def for_files(self) -> list[dict[str, Any]]:
        """ImageNet-C's images have 224 pixels already, so they are not resized again."""
        steps = [step for step in self.cfg['pipeline'] if short_name(step) not in RESIZING]
        steps = [
            # It resizes what it has cropped.
            dict(type='CenterCrop', crop_size=step['crop_size'])
            if short_name(step) == 'EfficientNetCenterCrop'
            else step
            for step in steps
        ]
        if self.loads:
            return steps
        # The config's data set hands images out itself, in the order that the network takes.
        to_rgb = [] if self.to_rgb else reordered(from_bgr=True)
        return [dict(type='LoadImageFromFile'), *to_rgb, *steps]

    def for_arrays(self) -> list[dict[str, Any]]:
        """CIFAR-C's images are arrays in RGB order, like those of MMPretrain's CIFAR10."""
        steps = [step for step in self.cfg['pipeline'] if short_name(step) != 'LoadImageFromFile']
        return [*(reordered(from_bgr=False) if self.loads or self.to_rgb else []), *steps]

    def corrupting(self, corruption: str, severity: int) -> dict[str, Any]:
        """After resizing and cropping, as ImageNet-C was made."""
        cfg = copy.deepcopy(self.cfg)
        packing = [i for i, s in enumerate(cfg['pipeline']) if short_name(s).startswith('Pack')]
        step = dict(
            type='mmgradaug.Corrupt',
            corruption=corruption,
            severity=severity,
            seed=self.args.seed,
            bgr=self.loads or self.to_rgb,
        )
        cfg['pipeline'].insert(packing[0] if packing else len(cfg['pipeline']), step)
        return cfg

    def pipeline(self) -> list[dict[str, Any]]:
        """Of corrupted images."""
        official = self.args.imagenet_c or self.args.cifar_c
        made = self.official if official else self.corrupting
        return made(CORRUPTIONS[0], SEVERITIES[0])['pipeline']

    def present(self, corruption: str, severity: int) -> bool:
        """Whether the official files have it; raise UserError if they are for another network."""
        try:
            if self.args.imagenet_c:
                imagenet_c_folder(self.args.imagenet_c, corruption, severity, self.args.num_classes)
            elif self.args.cifar_c:
                cifar_c_file(self.args.cifar_c, corruption, self.args.num_classes)
        except FileNotFoundError:
            return False
        except ValueError as error:
            raise UserError(str(error)) from error
        return True


def reordered(from_bgr: bool) -> list[dict[str, Any]]:
    """MMPretrain's steps that turn BGR into RGB, or RGB into BGR."""
    return [
        dict(type='NumpyToPIL', to_rgb=from_bgr),
        dict(type='PILToNumpy', to_bgr=not from_bgr),
    ]


class Readable:
    """Batches of a loader, whose errors are the user's: broken files, images that cannot be corrupted."""

    def __init__(self, loader: Any, what: str) -> None:
        self.loader, self.what = loader, what

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self.loader
        except (AssertionError, OSError, ValueError, ImportError) as error:
            # Of a worker's error the last line; before it are the lines of code.
            reason = str(error).strip().splitlines()[-1:]
            raise UserError(f'{self.what}: an image cannot be used: {"".join(reason)}') from error
