"""GradAug in a plain loop against Eq. 4 written out: stock layers, weights sliced by hand, one graph."""

import collections
import copy
import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from command_line import run_two_ranks
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from mmgradaug import GradAug, Identity, RandomResize, SlimmingError, plan_channels
from mmgradaug.training import _select

RESIZE = RandomResize([10, 12, 7])


def convolutions(norm=True):
    """3 -> 8 -> 12 channels, five classes."""
    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.ReLU()),
        *(nn.Conv2d(8, 12, 3, stride=2), nn.BatchNorm2d(12) if norm else nn.Identity(), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)),
    ]
    return nn.Sequential(*layers).double()


def sliced(values, width, divisor=1):
    """The first channels of each of the two convolutions, and what belongs to them."""
    first, second = (min(c, divisor * math.floor(c * width / divisor + 0.5)) for c in (8, 12))
    kept = {}
    for name, value in values.items():
        layer = name.split('.')[0]
        if value.dim() == 0:  # num_batches_tracked
            kept[name] = value
        elif name == '3.weight':
            kept[name] = value[:second, :first]
        elif name == '8.weight':
            kept[name] = value[:, :second]
        else:
            kept[name] = value[: {'0': first, '1': first, '3': second, '4': second}.get(layer)]
    return kept


def divergence(logits, soft):
    return (soft * (soft.log() - logits.log_softmax(1))).sum(1).mean()


def resized(images, subnet):
    size = subnet.transform.size
    return F.interpolate(images, size=size, mode='bilinear', align_corners=True)


def naive_loss(model, images, targets, criterion, subnets, hard=False):
    """Eq. 4. Batch norms work on copies of their running statistics."""

    def run(width, images, divisor=1):
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        values = sliced({**dict(model.named_parameters()), **buffers}, width, divisor)
        return torch.func.functional_call(model, values, images)

    full = run(1.0, images)
    soft = full.detach().softmax(1)
    loss = criterion(full, targets)
    for subnet in subnets:
        rows = torch.arange(len(images))
        if subnet.part is not None:
            rows = subnet.part.indices(len(images))
        logits = run(subnet.width, resized(images[rows], subnet), subnet.choices[0].divisor)
        loss = loss + (criterion(logits, targets[rows]) if hard else divergence(logits, soft[rows]))
    return loss


def batch(seed=0, size=8):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 12, 12, generator=generator, dtype=torch.float64)
    return images, torch.randint(5, (size,), generator=generator)


def gradients(model):
    return {name: value.grad for name, value in model.named_parameters()}


def assert_same(found, expected, atol=1e-10):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol, msg=name)


def assert_gradient_is_naive(model, gradaug, pairs, scale=1.0):
    """Of the sum over (iteration, images, targets, criterion), times ``scale``."""
    losses = [
        naive_loss(model, *rest, gradaug.sampler.sample(gradaug.seed, iteration))
        for iteration, *rest in pairs
    ]
    parameters = list(model.parameters())
    expected = torch.autograd.grad(scale * sum(losses), parameters)
    assert max(value.abs().max() for value in expected) > 1e-3
    assert_same(gradients(model), dict(zip(dict(model.named_parameters()), expected)))


@pytest.mark.parametrize('num_subnets', [0, 1, 3])
def test_gradient_is_that_of_the_sum_of_all_losses(num_subnets):
    model = convolutions()
    gradaug = GradAug(model, num_subnets, 0.6, RESIZE, seed=5)
    images, targets = batch()
    losses = gradaug.backward(images, targets, F.cross_entropy)
    assert_gradient_is_naive(model, gradaug, [(0, images, targets, F.cross_entropy)])
    subnets = gradaug.sampler.sample(5, 0)
    expected = naive_loss(convolutions(), images, targets, F.cross_entropy, subnets)
    torch.testing.assert_close(losses['loss'], expected.detach(), rtol=0, atol=1e-12)
    parts = [f'loss_subnet{i}' for i in range(num_subnets)]
    widths = [f'width_subnet{i}' for i in range(num_subnets)]
    assert set(losses) == {'loss', 'loss_full', *parts, *widths}
    assert not any(isinstance(v, torch.Tensor) and v.requires_grad for v in losses.values())


