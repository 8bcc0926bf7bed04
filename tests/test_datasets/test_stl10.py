"""STL-10 from made-up files of its format."""

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mmpretrain.registry import DATASETS

from mmgradaug.datasets import stl10 as stl10_module

CLASSES = 10


def build(root, **changes):
    config = dict(type='mmgradaug.STL10', data_root=str(root), download=False, pipeline=[])
    return DATASETS.build({**config, **changes})


@pytest.mark.parametrize('split', ['train', 'test', 'unlabeled'])
def test_images_and_labels_are_the_files(stl10, split):
    root, images = stl10
    dataset = build(root, split=split)
    assert len(dataset) == len(images[split])
    for i, image in enumerate(images[split]):
        sample = dataset[i]
        assert np.array_equal(sample['img'], image)
        assert sample.get('gt_label') == (None if split == 'unlabeled' else i % CLASSES)
    assert dataset.metainfo['classes'][3] == 'cat'


def test_a_fold_has_its_images(stl10):
    root, images = stl10
    fold = build(root, fold=7)
    assert len(fold) == 2
    assert np.array_equal(fold[1]['img'], images['train'][17]) and fold[1]['gt_label'] == 7


def test_few_labels_with_the_unlabelled_images(stl10):
    root, images = stl10
    both = DATASETS.build(
        dict(
            type='mmgradaug.LabelledSplit',
            of='mmgradaug.STL10',
            data_root=str(root),
            num_labels=10,
            part='both',
            unlabelled=dict(type='mmgradaug.STL10', data_root=str(root), split='unlabeled'),
            pipeline=[dict(type='PackInputs')],
        )
    )
    assert both.cumulative_sizes == [10, 15]
    assert sorted(int(both[i]['data_samples'].gt_label) for i in range(10)) == list(range(10))
    last = both[14]
    assert np.array_equal(last['inputs'].permute(1, 2, 0).numpy(), images['unlabeled'][4])
    assert 'gt_label' not in last['data_samples']


@pytest.mark.parametrize(
    ('changes', 'error', 'says'),
    [
        (dict(split='unlabelled'), ValueError, "one of train, test, unlabeled; got 'unlabelled'"),
        (dict(fold=10), ValueError, "fold is 0 to 9, with split='train'; got 10"),
        (dict(split='test', fold=1), ValueError, "got 1 with 'test'"),
        (
            dict(data_root='nowhere'),
            FileNotFoundError,
            'train_X.bin is not there: extract stl10_bin',
        ),
    ],
)
def test_wrong_input(stl10, changes, error, says):
    with pytest.raises(error, match=says):
        build(**{'root': stl10[0], **changes}) if 'data_root' not in changes else build(
            changes['data_root']
        )


def test_one_of_several_downloads_it(stl10, tmp_path, monkeypatch):
    source = stl10[0] / 'stl10_binary'
    downloads = []

    def download(url, root, extract_root, filename, md5):
        """In place of the network; slow enough for the other to come in between."""
        downloads.append(url)
        folder = Path(extract_root) / 'stl10_binary'
        folder.mkdir()
        for file in source.iterdir():
            whole = file.read_bytes()
            (folder / file.name).write_bytes(whole[: len(whole) // 2])
            time.sleep(0.05)
            shutil.copy(file, folder)

    monkeypatch.setattr(stl10_module, 'download_and_extract_archive', download)
    root, built = tmp_path / 'new' / 'data', []
    threads = [
        threading.Thread(target=lambda: built.append(build(root, download=True))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(dataset) for dataset in built] == [20] * 3
    assert downloads == ['http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz']
    assert sorted(p.name for p in root.iterdir() if p.is_dir()) == ['stl10_binary']


def test_a_file_that_is_cut_off(stl10):
    root, _ = stl10
    file = root / 'stl10_binary' / 'train_X.bin'
    whole = file.read_bytes()
    for size in (len(whole) - 1, len(whole) - 3 * 96 * 96, 0):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match='train_X.bin is cut off.*Extract the archive again'):
            build(root)
    file.write_bytes(whole)
    (root / 'stl10_binary' / 'fold_indices.txt').write_text('0 1\n2 20\n')
    for fold in (1, 2):
        with pytest.raises(ValueError, match=f'has no fold {fold} of these images'):
            build(root, fold=fold)
