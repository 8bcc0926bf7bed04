"""The smallest images and batches that a sub-network may be given are tried out before training."""

from types import SimpleNamespace

import pytest
import torch
from detection import build, random_batch, tiny_config
from helpers import classifier_config, gradaug_config
from mmdet.datasets.samplers import MultiSourceSampler
from mmengine.dataset import DefaultSampler, InfiniteSampler, pseudo_collate
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader, Dataset

from mmgradaug.engine.placed_batches import smallest_batch
from mmgradaug.engine.smallest_images import problem_of_smallest_images
from mmgradaug.models import GradAugClassifier


class Scenes(Dataset):
    """Drawn scenes of the sizes that are asked for, as MMDetection's pipeline hands them on."""

    def __init__(self, *sizes, longest=None):
        self.sizes = sizes
        self.longest = longest  # to which images are resized, as Resize does that keeps the aspect
        self.loaded = []

    def __len__(self):
        return len(self.sizes)

    def get_data_info(self, index):
        return dict(height=self.sizes[index][0], width=self.sizes[index][1])

    def __getitem__(self, index):
        self.loaded.append(index)
        height, width = self.sizes[index]
        factor = self.longest / max(height, width) if self.longest else 1
        size = (round(height * factor), round(width * factor))
        batch = random_batch(index, (size,), instances=1)
        return dict(inputs=batch['inputs'][0], data_samples=batch['data_samples'][0])


class Images(Dataset):
    """Images of one size without a word about it, as MMPretrain's."""

    def __init__(self, count, pixels):
        self.count, self.pixels = count, pixels

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = torch.rand(3, self.pixels, self.pixels, dtype=torch.float64)
        return dict(inputs=image, data_samples=DataSample().set_gt_label(index % 5))


def stacked(items):
    inputs = torch.stack([item['inputs'] for item in items])
    return dict(inputs=inputs, data_samples=[item['data_samples'] for item in items])


def detector(allowed_border, **gradaug):
    config = tiny_config('MaskRCNN', gradaug)
    config.train_cfg.rpn.allowed_border = allowed_border
    return build(config)


def problem(model, dataset, batch_size=2, collate=pseudo_collate):
    loader = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    runner = SimpleNamespace(train_dataloader=loader)
    return problem_of_smallest_images(runner, model, model.subnet_sampler, seed=0)


def classifier(**gradaug):
    torch.manual_seed(0)
    return GradAugClassifier(gradaug=gradaug_config(**gradaug), **classifier_config()).double()


def test_a_small_image_without_an_anchor_at_the_smallest_scale_is_found_among_large_ones():
    """At its own size the RPN has anchors in it, so training would have died whenever 0.25 is drawn."""
    dataset = Scenes(*[(96, 128)] * 5, (64, 64), (96, 128), (96, 128))
    scales = dict(type='RandomScale', factors=[1.0, 0.25])
    found = problem(detector(0, transforms=scales), dataset)
    assert 'images of 16 x 16 pixels' in found and 'no valid anchor' in found
    assert 'factors out of transforms' in found
    assert 5 in dataset.loaded
    assert problem(detector(-1, transforms=scales), dataset) is None
    mild = dict(type='RandomScale', factors=[1.0, 0.75])
    assert problem(detector(0, transforms=mild), dataset) is None


@pytest.mark.parametrize('narrow', [(200, 1600), (1600, 200)])
def test_a_narrow_image_is_found_that_only_resizing_makes_small(narrow):
    dataset = Scenes((100, 100), narrow, (110, 110), longest=256)
    scales = dict(type='RandomScale', factors=[1.0, 0.5])
    found = problem(detector(0, transforms=scales), dataset)
    sides = ' x '.join(str(side // 1600 * 128 or 16) for side in narrow)
    assert f'images of {sides} pixels' in found


def test_subnetworks_that_learn_soft_labels_look_for_no_anchors():
    scales = dict(type='RandomScale', factors=[1.0, 0.25])
    model = detector(0, transforms=scales, subnets_learn='soft_labels')
    assert problem(model, Scenes((64, 64), (64, 64))) is None


def test_what_the_full_network_cannot_take_is_left_to_the_training():
    assert problem(detector(0), Scenes((12, 12), (12, 12))) is None


def test_a_last_batch_of_one_is_found_at_relative_sizes_too():
    model = classifier(transforms=dict(type='RandomScale', factors=[1.0, 0.25]))
    found = problem(model, Images(9, 64), batch_size=4, collate=stacked)
    assert 'drop_last=True' in found and 'a single image of 16 x 16 pixels' in found
    assert 'Expected more than 1 value per channel' in found
    assert problem(model, Images(10, 64), batch_size=4, collate=stacked) is None
    # Larger, the last map has more than one pixel.
    assert problem(model, Images(9, 256), batch_size=4, collate=stacked) is None


def test_a_part_of_a_batch_may_be_of_one_image():
    options = dict(transforms=dict(type='RandomScale', factors=[1.0, 0.25]), batch_fraction=0.5)
    found = problem(classifier(**options), Images(10, 64), batch_size=4, collate=stacked)
    assert 'the part of it that a sub-network sees' in found
    assert problem(classifier(**options), Images(11, 64), batch_size=4, collate=stacked) is None


def test_a_crop_that_does_not_fit_is_found_though_it_is_drawn_seldom():
    model = classifier(transforms=dict(type='RandomCrop', sizes=[*range(16, 32), 72]))
    found = problem(model, Images(8, 64), batch_size=4, collate=stacked)
    assert 'images of 64 x 64 pixels' in found and 'a crop of (72, 72) does not fit' in found


def test_trying_leaves_the_model_and_the_random_numbers_as_they_were():
    model = classifier(transforms=dict(type='RandomScale', factors=[1.0, 0.5]))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert problem(model, Images(8, 64), batch_size=4, collate=stacked) is None
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ('make_sampler', 'smallest'),
    [
        (DefaultSampler, 1),
        (InfiniteSampler, 4),
        (lambda dataset: MultiSourceSampler(dataset, 4, [1, 1]), 4),
    ],
    ids=['one pass', 'endless', 'endless, of two sources'],
)
def test_an_endless_sampler_has_no_smaller_last_batch(make_sampler, smallest):
    dataset = torch.utils.data.ConcatDataset([Images(4, 8), Images(5, 8)])
    loader = DataLoader(dataset, batch_size=4, sampler=make_sampler(dataset))
    assert smallest_batch(SimpleNamespace(train_dataloader=loader)) == smallest
