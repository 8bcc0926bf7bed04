"""``mmgradaug detections``: what detectors find in the test images, side by side with the ground truth.

The test set is the first config's; each model sees the images through its own config's test pipeline.
"""

import argparse
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import mmcv
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.apis import inference_detector
from mmdet.models.detectors import BaseDetector
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData

import mmgradaug  # noqa: F401  registers our classes, whether or not the configs import them
from mmgradaug.arguments import shown
from mmgradaug.categories import wrong_categories
from mmgradaug.config_types import default_scope
from mmgradaug.files import UserError, require_folder
from mmgradaug.launch import check_fits, load_config, parse_options, require_checkpoint

GROUND_TRUTH = 'ground truth'
LEGIBLE = 480  # pixels; names and scores fit on images whose longer side has as many
GAP = 8  # pixels between columns and rows
STRIP = 28  # pixels, the height of a line of text
OVERVIEW = 'overview.png'


class Detector:
    """A model with its weights, and the test pipeline that it was made for."""

    def __init__(self, cfg: Config, config: str, checkpoint: str) -> None:
        """Raises UserError if they do not belong together."""
        init_default_scope(default_scope(cfg, 'mmdet'))
        # As mmdet.apis.init_detector, which however loads whatever fits before it can be checked.
        self.model = revert_sync_batchnorm(MODELS.build(cfg.model))
        if not isinstance(self.model, BaseDetector):
            raise UserError(
                f'{config} has no detector of MMDetection: its model is {cfg.model.type}'
            )
        check_fits(self.model, checkpoint, config)
        meta = load_checkpoint(self.model, checkpoint, map_location='cpu').get('meta', {})
        self.classes: Optional[Sequence[str]] = meta.get('dataset_meta', {}).get('classes')
        self.checkpoint = checkpoint
        self.model.cfg = cfg  # inference_detector looks for it
        self.model.to(get_device()).eval()
        self.pipeline = Compose(get_test_pipeline_cfg(cfg))

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raises UserError if it was trained with other classes: labels would get names at random."""
        if self.classes is not None and list(self.classes) != list(classes):
            raise UserError(
                f'{self.checkpoint} was trained with the classes {shown(self.classes)}, the '
                f'test set has {shown(classes)}'
            )

    def detect(self, image_path: str, score_thr: float, num_classes: int) -> InstanceData:
        found = inference_detector(self.model, image_path, self.pipeline).pred_instances.cpu()
        if (found.labels >= num_classes).any():
            raise UserError(
                f'{self.checkpoint} found something of class {int(found.labels.max())}; the test '
                f'set has classes 0 to {num_classes - 1}: the model is for another data set'
            )
        return found[found.scores > score_thr]


class TestSet:
    """The images of a config's test set, and what there is to be found in them."""

    def __init__(self, cfg: Config, config: str) -> None:
        """Raises UserError if the data is not there, or its labels are not those of the names."""
        init_default_scope(default_scope(cfg, 'mmdet'))
        try:
            self.dataset = DATASETS.build(cfg.test_dataloader.dataset)
        except OSError as error:
            raise UserError(
                f'{config}: the test set cannot be read: {error}\nData elsewhere: --cfg-options '
                'test_dataloader.dataset.data_root=DIR/'
            ) from error
        except ValueError as error:
            # NumPy's, when MMEngine packs the annotations of no image at all.
            if 'at least one array' not in str(error):
                raise
            raise UserError(
                f'{config}: the test set has no image: write another file of annotations, --cfg-options '
                'test_dataloader.dataset.ann_file=FILE'
            ) from error
        for problem in wrong_categories(self.dataset):
            raise UserError(f'{config}: the test set: {problem}')
        self.classes: Sequence[str] = self.dataset.metainfo['classes']
        self.load_image = Compose(get_test_pipeline_cfg(cfg)[:1])

    def choose(self, args: argparse.Namespace) -> list[int]:
        """The indices that the command line asks for; UserError if there is no such image."""
        length = len(self.dataset)
        if args.ids is not None:
            index_of = {self.dataset.get_data_info(i)['img_id']: i for i in range(length)}
            unknown = [number for number in args.ids if number not in index_of]
            if unknown:
                raise UserError(f'--ids: the test set has no image with the id {unknown[0]}')
            return [index_of[number] for number in args.ids]
        if args.indices is not None:
            wrong = [index for index in args.indices if not 0 <= index < length]
            if wrong:
                raise UserError(
                    f'--indices: the test set has images 0 to {length - 1}, not {wrong[0]}'
                )
            return args.indices
        return list(range(min(args.num, length)))

    def read(self, index: int) -> tuple[dict[str, Any], np.ndarray, InstanceData]:
        """What is known of an image, its RGB pixels, and all that is annotated in it.

        The annotations do not come from the test pipeline, which may lack or resize them.
        """
        data = self.dataset.get_data_info(index)
        has_masks = all('mask' in instance for instance in data['instances'])
        load = dict(type='LoadAnnotations', with_bbox=True, with_mask=has_masks)
        try:
            data = Compose([load])(self.load_image(data))
        except OSError as error:
            raise UserError(f'image {index} of the test set cannot be read: {error}') from error
        ignored = [' (ignored)' if flag else '' for flag in data['gt_ignore_flags']]
        labels = torch.as_tensor(data['gt_bboxes_labels'])
        truth = InstanceData(
            bboxes=data['gt_bboxes'].tensor,
            labels=labels,
            label_names=[self.classes[label] + more for label, more in zip(labels, ignored)],
        )
        if has_masks:
            truth.masks = torch.from_numpy(data['gt_masks'].to_ndarray().astype(bool))
        return data, data['img'][..., ::-1].astype(np.uint8), truth


