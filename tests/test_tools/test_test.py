"""tools/test.py in one process: test-time augmentation, another runner, what it writes and where."""

import json
import pickle
import sys

import pytest
import torch
from command_line import load_tool
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

tool = load_tool('test')

TRAINING = """
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
"""
FLEXIBLE = """
runner_type = 'FlexibleRunner'
strategy = dict(type='SingleDeviceStrategy')
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""
CONCATENATED = """
half = test_dataloader['dataset']
test_dataloader['dataset'] = dict(
    type='ConcatDataset',
    datasets=[dict(half, indices=[0, 1, 2]), dict(half, indices=[3, 4, 5, 6, 7])],
)
"""


@pytest.fixture
def run(classifier, tmp_path, monkeypatch):
    """Runs the tool on the tiny classifier; its metrics, and the scores of each image."""

    def run(*arguments, more='', name='mine.py'):
        config = tmp_path / name
        config.write_text((classifier / 'config.py').read_text() + TRAINING + more)
        out = [tmp_path / 'metrics.json', tmp_path / 'scores.pkl']
        command = ['test.py', config, classifier / 'weights.pth', '--work-dir', tmp_path / 'work']
        command += ['--out-metrics', out[0], '--out', out[1], *arguments]
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        tool.main()
        with out[1].open('rb') as file:
            scores = torch.stack([sample['pred_score'] for sample in pickle.load(file)])
        return json.loads(out[0].read_text()), scores

    return run


def scores_by_hand(classifier, flips):
    """Of the test images in order, the mean over these flips of the preprocessed batch."""
    cfg = Config.fromfile(classifier / 'config.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor}).eval()
        from mmpretrain.registry import DATASETS

        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    model.load_state_dict(torch.load(classifier / 'weights.pth')['state_dict'])
    images = torch.stack([dataset[i]['inputs'] for i in range(len(dataset))])
    images = model.data_preprocessor(dict(inputs=images))['inputs']
    with torch.no_grad():
        return torch.stack(
            [model(images.flip(3) if flip else images).softmax(1) for flip in flips]
        ).mean(0)


def test_tta_averages_an_image_and_its_mirror_image(run, classifier):
    _, scores = run('--tta')
    torch.testing.assert_close(scores, scores_by_hand(classifier, [False, True]))
    _, plain = run()
    torch.testing.assert_close(plain, scores_by_hand(classifier, [False]))
    assert not torch.allclose(plain, scores, atol=1e-3)


def test_tta_reaches_the_data_sets_inside_a_wrapper(run, classifier):
    _, scores = run('--tta', more=CONCATENATED)
    torch.testing.assert_close(scores, scores_by_hand(classifier, [False, True]))


def test_a_detector_without_tta_model_has_no_default():
    from mmgradaug.evaluation.tta import add_tta

    cfg = Config(dict(model=dict(type='RetinaNet'), default_scope='mmdet'))
    with pytest.raises(ValueError, match='no tta_model and tta_pipeline'):
        add_tta(cfg)


def test_the_flexible_runner_finds_the_same(run):
    assert run(more=FLEXIBLE, name='flexible.py')[0] == run()[0]


def test_the_trainings_config_in_the_work_dir_stays_as_it_is(run, tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'mine.py').write_text('load_from = None\n')
    run()
    assert (tmp_path / 'work' / 'mine.py').read_text() == 'load_from = None\n'
    assert 'weights.pth' in (tmp_path / 'work' / 'test_mine.py').read_text()


def _coco_metric():
    return pytest.importorskip('mmdet.evaluation').CocoMetric


@pytest.mark.parametrize(
    'kind',
    [
        'CocoMetric',
        'mmdet.CocoMetric',
        'mmdet.evaluation.metrics.coco_metric.CocoMetric',
        _coco_metric,
    ],
)
def test_coco_results_of_every_way_to_write_the_metric(kind, tmp_path):
    kind = kind() if callable(kind) else kind
    other = dict(type='DumpResults', out_file_path='x.pkl')
    for evaluator in (dict(type=kind), [other, dict(type=kind)]):
        cfg = Config(dict(test_evaluator=evaluator, default_scope='mmdet'))
        tool.write_coco_results(cfg, str(tmp_path / 'results' / 'mine'))
        assert cfg.test_evaluator[-1]['outfile_prefix'].endswith('mine')
    with pytest.raises(SystemExit, match='no CocoMetric'):
        tool.write_coco_results(Config(dict(test_evaluator=other)), 'x')
