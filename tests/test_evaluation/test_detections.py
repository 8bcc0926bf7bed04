"""mmgradaug detections on generated shapes, with untrained detectors: the drawing is what counts."""

import json
import sys

import numpy as np
import pytest
import torch
from command_line import ROOT, exit_code, run_mmgradaug
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS, MODELS, TASK_UTILS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmgradaug.config_types import class_of
from mmgradaug.datasets import drawn_shapes
from mmgradaug.evaluation import detections

# MMDetection's visualizer on NumPy 2.
pytestmark = pytest.mark.filterwarnings(
    'ignore:__array_wrap__ must accept context:DeprecationWarning'
)

CLASSES = ('circle', 'square', 'triangle')
TITLE, GAP, ENLARGED = 28, 8, 3  # pixels, pixels, times
ORDINARY, EMPTY, CROWD_ONLY, PORTRAIT = 0, 1, 2, 5
SCORE = 0.3  # about what an untrained head gives the likeliest of three classes and background


MASK_RCNN = """
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(depth=18, base_channels=8, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32, fc_out_channels=32, num_classes=3),
        mask_roi_extractor=dict(out_channels=32),
        mask_head=dict(in_channels=32, conv_out_channels=32, num_convs=1, num_classes=3),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=3)),
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(240, 150), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
test_dataloader = dict(
    dataset=dict(
        data_root='{data}/',
        metainfo=dict(classes=('circle', 'square', 'triangle')),
        pipeline=test_pipeline,
    )
)
val_dataloader = test_dataloader
work_dir = '{work_dir}'
"""
# Without masks, and with a test pipeline that resizes differently and loads the annotations.
FASTER_RCNN = """
_base_ = 'masks.py'
model = dict(
    roi_head=dict(mask_head=None, mask_roi_extractor=None),
    test_cfg=dict(rcnn=dict(max_per_img=2)),
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 200), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_dataloader = test_dataloader
"""


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A folder with shapes, two configs, and an untrained checkpoint of each."""
    root = tmp_path_factory.mktemp('show')
    drawn_shapes.generate(root / 'shapes', train=1, val=7)
    texts = dict(masks=MASK_RCNN, boxes=FASTER_RCNN)
    init_default_scope('mmdet')
    for name, text in texts.items():
        config = root / f'{name}.py'
        text = text.replace('{data}', str(root / 'shapes'))
        config.write_text(text.replace('{work_dir}', str(root / 'work')))
        torch.manual_seed(1)
        model = MODELS.build(Config.fromfile(config).model)
        model.init_weights()
        torch.nn.init.normal_(model.roi_head.bbox_head.fc_cls.weight, std=0.1)
        meta = dict(dataset_meta=dict(classes=CLASSES))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), root / f'{name}.pth')
    return root


@pytest.fixture(scope='module')
def drawn(made):
    """The whole command line, once: two models, all images."""
    code, output = run_mmgradaug(
        'detections', made / 'masks.py', made / 'masks.pth',
        '--also', made / 'boxes.py', made / 'boxes.pth', '--titles', 'with masks', 'boxes alone',
        '--score-thr', SCORE, '--out', made / 'out',
    )  # fmt: skip
    assert code == 0, output[-3000:]
    return made / 'out', output


def tool(*arguments):
    """In this process, which spares the imports."""
    return exit_code('detections', *arguments)


def truth_of(made, index):
    content = json.loads((made / 'shapes/annotations/instances_val2017.json').read_text())
    image = content['images'][index]
    annotations = [one for one in content['annotations'] if one['image_id'] == image['id']]
    return image, annotations


def enlarged(made, index):
    image, _ = truth_of(made, index)
    with Image.open(made / 'shapes' / 'val2017' / image['file_name']) as file:
        return np.asarray(file).repeat(ENLARGED, 0).repeat(ENLARGED, 1)


def columns_of(made, out, index, count):
    """The columns of a picture, and their titles' strips."""
    image, _ = truth_of(made, index)
    with Image.open(out / f'{index:05d}_{image["id"]:012d}.png') as file:
        picture = np.asarray(file)
    height, width = ENLARGED * image['height'], ENLARGED * image['width']
    assert picture.shape == (TITLE + height, count * width + (count - 1) * GAP, 3)
    starts = [i * (width + GAP) for i in range(count)]
    for start in starts[1:]:
        assert (picture[:, start - GAP : start] == 255).all()
    columns = [picture[TITLE:, start : start + width] for start in starts]
    return columns, [picture[:TITLE, start : start + width] for start in starts]