@pytest.mark.parametrize(
    ('options', 'hard'),
    [
        (dict(soft_labels=False), True),
        (dict(batch_fraction=0.4), False),
        (dict(batch_fraction=0.4, soft_labels=False), True),
        (dict(width_divisor=4, widths=[0.5, 0.7, 1.0], min_width=0.5), False),
        (dict(always_smallest=False), False),
    ],
    ids=str,
)
def test_gradient_under_settings_of_ours(options, hard):
    model = convolutions()
    gradaug = GradAug(model, 3, **{'min_width': 0.6, **options}, transforms=RESIZE, seed=5)
    images, targets = batch(size=9)
    gradaug.backward(images, targets, F.cross_entropy, iteration=7)
    subnets = gradaug.sampler.sample(5, 7)
    if 'batch_fraction' in options:
        assert [len(subnet.part.indices(9)) for subnet in subnets] == [4, 4, 4]
    expected = naive_loss(convolutions(), images, targets, F.cross_entropy, subnets, hard)
    reference = convolutions()
    naive_loss(reference, images, targets, F.cross_entropy, subnets, hard).backward()
    assert expected > 0
    assert_same(gradients(model), gradients(reference))


def test_targets_of_any_form_are_chosen_with_their_images():
    """A criterion of Mixup's pairs of labels, on part of the batch, equals one of mixed one-hot labels."""
    images, targets = batch(size=9)
    one_hot = F.one_hot(targets, 5).double()

    def of_pairs(logits, targets):
        first, second = (F.cross_entropy(logits, labels) for labels in targets['labels'])
        return targets['share'] * first + (1 - targets['share']) * second

    Pair = collections.namedtuple('Pair', 'labels share')
    pair = (targets, targets.flip(0))
    share = torch.tensor(0.3, dtype=torch.float64)
    items = 0.3 * one_hot + 0.7 * one_hot.flip(0)
    forms = [
        (dict(labels=pair, share=share), of_pairs),
        (Pair(pair, share), lambda logits, targets: of_pairs(logits, targets._asdict())),
        ([dict(row=row) for row in items], lambda logits, targets: F.cross_entropy(
            logits, torch.stack([each['row'] for each in targets]))),
        (list(items), lambda logits, targets: F.cross_entropy(logits, torch.stack(targets))),
        (items, F.cross_entropy),
    ]  # fmt: skip
    models = [convolutions() for _ in forms]
    for model, (form, criterion) in zip(models, forms):
        gradaug = GradAug(model, 2, 0.6, RESIZE, batch_fraction=0.4, soft_labels=False)
        gradaug.backward(images, form, criterion)
    for model in models[1:]:
        assert_same(gradients(model), gradients(models[0]))
    gradaug = GradAug(convolutions(), 2, 0.6, RESIZE, batch_fraction=0.4, soft_labels=False)
    gradaug.backward(images, None, lambda logits, targets: logits.square().mean())
    for wrong, message in (
        (torch.arange(4), 'nothing in them, a Tensor, has one row or item an image'),
        (
            [torch.arange(9)] * 9,
            'a list of 9 tensors of 9 rows each may hold one tensor an image or',
        ),
    ):
        with pytest.raises(TypeError, match=message):
            gradaug.backward(images, wrong, lambda logits, targets: logits.mean())


