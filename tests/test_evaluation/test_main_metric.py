"""Which number a config is judged by, against what the metrics themselves log."""

import pytest
import torch
from mmengine.config import Config
from mmpretrain.evaluation import Accuracy, MultiLabelMetric, SingleLabelMetric
from mmpretrain.registry import METRICS
from mmpretrain.structures import DataSample

from mmgradaug.evaluation.main_metric import logged_names, main_metric


def logged_by(config):
    """What the metric says of two images of three classes."""
    metric = METRICS.build(dict(config))
    samples = []
    for label in (0, 2):
        sample = DataSample().set_pred_score(torch.tensor([0.6, 0.3, 0.1])).set_gt_label([label])
        samples.append({**sample.to_dict(), 'num_classes': 3})
        samples[-1]['gt_score'] = torch.nn.functional.one_hot(torch.tensor(label), 3)
    metric.process({}, samples)
    return metric.evaluate(2)


@pytest.mark.parametrize(
    'config',
    [
        dict(type='mmpretrain.Accuracy'),
        dict(type=Accuracy, topk=2),
        dict(type='mmpretrain.Accuracy', topk=(1, 2), prefix='mine'),
        dict(type='mmpretrain.SingleLabelMetric'),
        dict(type=SingleLabelMetric, items=['precision', 'recall'], average='micro'),
        dict(type=MultiLabelMetric),
        dict(type='mmpretrain.MultiLabelMetric', thr=0.3, average='micro'),
        dict(type='mmpretrain.MultiLabelMetric', topk=2),
        dict(type='mmpretrain.AveragePrecision'),
    ],
)
def test_the_names_are_those_that_the_metric_logs(config):
    names = logged_names(config)
    assert names and set(names) <= set(logged_by(config))


def test_what_counts():
    accuracy, f1 = dict(type='Accuracy', topk=(1, 5)), dict(type='SingleLabelMetric')
    assert main_metric(Config(dict(val_evaluator=[f1, accuracy]))) == 'accuracy/top1'
    assert main_metric(Config(dict(val_evaluator=f1))) == 'single-label/f1-score'
    coco = dict(type='mmdet.CocoMetric', metric=['bbox', 'segm'])
    assert main_metric(Config(dict(val_evaluator=coco))) == 'coco/bbox_mAP'
    best = dict(checkpoint=dict(type='CheckpointHook', save_best='coco/segm_mAP'))
    assert main_metric(Config(dict(val_evaluator=coco, default_hooks=best))) == 'coco/segm_mAP'
    for auto in ('auto', ['auto']):
        best = dict(checkpoint=dict(save_best=auto))
        assert main_metric(Config(dict(val_evaluator=coco, default_hooks=best))) == 'coco/bbox_mAP'
    own = dict(type='MyMetric')
    best = dict(checkpoint=dict(save_best='mine/score'))
    assert main_metric(Config(dict(val_evaluator=own, default_hooks=best))) == 'mine/score'
    with pytest.raises(ValueError, match='MyMetric logs is not known'):
        main_metric(Config(dict(val_evaluator=own)))