def near(shape, boxes, inside, width=110, height=20):
    """Where drawing a box may leave a trace: its lines, its label and, if asked for, its inside."""
    allowed = np.zeros(shape[:2], bool)
    for x0, y0, x1, y1 in np.round(np.asarray(boxes) * ENLARGED).astype(int).tolist():
        box = np.zeros_like(allowed)
        box[max(0, y0 - 4) : y1 + 4, max(0, x0 - 4) : x1 + 4] = True
        if not inside:
            box[y0 + 4 : max(y0 + 4, y1 - 4), x0 + 4 : max(x0 + 4, x1 - 4)] = False
        box[max(0, y0 - 4) : y0 + height, max(0, x0 - 4) : x0 + width] = True
        allowed |= box
    return allowed


def test_one_picture_an_image_and_an_overview(made, drawn):
    out, output = drawn
    names = [f'{i:05d}_{truth_of(made, i)[0]["id"]:012d}.png' for i in range(7)]
    assert sorted(path.name for path in out.iterdir()) == [*names, 'overview.png']
    for name in [*names, 'overview.png']:
        assert str(out / name) in output
    assert f'{names[CROWD_ONLY]} (ground truth: 1, with masks: ' in output
    with Image.open(out / 'overview.png') as file:
        sheet = np.asarray(file)
    assert sheet.shape[1] == 3 * 480 + 2 * GAP
    # Row by row the very columns of the pictures, a caption and a gap after each.
    top = TITLE
    for index in range(7):
        columns, _ = columns_of(made, out, index, 3)
        for i, column in enumerate(columns):
            height, width = column.shape[:2]
            left = i * (480 + GAP)
            np.testing.assert_array_equal(sheet[top : top + height, left : left + width], column)
            assert (sheet[top : top + height, left + width : left + 480 + GAP] == 255).all()
        top += height + TITLE + GAP
    assert sheet.shape[0] == top


def test_titles_stand_above_the_columns(made, drawn):
    strips = columns_of(made, drawn[0], ORDINARY, 3)[1]
    strips_again = columns_of(made, drawn[0], EMPTY, 3)[1]
    for strip, again in zip(strips, strips_again):
        np.testing.assert_array_equal(strip, again)
        assert 100 < (strip < 128).all(2).sum() < strip[..., 0].size / 4  # text on white
        assert (strip[:, [0, 1, -2, -1]] == 255).all()  # not cut off
    assert not np.array_equal(strips[0], strips[1])
    assert not np.array_equal(strips[1], strips[2])