def test_labels_of_an_image_are_no_rows_although_they_are_as_many():
    """Of four images the third has four labels."""
    labels = [torch.arange(number) for number in (1, 2, 4, 1)]
    seen = []

    def criterion(logits, targets):
        seen.append([len(each) for each in targets])
        return logits.square().mean()

    gradaug = GradAug(convolutions(), 1, 0.6, RESIZE, batch_fraction=0.5, soft_labels=False)
    gradaug.backward(batch(size=4)[0], labels, criterion)
    part = gradaug.sampler.sample(0, 0)[0].part.indices(4).tolist()
    assert seen == [[1, 2, 4, 1], [[1, 2, 4, 1][i] for i in part]]
    # A tuple of a dict and a number is Mixup's pair, not the targets of two images.
    pair = ({'labels': torch.tensor([3, 7])}, 0.3)
    chosen, share = _select(pair, torch.tensor([1]), 2)
    assert chosen['labels'].tolist() == [7] and share == 0.3


def test_data_parallel_is_refused():
    with pytest.raises(TypeError, match='give its .module'):
        GradAug(nn.DataParallel(convolutions()), 1, 0.6, RESIZE)


def test_what_is_narrowed_stays_whatever_is_planned_later():
    def trained(**settings):
        gradaug = GradAug(convolutions(), 2, 0.6, RESIZE, **settings)
        gradaug.backward(*batch(), F.cross_entropy)
        return gradients(gradaug.network)

    expected = trained(within=['0'])
    assert not torch.equal(expected['3.weight'], trained()['3.weight'])
    gradaug = GradAug(convolutions(), 2, 0.6, RESIZE, within=['0'])
    copied = copy.deepcopy(gradaug)
    plan_channels(gradaug.network)
    GradAug(gradaug.network, 2, 0.6, RESIZE)
    for each in (gradaug, copied):
        each.backward(*batch(), F.cross_entropy)
        assert_same(gradients(each.network), expected)


def test_subnetworks_in_every_second_iteration_of_the_second_half():
    gradaug = GradAug(convolutions(), 2, 0.6, RESIZE, every=2, begin=4, end=8)
    trained = []
    for iteration in range(10):
        losses = gradaug.backward(*batch(seed=iteration), F.cross_entropy)
        trained += [iteration] if 'loss_subnet1' in losses else []
    assert trained == [4, 6]


def test_no_subnetworks_is_plain_training_bit_for_bit():
    model, plain = convolutions(), convolutions()
    images, targets = batch()
    GradAug(model, 0, 0.6, RESIZE).backward(images, targets, F.cross_entropy)
    F.cross_entropy(plain(images), targets).backward()
    assert_same(gradients(model), gradients(plain), atol=0)


def test_running_statistics_move_in_the_full_pass_alone():
    model, plain = convolutions(), convolutions()
    images, targets = batch()
    GradAug(model, 3, 0.6, RESIZE).backward(images, targets, F.cross_entropy)
    plain(images)
    assert_same(dict(model.named_buffers()), dict(plain.named_buffers()), atol=0)
    assert model[1].num_batches_tracked == 1


def test_width_of_the_log_is_the_share_of_channels_that_is_used():
    gradaug = GradAug(convolutions(), 2, 0.7, RESIZE)
    losses = gradaug.backward(*batch(), F.cross_entropy)
    # 0.7 of 8 are 6, of 12 are 8.
    assert losses['width_subnet0'] == (6 + 8) / (8 + 12)


def test_making_it_changes_nothing_of_the_model():
    model = convolutions()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    GradAug(model, 3, 0.6, RESIZE)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(model.state_dict(), before, atol=0)
    assert [type(m) for m in model.modules()] == [type(m) for m in convolutions().modules()]


def test_accumulation_over_batches_is_the_mean_of_their_gradients():
    model = convolutions()
    gradaug = GradAug(model, 2, 0.6, RESIZE)
    pairs = [(i, *batch(seed=i), F.cross_entropy) for i in range(2)]
    for _, images, targets, criterion in pairs:
        gradaug.backward(images, targets, criterion, backward=lambda loss: (loss / 2).backward())
    assert gradaug.iteration == 2
    assert_gradient_is_naive(model, gradaug, pairs, scale=1 / 2)


