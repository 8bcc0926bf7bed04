"""The search for settings of a pretrained detector: its data, its cost, and one run of each kind."""

import json
import sys
import tarfile

import numpy as np
import pytest
import torch
from command_line import ROOT
from PIL import Image
from pycocotools import mask as coco_mask

from mmgradaug.models import EfficientNetLite

sys.path.append(str(ROOT / 'benchmarks'))

import detection_search  # noqa: E402  found by the line above


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A clone of five small images with four discs each, what is made of it, and weights."""
    clone, data = tmp_path_factory.mktemp('clone'), tmp_path_factory.mktemp('data')
    rows, columns = np.mgrid[:256, :256]
    rng = np.random.default_rng(0)
    for i in range(5):
        folder = clone / 'stage1_train' / f'id{i}'
        (folder / 'images').mkdir(parents=True)
        (folder / 'masks').mkdir()
        image = np.zeros((256, 256, 4), np.uint8)  # RGBA, as there
        for k in range(25):
            top, left = 25 + 50 * (k // 5), 25 + 50 * (k % 5)
            disc = (rows - top) ** 2 + (columns - left) ** 2 < rng.integers(8, 20) ** 2
            image[disc] = 100 + k
            Image.fromarray(np.uint8(255 * disc)).save(folder / 'masks' / f'{k}.png')
        Image.fromarray(image).save(folder / 'images' / f'id{i}.png')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            detection_search, 'NUCLEI', dict(size=128, train=3, test=2, fewest=3, smallest=15)
        )
        detection_search.make_nuclei(clone, data / 'nuclei.tar.gz')
    torch.manual_seed(0)
    torch.save(EfficientNetLite().state_dict(), data / 'lite0.pth')
    return data


def test_a_crop_keeps_each_nucleus_as_an_annotation(data, tmp_path):
    with tarfile.open(data / 'nuclei.tar.gz') as tar:
        tar.extractall(tmp_path, filter='data')
    names = []
    for part, number in dict(train=3, val=2).items():
        content = json.loads(
            (tmp_path / f'nuclei/annotations/instances_{part}2017.json').read_text()
        )
        assert len(content['images']) == number
        for entry in content['images']:
            image = np.asarray(Image.open(tmp_path / f'nuclei/{part}2017' / entry['file_name']))
            names.append(image.tobytes())
            assert image.shape == (128, 128, 3)
            there = [a for a in content['annotations'] if a['image_id'] == entry['id']]
            assert len(there) >= 3
            covered = np.zeros((128, 128), bool)
            for each in there:
                mask = coco_mask.decode(each['segmentation']).astype(bool)
                assert len(np.unique(image[mask])) == 1 and mask.sum() == each['area'] >= 15
                left, top, width, height = map(int, each['bbox'])
                assert mask[top : top + height, left : left + width].sum() == mask.sum()
                assert mask.any(0).sum() == width and mask.any(1).sum() == height
                covered |= mask
            # Nothing is left but the slivers that a crop cuts off.
            assert ((image[..., 0] > 0) & ~covered).sum() < 15 * 8
    assert len(set(names)) == 5


def test_methods_of_equal_cost():
    def iterations(method):
        return detection_search.iterations_of(dict(method=method, network='lite0', budget=400))

    assert iterations('plain') == 400 and iterations('plain-long') == 800
    assert iterations('gradaug') == iterations('plain-short') == round(400 / 3.36)
    assert iterations('gradaug-long') == round(800 / 3.36)
    # A pass of n = 1 is of uniform width, two of n = 3's are and one of the smallest.
    uniform = (1 + 0.9 + 0.81) / 3
    one_pass = 2.36 / (2 * uniform + 0.81) * uniform
    assert iterations('economy') == pytest.approx(400 / (1 + one_pass / 2), abs=2)


@pytest.mark.parametrize('method', ['plain', 'gradaug-soft'])
def test_a_run_trains_and_says_what_it_was(data, tmp_path, method, monkeypatch):
    with tarfile.open(data / 'nuclei.tar.gz') as tar:
        tar.extractall(tmp_path, filter='data')
    task = detection_search.Task(str(tmp_path), str(data / 'lite0.pth'), 'cpu', 2)
    job = dict(
        dataset='nuclei', network='lite0', method=method, lr=0.001, images=2, seed=0, budget=7
    )
    line = task(job)
    assert line['iterations'] == {'plain': 7, 'gradaug-soft': 2}[method]
    assert ('loss_subnet2' in line['losses']) == (method != 'plain')
    assert all(np.isfinite(curve).all() for curve in line['losses'].values())
    assert 0 <= line['box_ap'] <= 100
    rows = detection_search.table([{**job, **line}])
    assert rows[2].startswith(f'| {method} | 0.001 | {line["iterations"]} | 1 |')


def test_the_pages_table_is_that_of_the_record():
    page = ROOT / 'docs' / 'when_it_helps.md'
    text = page.read_text()
    assert detection_search.fill(text, page.parent) == text and '| economy-long |' in text