class Painter:
    """Draws with MMDetection's visualizer, small images enlarged so that the text is legible."""

    def __init__(self, dataset_meta: dict[str, Any]) -> None:
        self.visualizer = DetLocalVisualizer(line_width=2, alpha=0.6)
        self.visualizer.dataset_meta = dataset_meta

    def draw(self, image: np.ndarray, instances: InstanceData) -> np.ndarray:
        factor = max(1, round(LEGIBLE / max(image.shape[:2])))
        image = image.repeat(factor, 0).repeat(factor, 1)
        larger = instances.new()
        larger.bboxes = instances.bboxes * factor
        if 'masks' in instances:
            larger.masks = instances.masks.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        np.random.seed(0)  # the visualizer varies the masks' colours by NumPy's global generator
        # Detections too: the score threshold has been applied, and would be missed by the truth.
        sample = DetDataSample(gt_instances=larger)
        with warnings.catch_warnings():  # every box at the border is 'out of bounds'
            warnings.filterwarnings('ignore', '.* is out of bounds', UserWarning)
            self.visualizer.add_datasample('', image, sample, draw_gt=True, draw_pred=False)
        return self.visualizer.get_image()

    def text(self, text: str, width: int) -> np.ndarray:
        """A white strip with a line of text in the middle, as large as fits."""
        self.visualizer.set_image(np.full((STRIP, width, 3), 255, np.uint8))
        size = min(12.0, 1.2 * width / max(1, len(text)))
        self.visualizer.draw_texts(
            text,
            np.array([width / 2, STRIP / 2]),
            font_sizes=size,
            colors='k',
            vertical_alignments='center',
            horizontal_alignments='center',
        )
        return self.visualizer.get_image()

    def titles(self, titles: Sequence[str], width: int) -> np.ndarray:
        return side_by_side([self.text(title, width) for title in titles], width)