def test_a_grad_scaler_scales_every_pass():
    model = convolutions()
    gradaug = GradAug(model, 2, 0.6, RESIZE)
    images, targets = batch()
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    gradaug.backward(
        images, targets, F.cross_entropy, backward=lambda loss: scaler.scale(loss).backward()
    )
    pairs = [(0, images, targets, F.cross_entropy)]
    scaled = {name: value.clone() for name, value in gradients(model).items()}
    scaler.unscale_(optimizer)
    assert_gradient_is_naive(model, gradaug, pairs)
    assert_same(scaled, {k: 2.0**10 * v for k, v in gradients(model).items()})
    before = model[0].weight.detach().clone()
    scaler.step(optimizer)
    assert not torch.equal(model[0].weight, before)


def test_autocast_is_a_loop_of_passes_under_autocast():
    model = convolutions().float()
    reference = copy.deepcopy(model)
    images, targets = batch()
    images = images.float()
    gradaug = GradAug(model, 3, 0.6, RESIZE)

    def backward(loss):
        assert not torch.is_autocast_enabled(
            'cpu'
        )  # PyTorch advises against backward passes under it
        loss.backward()

    with torch.autocast('cpu', torch.bfloat16):
        losses = gradaug.backward(images, targets, F.cross_entropy, backward=backward)
    subnets = gradaug.sampler.sample(0, 0)
    soft = None
    for subnet in [None, *subnets]:
        # A context of its own for each pass, so that no weights are cached from another.
        with torch.autocast('cpu', torch.bfloat16):
            values = {**dict(reference.named_parameters())}
            values.update({name: b.clone() for name, b in reference.named_buffers()})
            values = sliced(values, subnet.width if subnet else 1.0)
            seen = resized(images, subnet) if subnet else images
            logits = torch.func.functional_call(reference, values, seen)
            assert logits.dtype == torch.bfloat16
            loss = divergence(logits.float(), soft) if subnet else F.cross_entropy(logits, targets)
        soft = logits.detach().float().softmax(1) if soft is None else soft
        loss.backward()
    assert_same(gradients(model), gradients(reference), atol=2e-6)
    assert losses['loss'].dtype == torch.float32
    # And that it was bfloat16 at all: the same in float32 is something else.
    exact = copy.deepcopy(reference)
    exact.zero_grad()
    GradAug(exact, 3, 0.6, RESIZE).backward(images, targets, F.cross_entropy)
    assert (exact[0].weight.grad - model[0].weight.grad).abs().max() > 1e-4


def test_an_update_counts_although_autocast_goes_on():
    """Weights cast for one iteration are not taken from the cache in the next."""

    def train(whole):
        model = convolutions().float()
        gradaug = GradAug(model, 2, 0.6, RESIZE)
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        with torch.autocast('cpu', torch.bfloat16) if whole else nullcontext():
            for iteration in range(2):
                images, targets = batch(seed=iteration)
                optimizer.zero_grad()
                with torch.autocast('cpu', torch.bfloat16):
                    gradaug.backward(images.float(), targets, F.cross_entropy)
                optimizer.step()
        return gradients(model)

    assert_same(train(whole=True), train(whole=False), atol=0)


def test_a_soft_label_loss_of_ones_own():
    model = convolutions()
    seen = []

    def loss(logits, soft_labels):
        seen.append((logits, soft_labels))
        return 0.5 * divergence(logits, soft_labels.softmax(1))

    gradaug = GradAug(model, 2, 0.6, RESIZE, soft_label_loss=loss)
    losses = gradaug.backward(*batch(), F.cross_entropy)
    assert all(logits.requires_grad and not soft.requires_grad for logits, soft in seen)
    reference = GradAug(convolutions(), 2, 0.6, RESIZE).backward(*batch(), F.cross_entropy)
    for name in ('loss_subnet0', 'loss_subnet1'):
        torch.testing.assert_close(losses[name], 0.5 * reference[name], rtol=0, atol=1e-12)


