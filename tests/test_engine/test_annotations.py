"""Annotations that end in a traceback, or in nothing learnt, are told in a sentence."""

import json

import pytest
from PIL import Image

pytest.importorskip('mmdet')

from mmdet.registry import DATASETS  # noqa: E402

from mmgradaug.engine.annotations import check_annotations, check_ids, left_out_annotations  # noqa: E402

LOAD = dict(type='LoadImageFromFile')
BOX = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 8, 8], area=64, iscrowd=0)
POLYGON = [[1, 1, 9, 1, 9, 9]]
RLE = dict(counts=[0, 100], size=[10, 10])


@pytest.fixture
def dataset(tmp_path):
    """A COCO data set of one image of 30x20 pixels; with EXIF, turned by a quarter."""

    def build(annotation, exif=False, size=(30, 20), load=LOAD, **options):
        orientation = Image.Exif()
        orientation[0x0112] = 6 if exif else 1
        Image.new('RGB', (30, 20)).save(tmp_path / 'x.jpg', exif=orientation)
        content = dict(
            images=[dict(id=1, file_name='x.jpg', width=size[0], height=size[1])],
            annotations=[{**BOX, **annotation}],
            categories=[dict(id=1, name='circle'), dict(id=2, name='dog')],
        )
        (tmp_path / 'x.json').write_text(json.dumps(content))
        annotations = dict(type='LoadAnnotations', with_bbox=True, **{'with_mask': True, **options})
        return DATASETS.build(
            dict(
                type='mmdet.CocoDataset', data_root=str(tmp_path), ann_file='x.json', data_prefix=dict(img=''),
                metainfo=dict(classes=('circle',)), pipeline=[{**load, '_scope_': 'mmdet'},
                {**annotations, '_scope_': 'mmdet'}],
            )
        )  # fmt: skip

    return build


def test_ids_used_twice_are_refused(dataset, tmp_path):
    """As files of which each numbers its images from 1 have when they are merged."""
    found = dataset(dict(segmentation=POLYGON))
    assert left_out_annotations(found) == []
    whole = json.loads((tmp_path / 'x.json').read_text())
    for kind, other in (
        ('images', dict(id=1, file_name='y.jpg')),
        ('categories', dict(id=2, name='cat')),
    ):
        (tmp_path / 'x.json').write_text(json.dumps({**whole, kind: [*whole[kind], other]}))
        for check in (left_out_annotations, check_ids):
            with pytest.raises(
                ValueError, match=f'stands twice among its {kind}, of .*(y.jpg|cat)'
            ):
                check(found)


def test_one_image_that_is_listed_twice_does_no_harm(dataset, tmp_path):
    found = dataset(dict(segmentation=POLYGON))
    whole = json.loads((tmp_path / 'x.json').read_text())
    (tmp_path / 'x.json').write_text(json.dumps({**whole, 'images': 2 * whole['images']}))
    assert left_out_annotations(found) == [] and len(dataset(dict(segmentation=POLYGON))) == 1


def test_masks_that_are_not_there(dataset):
    found = dataset({})
    with pytest.raises(KeyError, match='mask'):  # MMDetection's answer
        found[0]
    with pytest.raises(
        ValueError, match=r'x.jpg: 1 of 1 annotations have no "segmentation".*with_mask=False'
    ):
        check_annotations(found)
    check_annotations(dataset({}, with_mask=False))
    check_annotations(dataset(dict(segmentation=POLYGON)))


def test_rle_with_poly2mask_false_ignores_every_instance(dataset):
    found = dataset(dict(segmentation=RLE), poly2mask=False)
    assert found[0]['gt_ignore_flags'].tolist() == [True]  # in silence
    with pytest.raises(ValueError, match='RLE.*write poly2mask=True'):
        check_annotations(found)
    check_annotations(dataset(dict(segmentation=RLE)))
    check_annotations(dataset(dict(segmentation=RLE, iscrowd=1), poly2mask=False))


def test_sizes_of_images_that_exif_turns(dataset):
    shape = dict(segmentation=POLYGON)
    with pytest.raises(ValueError, match=r'30x20 image by a quarter.*color_ignore_orientation'):
        check_annotations(dataset(shape, exif=True))
    check_annotations(dataset(shape, exif=True, size=(20, 30)))
    check_annotations(
        dataset(shape, exif=True, load=dict(LOAD, color_type='color_ignore_orientation'))
    )
    check_annotations(dataset(shape))


@pytest.mark.parametrize(
    ('annotation', 'says'),
    [
        (dict(category_id=2), "1 annotations have a category that metainfo.classes does not have (dog)"),
        (dict(bbox=[1, 1, 0, 8]), 'have a box or an area below one pixel, ids (1)'),
        (dict(area=0), 'have a box or an area below one pixel, ids (1)'),
        (dict(bbox=[31, 1, 8, 8]), 'have a box outside of the image, ids (1)'),
        (dict(bbox=[-9, 1, 8, 8]), 'have a box outside of the image, ids (1)'),
    ],
)  # fmt: skip
def test_annotations_that_mmdetection_leaves_out_in_silence(dataset, annotation, says):
    found = dataset(annotation)
    assert not found.get_data_info(0)['instances']
    (notice,) = left_out_annotations(found)
    assert says in notice and 'x.json' in notice and notice.endswith('they are left out')


def test_ids_that_the_file_does_not_know(dataset):
    with pytest.raises(ValueError, match=r'x.json: .* category_id .* does not know \(7\). Mend'):
        left_out_annotations(dataset(dict(category_id=7)))
    with pytest.raises(ValueError, match=r'image_id which the file does not know \(7\)'):
        left_out_annotations(dataset(dict(image_id=7)))
    assert not left_out_annotations(dataset({}))


def test_what_mmdetection_takes_is_not_refused(dataset, tmp_path):
    # Ignored regions, of a category of their own.
    found = dataset(dict(category_id=0, ignore=1))
    assert not left_out_annotations(found) and not found.get_data_info(0)['instances']
    # A part of the images, with the annotations of all; an image that is listed twice.
    found = dataset({})
    whole = json.loads((tmp_path / 'x.json').read_text())
    whole['annotations'].append({**BOX, 'id': 2, 'image_id': 9})
    whole['images'].append({**whole['images'][0], 'date_captured': 'today'})
    (tmp_path / 'x.json').write_text(json.dumps(whole))
    (notice,) = left_out_annotations(found)
    assert '1 annotations have an image_id of no image of the file (9): they are left out' in notice