@pytest.mark.parametrize('index', range(7))
def test_the_ground_truth_differs_from_the_image_where_something_is_annotated(made, drawn, index):
    column = columns_of(made, drawn[0], index, 3)[0][0]
    changed = (column != enlarged(made, index)).any(2)
    _, annotations = truth_of(made, index)
    assert (len(annotations) == 0) == (index == EMPTY)
    boxes = np.array([one['bbox'] for one in annotations]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    assert not changed[~near(changed.shape, boxes, inside=True)].any()
    for one, (x0, y0, x1, y1) in zip(annotations, boxes * ENLARGED):
        drawn_pixels = changed[y0:y1, x0:x1].mean()
        # A mask of the visible part, crowds included: a colour over it, an outline, the box.
        assert drawn_pixels > 0.9 * one['area'] * ENLARGED**2 / ((y1 - y0) * (x1 - x0))


def test_the_detections_are_those_of_mmdetection(made, drawn):
    """Boxes are drawn where inference_detector finds them, and nowhere else."""
    drawn_boxes = 0
    for i, name in enumerate(('masks', 'boxes'), start=1):
        model = init_detector(str(made / f'{name}.py'), str(made / f'{name}.pth'), device='cpu')
        for index in (ORDINARY, EMPTY, PORTRAIT):
            image, _ = truth_of(made, index)
            path = str(made / 'shapes' / 'val2017' / image['file_name'])
            found = inference_detector(model, path).pred_instances
            boxes = found.bboxes[found.scores > SCORE].numpy()
            column = columns_of(made, drawn[0], index, 3)[0][i]
            changed = (column != enlarged(made, index)).any(2)
            label = dict(width=200, height=30)  # larger on large boxes, and with a score
            frames = near(changed.shape, boxes, inside=False, **label)
            whole = near(changed.shape, boxes, inside=True, **label)
            assert not changed[~(whole if name == 'masks' else frames)].any()
            assert changed[whole & ~frames].any() == (name == 'masks' and len(boxes) > 0)
            for x0, y0, x1, y1 in (boxes * ENLARGED).round().astype(int):
                # The left and the lower line; images end at the borders.
                assert changed[y0 + 2 : y1 - 2, max(0, x0 - 2) : x0 + 2].any(1).all()
                assert changed[y1 - 2 : y1 + 2, x0 + 2 : x1 - 2].any(0).all()
            drawn_boxes += len(boxes)
    assert drawn_boxes >= 4  # else the seed, or SCORE, is a poor choice


def test_chosen_images_without_detections(made):
    """No model's column then differs from the image. And the default folder is the work dir's."""
    image, _ = truth_of(made, CROWD_ONLY)
    arguments = (made / 'boxes.py', made / 'boxes.pth', '--ids', image['id'], '--score-thr', 1)
    assert tool(*arguments) == 0
    out = made / 'work' / 'detections'
    assert sorted(path.name for path in out.iterdir()) == [
        f'{CROWD_ONLY:05d}_{image["id"]:012d}.png', 'overview.png',
    ]  # fmt: skip
    columns, _ = columns_of(made, out, CROWD_ONLY, 2)
    np.testing.assert_array_equal(columns[1], enlarged(made, CROWD_ONLY))
    assert not np.array_equal(columns[0], columns[1])


def test_annotations_without_masks_and_a_model_without_test_set(made, tmp_path):
    """VOC has boxes alone; the validation set stands in where a config has no test set."""
    file = made / 'shapes/annotations/instances_val2017.json'
    content = json.loads(file.read_text())
    for one in content['annotations']:
        del one['segmentation']
    without = tmp_path / 'without.json'
    without.write_text(json.dumps(content))
    config = tmp_path / 'val.py'
    text = (made / 'masks.py').read_text() + 'test_dataloader = dict(_delete_=True)\n'
    config.write_text(text)
    options = ['--cfg-options', f'val_dataloader.dataset.ann_file={without}']
    arguments = ['--indices', ORDINARY, '--score-thr', 1, '--out', tmp_path / 'out']
    assert tool(config, made / 'masks.pth', *arguments, *options) == 0
    column = columns_of(made, tmp_path / 'out', ORDINARY, 2)[0][0]
    changed = (column != enlarged(made, ORDINARY)).any(2)
    boxes = np.array([one['bbox'] for one in truth_of(made, ORDINARY)[1]])
    boxes[:, 2:] += boxes[:, :2]
    assert changed.any() and not changed[~near(changed.shape, boxes, inside=False)].any()


def saved(path, **content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (dict(config='no_such.py'), 'no such config: '),
        (dict(checkpoint='no_such.pth'), 'no such checkpoint: '),
        (dict(checkpoint='boxes.pth'), 'mask_head.conv_logits.bias: missing in the checkpoint, (3,)'),
        (dict(checkpoint='masks.py'), 'masks.py is not a checkpoint that PyTorch can read'),
        (dict(also='boxes.pth'), 'boxes.pth is not a checkpoint of'),
        (dict(classes=('cat', 'dog')), 'was trained with the classes cat, dog, the test set has circle'),
        (dict(more=['--indices', 0, 7]), '--indices: the test set has images 0 to 6, not 7'),
        (dict(more=['--ids', 2, 3]), '--ids: the test set has no image with the id 3'),
        (dict(more=['--titles', 'a', 'b']), '--titles: 2 for 1 models'),
        (dict(more=['--num', 0]), "must be a whole number from 1, got '0'"),
        (dict(more=['--score-thr', 30]), "a score is from 0 to 1, got '30'"),
        (
            dict(more=['--cfg-options', 'test_dataloader.dataset.data_root=/no/such/']),
            'the test set cannot be read',
        ),
        (
            dict(more=['--cfg-options', 'test_dataloader.dataset.data_prefix.img=val2018/']),
            'image 0 of the test set cannot be read',
        ),
        (
            dict(more=['--cfg-options', 'test_dataloader.dataset.ann_file={empty}']),
            'the test set has no image: write another file of annotations',
        ),
        (
            dict(more=['--cfg-options', 'test_dataloader.dataset.ann_file={order}']),
            'numbers labels in the order triangle, square, circle',
        ),
        (
            dict(config=ROOT / 'configs/quickstart/digits_baseline.py'),
            'has no detector of MMDetection: its model is ImageClassifier',
        ),
    ],
)  # fmt: skip
def test_bad_input_is_named_before_anything_is_written(made, tmp_path, capsys, change, says):
    checkpoint = made / change.get('checkpoint', 'masks.pth')
    if 'classes' in change:
        content = torch.load(checkpoint, weights_only=True)
        content['meta']['dataset_meta']['classes'] = change['classes']
        checkpoint = saved(tmp_path / 'other.pth', **content)
    also = ['--also', made / 'masks.py', made / change['also']] if 'also' in change else []
    content = json.loads((made / 'shapes/annotations/instances_val2017.json').read_text())
    categories = content['categories'][::-1]
    for name, changed in dict(
        empty=dict(images=[], annotations=[]), order=dict(categories=categories)
    ).items():
        (tmp_path / f'{name}.json').write_text(json.dumps({**content, **changed}))
    files = dict(empty=tmp_path / 'empty.json', order=tmp_path / 'order.json')
    more = [str(each).format(**files) for each in change.get('more', [])]
    stop = tool(
        made / change.get('config', 'masks.py'), checkpoint, *also,
        *more, '--out', tmp_path / 'out',
    )  # fmt: skip
    assert says in f'{stop} {capsys.readouterr().err}'
    assert stop != 0
    assert not (tmp_path / 'out').exists()