def test_labels_mixed_by_mixup():
    model = convolutions()
    gradaug = GradAug(model, 2, 0.6, RESIZE)
    images, targets = batch()
    images = 0.3 * images + 0.7 * images.flip(0)
    one_hot = F.one_hot(targets, 5).double()
    targets = 0.3 * one_hot + 0.7 * one_hot.flip(0)
    gradaug.backward(images, targets, F.cross_entropy)
    assert_gradient_is_naive(model, gradaug, [(0, images, targets, F.cross_entropy)])


def test_any_criterion_of_output_and_targets():
    model = convolutions()
    gradaug = GradAug(model, 2, 0.6, RESIZE)
    images, targets = batch()
    targets = dict(labels=F.one_hot(targets, 5).double(), weight=0.5)

    def criterion(logits, targets):
        loss = F.binary_cross_entropy_with_logits(logits, targets['labels'])
        return targets['weight'] * loss

    gradaug.backward(images, targets, criterion)
    assert_gradient_is_naive(model, gradaug, [(0, images, targets, criterion)])


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = convolutions()

    def forward(self, images):
        return self.network(images), 'more'


def test_logits_are_taken_out_of_what_the_model_returns():
    model = TwoOutputs()
    gradaug = GradAug(model, 2, 0.6, RESIZE, logits=lambda outputs: outputs[0])
    images, targets = batch()

    def criterion(outputs, targets):
        assert outputs[1] == 'more'
        return F.cross_entropy(outputs[0], targets)

    gradaug.backward(images, targets, criterion)
    pairs = [(0, images, targets, F.cross_entropy)]
    assert_gradient_is_naive(model.network, gradaug, pairs)


@pytest.mark.parametrize('economy', [False, True])
def test_a_resumed_run_goes_on_as_the_uninterrupted_one(economy):
    def train(gradaug, iterations):
        optimizer = torch.optim.SGD(gradaug.model.parameters(), 0.1)
        logs = []
        for iteration in iterations:
            logs.append(gradaug.backward(*batch(seed=iteration), F.cross_entropy))
            optimizer.step()
            optimizer.zero_grad()
        return logs

    options = dict(begin=1, every=2, batch_fraction=0.5) if economy else {}
    whole = GradAug(convolutions(), 2, 0.6, RESIZE, seed=3, **options)
    logs = train(whole, range(4))
    part = GradAug(convolutions(), 2, 0.6, RESIZE, seed=3, **options)
    train(part, range(2))
    saved = dict(model=part.model.state_dict(), gradaug=part.state_dict())
    resumed = GradAug(convolutions(), 2, 0.6, RESIZE, **options)  # its seed is saved too
    resumed.model.load_state_dict(saved['model'])
    resumed.load_state_dict(saved['gradaug'])
    assert train(resumed, range(2, 4)) == logs[2:]
    assert_same(resumed.model.state_dict(), whole.model.state_dict(), atol=0)
    assert [log.get('width_subnet1') for log in logs].count(None) == (3 if economy else 0)
    assert logs[0].get('width_subnet1') != logs[2]['width_subnet1']


def test_an_iteration_can_be_named():
    model = convolutions()
    gradaug = GradAug(model, 2, 0.6, RESIZE)
    images, targets = batch()
    gradaug.backward(images, targets, F.cross_entropy, iteration=7)
    assert_gradient_is_naive(model, gradaug, [(7, images, targets, F.cross_entropy)])
    assert gradaug.iteration == 8


# --- sub-networks by depth ----------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.two = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.two(self.one(x).relu())


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.Sequential(Block(6), Block(6), Block(6))
        self.head = nn.Linear(6, 5)
        self.double()

    def forward(self, images):
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


def residual_logits(model, images, width, dropped):
    """By functions alone."""
    c = math.floor(6 * width + 0.5)
    x = F.conv2d(images, model.stem.weight[:c], model.stem.bias[:c], padding=1)
    for index, block in enumerate(model.blocks):
        if index not in dropped:
            branch = F.conv2d(x, block.one.weight[:c, :c], block.one.bias[:c], padding=1).relu()
            x = x + F.conv2d(branch, block.two.weight[:c, :c], block.two.bias[:c], padding=1)
    return F.linear(x.mean((2, 3)), model.head.weight[:, :c], model.head.bias)


