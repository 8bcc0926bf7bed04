"""Training and testing a detector on generated shapes; ``mim train mmdet`` is run by the README's tests."""

import json

import pytest
import torch
from command_line import TINY_MASK_RCNN, run_tool, scalars

CONFIG = 'configs/mask_rcnn_gradaug.py'
RUN = ['train_cfg.max_epochs=1', 'model.gradaug.num_subnets=2']


@pytest.fixture(scope='module')
def trained(shapes, pretrained, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('work')
    init = f'model.backbone.init_cfg.checkpoint={pretrained}'
    code, output = run_tool(
        'train', CONFIG, '--work-dir', work_dir, '--cfg-options', *TINY_MASK_RCNN, *RUN, init, COCO_ROOT=str(shapes),
    )  # fmt: skip
    assert code == 0, output[-5000:]
    return work_dir, output


def test_it_trains_with_gradaug(trained):
    work_dir, output = trained
    assert 'GradAug: 2 sub-networks an iteration, width 0.9 to 1, draws from seed' in output
    assert 'the backbone starts from all its weights' in output
    assert 'coco/bbox_mAP' in output and 'coco/segm_mAP' in output
    steps = scalars(work_dir)
    assert len(steps) >= 4
    for step in steps:
        assert step['loss'] == pytest.approx(
            step['loss_full'] + step['loss_subnet0'] + step['loss_subnet1'], rel=1e-3
        )
        assert step['width_subnet0'] == 0.9 and 0.9 <= step['width_subnet1'] <= 1
    assert (work_dir / 'epoch_1.pth').is_file()


def test_training_goes_on_and_the_result_is_tested(trained, shapes, pretrained, tmp_path):
    work_dir, _ = trained
    init = f'model.backbone.init_cfg.checkpoint={pretrained}'
    code, output = run_tool(
        'train', CONFIG, '--work-dir', work_dir, '--resume',
        '--cfg-options', *TINY_MASK_RCNN, 'train_cfg.max_epochs=2', 'model.gradaug.num_subnets=2', init,
        COCO_ROOT=str(shapes),
    )  # fmt: skip
    assert code == 0, output[-5000:]
    assert 'resumed epoch: 1' in output and (work_dir / 'epoch_2.pth').is_file()

    code, output = run_tool(
        'test', CONFIG, work_dir / 'epoch_2.pth', '--work-dir', tmp_path / 'test',
        '--out-metrics', tmp_path / 'metrics.json', '--out-coco', tmp_path / 'results' / 'shapes',
        '--cfg-options', *TINY_MASK_RCNN, COCO_ROOT=str(shapes),
    )  # fmt: skip
    assert code == 0, output[-5000:]
    assert 'Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all' in output
    assert 'coco/bbox_mAP: ' in output and 'coco/segm_mAP: ' in output
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert 0 <= metrics['coco/bbox_mAP'] <= 1 and 0 <= metrics['coco/segm_mAP'] <= 1
    # The results are those of the val images, in COCO's form; pycocotools agrees on the AP.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(shapes / 'annotations' / 'instances_val2017.json'))
    found = truth.loadRes(str(tmp_path / 'results' / 'shapes.segm.json'))
    evaluation = COCOeval(truth, found, 'segm')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(metrics['coco/segm_mAP'], abs=1e-3)
    boxes = json.loads((tmp_path / 'results' / 'shapes.bbox.json').read_text())
    assert {box['image_id'] for box in boxes} <= set(truth.getImgIds()) and boxes


def test_ids_used_twice_are_refused_before_training(shapes, pretrained, tmp_path):
    """Of both files, in one message."""
    options = []
    for stage in ('train', 'val'):
        content = json.loads((shapes / 'annotations' / f'instances_{stage}2017.json').read_text())
        content['images'][1]['id'] = content['images'][0]['id']
        (tmp_path / f'{stage}.json').write_text(json.dumps(content))
        options.append(f'{stage}_dataloader.dataset.ann_file={tmp_path / stage}.json')
    options.append(f'val_evaluator.ann_file={tmp_path / "val.json"}')
    init = f'model.backbone.init_cfg.checkpoint={pretrained}'
    code, output = run_tool(
        'train', CONFIG, '--work-dir', tmp_path / 'work', '--cfg-options', *TINY_MASK_RCNN, *RUN, init, *options,
        COCO_ROOT=str(shapes),
    )  # fmt: skip
    assert code != 0 and not list((tmp_path / 'work').rglob('scalars.json'))
    for stage in ('train', 'val'):
        assert f'{stage}.json: the id' in output, output[-3000:]


def test_out_coco_needs_a_coco_metric(tmp_path):
    checkpoint = tmp_path / 'x.pth'
    torch.save({}, checkpoint)
    code, output = run_tool(
        'test', 'configs/quickstart/digits_baseline.py', checkpoint,
        '--work-dir', tmp_path, '--out-coco', tmp_path / 'results',
    )  # fmt: skip
    assert code != 0 and '--out-coco: the config has no CocoMetric' in output


def test_without_the_pretrained_backbone_nothing_is_trained(shapes, tmp_path):
    code, output = run_tool(
        'train', CONFIG, '--work-dir', tmp_path / 'work', '--cfg-options', *TINY_MASK_RCNN,
        COCO_ROOT=str(shapes),
    )  # fmt: skip
    assert code != 0
    assert 'work_dirs/gradaug_r50_imagenet/epoch_120.pth is not there' in output
    assert 'It is what configs/gradaug_r50_imagenet.py trains' in output
    assert not list((tmp_path / 'work').rglob('*.pth'))