def test_an_out_folder_that_cannot_be_made_is_told_before_anything_is_loaded(
    made, tmp_path, capsys
):
    (tmp_path / 'file').touch()
    (tmp_path / 'broken.pth').touch()  # which loading would refuse
    assert tool(made / 'masks.py', tmp_path / 'broken.pth', '--out', tmp_path / 'file' / 'out')
    said = capsys.readouterr().err
    assert f'{tmp_path}/file/out cannot be written to' in said and '--out DIR' in said


def test_default_titles_tell_models_apart():
    titles = detections.default_titles
    models = [('configs/a.py', 'x/epoch_1.pth'), ('configs/b.py', 'x/epoch_1.pth')]
    assert titles(models) == ['a', 'b']
    models.append(('elsewhere/a.py', 'y/epoch_2.pth'))
    assert titles(models) == ['a, x/epoch_1', 'b', 'a, y/epoch_2']


def test_a_config_of_dotted_types_without_scope(made, tmp_path):
    """As new-style configs are dumped."""
    cfg = Config.fromfile(made / 'masks.py').to_dict()
    registries = (MODELS, DATASETS, TRANSFORMS, TASK_UTILS)

    def dotted(part):
        if isinstance(part, dict):
            if isinstance(part.get('type'), str):
                found = [class_of(part, registry, 'mmdet') for registry in registries]
                kind = next((kind for kind in found if isinstance(kind, type)), None)
                if kind is not None:
                    # As they are imported in configs, from the package.
                    module, package = kind.__module__, kind.__module__.rpartition('.')[0]
                    inside = getattr(sys.modules.get(package), kind.__name__, None) is kind
                    part['type'] = f'{package if inside else module}.{kind.__qualname__}'
            part = part.values()
        for value in part:
            if isinstance(value, (dict, list, tuple)):
                dotted(value)

    dotted([cfg['model'], cfg['test_dataloader']])
    cfg['default_scope'] = None
    Config(cfg).dump(tmp_path / 'dotted.py')
    assert 'mmdet.models.detectors.MaskRCNN' in (tmp_path / 'dotted.py').read_text()
    pictures = []
    for config in (made / 'masks.py', tmp_path / 'dotted.py'):
        out = tmp_path / config.stem
        code = tool(config, made / 'masks.pth', '--indices', 0, '--titles', 'x',
                       '--score-thr', SCORE, '--out', out)  # fmt: skip
        assert code == 0
        pictures += [np.asarray(Image.open(path)) for path in out.glob('00000_*.png')]
    assert len(pictures) == 2 and np.array_equal(*pictures)