def naive_residual_loss(model, images, targets, subnets):
    full = residual_logits(model, images, 1.0, ())
    soft = full.detach().softmax(1)
    loss = F.cross_entropy(full, targets)
    for subnet in subnets:
        seen = resized(images, subnet)
        logits = residual_logits(model, seen, subnet.width, subnet.dropped_blocks)
        loss = loss + divergence(logits, soft)
    return loss


def test_subnetworks_by_depth_leave_out_branches():
    model = Residual()
    gradaug = GradAug(model, 3, 0.6, RESIZE, survival_prob=0.2)
    images, targets = batch()
    losses = gradaug.backward(images, targets, F.cross_entropy)
    subnets = gradaug.sampler.sample(0, 0)
    dropped = [subnet.dropped_blocks for subnet in subnets]
    assert any(dropped) and len(set(dropped)) > 1
    assert [losses[f'dropped_blocks_subnet{i}'] for i in range(3)] == [len(d) for d in dropped]
    loss = naive_residual_loss(model, images, targets, subnets)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    assert_same(gradients(model), dict(zip(dict(model.named_parameters()), expected)))


def test_depth_needs_residual_blocks():
    with pytest.raises(SlimmingError, match='no residual blocks that can be left out'):
        GradAug(convolutions(), 3, 0.6, RESIZE, survival_prob=0.5)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize('seed', [-1, 1.5, True, None])
def test_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match='seed must be a whole number, 0 or more'):
        GradAug(convolutions(), 3, 0.6, RESIZE, seed=seed)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_subnets=-1), 'num_subnets must be a whole number'),
        (dict(min_width=0.0), r'min_width is a share of the channels in \(0, 1\]'),
        (dict(transforms=None), 'transforms is missing'),
        (dict(transforms=lambda images: images), r'has no draw\(rng\)'),
        (dict(survival_prob=1.5), 'survival_prob is the probability'),
        (dict(evry=2), r"GradAug has unknown keys \['evry'\]"),
        (dict(begin=2, end=2), 'empty schedule'),
        (dict(begin=0.5), 'must be whole numbers'),
        (dict(soft_labels=0), 'soft_labels is True or False, got 0'),
        (dict(soft_labels=False, soft_label_loss=divergence), 'without effect'),
    ],
)
def test_hyperparameters_out_of_range(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        GradAug(convolutions(), **{**dict(transforms=RESIZE), **options})


def test_outputs_that_are_no_logits():
    gradaug = GradAug(TwoOutputs(), 2, 0.6, RESIZE)
    with pytest.raises(TypeError, match=r'a tuple, from which .* write GradAug\(\.\.\., logits='):
        gradaug.backward(*batch(), lambda outputs, targets: outputs[0].sum())


def test_a_network_without_channels():
    with pytest.raises(SlimmingError, match='no channels that could be narrowed'):
        GradAug(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), 2, 0.6, Identity())


def test_a_size_that_the_network_cannot_take():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 10 * 10, 5))
    example = torch.zeros(2, 3, 12, 12)
    with pytest.raises(SlimmingError, match=r"images of 10 x 10 pixels.* its '2' fails"):
        GradAug(model, 2, 0.6, RESIZE, example_input=example)
    GradAug(model, 2, 0.6, RandomResize([12]), example_input=example)


def test_an_error_in_the_loop_leaves_the_full_network():
    model = convolutions()
    gradaug = GradAug(model, 2, 0.6, RESIZE)

    def backward(loss):
        if model[0].weight.shape[0] < 8:
            raise KeyboardInterrupt
        loss.backward()

    with pytest.raises(KeyboardInterrupt):
        gradaug.backward(*batch(), F.cross_entropy, backward=backward)
    assert model[0].weight.shape == (8, 3, 3, 3) and isinstance(model[0].weight, nn.Parameter)
    assert_same(dict(model.named_parameters()), dict(convolutions().named_parameters()), atol=0)
    assert model[1].track_running_stats


