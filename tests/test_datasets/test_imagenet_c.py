import numpy as np
import pytest
from mmpretrain.registry import DATASETS
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """Two sets, one of them in its archive's folder; grey images are among them."""
    for set_folder in ('fog/3', 'noise/gaussian_noise/1'):
        for i, wnid in enumerate(('n01440764', 'n01443537', 'n01484850')):
            (tmp_path / set_folder / wnid).mkdir(parents=True)
            for j in range(2):
                image = Image.new('RGB', (40, 40), (200, 10 * i, j))
                (image.convert('L') if j else image).save(
                    tmp_path / set_folder / wnid / f'{j}.JPEG'
                )
    return tmp_path


def build(folder, **changes):
    config = dict(type='mmgradaug.ImageNetC', data_root=str(folder), num_classes=3)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='CenterCrop', crop_size=32)]
    return DATASETS.build({**config, 'pipeline': pipeline, **changes})


@pytest.mark.parametrize('which', [('fog', 3), ('gaussian_noise', 1)])
def test_a_set_has_its_images_and_imagenets_labels(folder, which):
    dataset = build(folder, corruption=which[0], severity=which[1])
    assert [dataset[i]['gt_label'] for i in range(len(dataset))] == [0, 0, 1, 1, 2, 2]
    assert all(dataset[i]['img'].shape == (32, 32, 3) for i in range(6))
    assert np.abs(dataset[0]['img'][0, 0] - [0, 0, 200]).max() < 8  # MMCV's order is BGR
    assert f'{which[0]}/{which[1]}' in dataset[0]['img_path']


@pytest.mark.parametrize(
    ('changes', 'error', 'says'),
    [
        (
            dict(severity=4),
            FileNotFoundError,
            'fog of severity 4 is not in .*: extract the archives',
        ),
        (dict(corruption='snow'), FileNotFoundError, 'snow of severity 3 is not in'),
        (dict(corruption='rain'), ValueError, "one of gaussian_noise, .*; got 'rain'"),
        (dict(severity=6), ValueError, 'severity is 1 to 5, got 6'),
        (
            dict(num_classes=1000),
            ValueError,
            'has 3 classes instead of 1000, so labels would be wrong',
        ),
    ],
)
def test_wrong_input(folder, changes, error, says):
    with pytest.raises(error, match=says):
        build(folder, **{**dict(corruption='fog', severity=3), **changes})