def side_by_side(cells: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Images of one height in columns of one width."""
    columns = []
    for cell in cells:
        columns.append(
            np.pad(cell, ((0, 0), (0, width - cell.shape[1]), (0, 0)), constant_values=255)
        )
        columns.append(np.full((cell.shape[0], GAP, 3), 255, np.uint8))
    return np.concatenate(columns[:-1], axis=1)


def overview(
    painter: Painter, titles: Sequence[str], rows: dict[str, list[np.ndarray]]
) -> np.ndarray:
    """All rows below one another, each above the name of its image."""
    width = max(cell.shape[1] for cells in rows.values() for cell in cells)
    lines = [painter.titles(titles, width)]
    for name, cells in rows.items():
        caption = painter.text(name, lines[0].shape[1])
        lines += [side_by_side(cells, width), caption, np.full_like(caption[:GAP], 255)]
    return np.concatenate(lines)


def default_titles(models: Sequence[tuple[str, str]]) -> list[str]:
    """The configs' names; where these are alike, the checkpoints' too."""
    names = [Path(config).stem for config, _ in models]
    times = Counter(names)
    return [
        name
        if times[name] == 1
        else f'{name}, {Path(checkpoint).parent.name}/{Path(checkpoint).stem}'
        for name, (_, checkpoint) in zip(names, models)
    ]


def load_configs(args: argparse.Namespace) -> list[Config]:
    configs = []
    for config, checkpoint in [(args.config, args.checkpoint), *args.also]:
        cfg = load_config(config, parse_options(args.cfg_options))
        require_checkpoint(checkpoint)
        cfg.test_dataloader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
        if cfg.test_dataloader is None:
            raise UserError(f'{config} has neither test_dataloader nor val_dataloader')
        configs.append(cfg)
    return configs


def run(args: argparse.Namespace) -> None:
    """The command. Raises UserError if it cannot be done."""
    models = [(args.config, args.checkpoint), *args.also]
    if args.titles is not None and len(args.titles) != len(models):
        raise UserError(
            f'--titles: {len(args.titles)} for {len(models)} models; write one for each'
        )
    configs = load_configs(args)
    out_dir = args.out or Path(configs[0].work_dir) / 'detections'
    if out_dir.exists() and not out_dir.is_dir():
        raise UserError(f'--out: {out_dir} is not a folder; write another')
    require_folder(out_dir)
    detectors = [Detector(cfg, *model) for cfg, model in zip(configs, models)]
    test_set = TestSet(configs[0], args.config)
    for detector in detectors:
        detector.check_classes(test_set.classes)
    indices = test_set.choose(args)
    painter = Painter(test_set.dataset.metainfo)
    titles = [GROUND_TRUTH, *(args.titles or default_titles(models))]

    rows = {}
    for number, index in enumerate(indices, start=1):
        data, image, truth = test_set.read(index)
        found = [
            detector.detect(data['img_path'], args.score_thr, len(test_set.classes))
            for detector in detectors
        ]
        cells = [painter.draw(image, instances) for instances in (truth, *found)]
        width = cells[0].shape[1]
        picture = np.concatenate([painter.titles(titles, width), side_by_side(cells, width)])
        file = out_dir / f'{index:05d}_{Path(data["img_path"]).stem}.png'
        mmcv.imwrite(np.ascontiguousarray(picture[..., ::-1]), str(file))
        name = f'{Path(data["img_path"]).name}, index {index}, id {data["img_id"]}'
        rows[name] = [
            mmcv.imrescale(cell, (LEGIBLE, LEGIBLE)) if max(cell.shape) > LEGIBLE else cell
            for cell in cells
        ]
        counts = ', '.join(f'{title}: {len(one)}' for title, one in zip(titles, [truth, *found]))
        print(f'[{number}/{len(indices)}] {file} ({counts})', flush=True)
    sheet = overview(painter, titles, rows)
    mmcv.imwrite(np.ascontiguousarray(sheet[..., ::-1]), str(out_dir / OVERVIEW))
    print(f'All of them: {out_dir / OVERVIEW}')