# --- two processes ------------------------------------------------------------------------------

WIDTH = dict(num_subnets=3, min_width=0.6)
DEPTH = dict(**WIDTH, survival_prob=0.2)


def train(gradaug, rank=None):
    """Three iterations, on the whole batches or on a rank's half of them."""
    optimizer = torch.optim.SGD(gradaug.model.parameters(), lr=0.1, momentum=0.9)
    half = slice(None) if rank is None else slice(4 * rank, 4 * rank + 4)
    for iteration in range(3):
        images, targets = batch(seed=iteration)
        gradaug.backward(images[half], targets[half], F.cross_entropy)
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.detach() for name, value in gradaug.network.named_parameters()}


def train_wrapped(rank, model, options, **ddp_options):
    """The weights at the end, and which buckets were exchanged in each iteration."""
    ddp = DistributedDataParallel(model, **ddp_options)
    exchanged, by_iteration = [], []

    def hook(group, bucket):
        exchanged.append(bucket.index())
        return allreduce_hook(group, bucket)

    ddp.register_comm_hook(None, hook)
    gradaug = GradAug(ddp, transforms=RESIZE, **options)
    backward = gradaug.backward

    def counting(*args):
        backward(*args)
        by_iteration.append(sorted(exchanged))
        exchanged.clear()

    gradaug.backward = counting
    return dict(weights=train(gradaug, rank), exchanged=by_iteration)


def message_of(model, options, **ddp_options):
    try:
        GradAug(DistributedDataParallel(model, **ddp_options), transforms=RESIZE, **options)
    except ValueError as error:
        return str(error)


def find(rank):
    """What each of two gloo processes runs."""
    one, small = dict(bucket_cap_mb=100), dict(bucket_cap_mb=0.002)
    no_norm = convolutions(norm=False)
    return dict(
        width=train_wrapped(rank, copy.deepcopy(no_norm), WIDTH, **one),
        small_buckets=train_wrapped(rank, copy.deepcopy(no_norm), WIDTH, **small),
        plain=train_wrapped(rank, copy.deepcopy(no_norm), dict(num_subnets=0), **one),
        depth=train_wrapped(rank, Residual(), DEPTH, find_unused_parameters=True, **one),
        unprepared=message_of(Residual(), DEPTH),
        static=message_of(no_norm, WIDTH, static_graph=True),
    )


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    return run_two_ranks('test_training', tmp_path_factory.mktemp('ranks'))


@pytest.mark.parametrize(
    ('run', 'network', 'options'),
    [
        ('width', lambda: convolutions(norm=False), WIDTH),
        ('small_buckets', lambda: convolutions(norm=False), WIDTH),
        ('plain', lambda: convolutions(norm=False), dict(num_subnets=0)),
        ('depth', Residual, DEPTH),
    ],
)
def test_two_ranks_are_one_process_on_the_whole_batch(ranks, run, network, options):
    model = network()
    start = copy.deepcopy(dict(model.named_parameters()))
    expected = train(GradAug(model, transforms=RESIZE, **options))
    assert max((expected[name] - start[name]).abs().max() for name in start) > 1e-2
    assert_same(ranks[0][run]['weights'], expected)
    assert_same(ranks[0][run]['weights'], ranks[1][run]['weights'], atol=0)


def test_each_bucket_is_exchanged_once_an_iteration(ranks):
    for rank in ranks:
        for run in ('width', 'plain', 'depth'):
            assert rank[run]['exchanged'] == [[0], [0], [0]]
        buckets = rank['small_buckets']['exchanged'][-1]
        assert len(buckets) > 1 and buckets == list(range(len(buckets)))


def test_wrappers_that_cannot_do_it_are_refused(ranks):
    for rank in ranks:
        assert 'DistributedDataParallel(model, find_unused_parameters=True)' in rank['unprepared']
        assert 'static_graph means the same graph in every pass' in rank['static']
