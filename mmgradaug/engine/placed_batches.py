"""Data loading in which every batch has a place, and random numbers of that place alone."""

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

# What random numbers are for: the same place means other numbers for another purpose.
ORDER, BATCH, ITERATION, EPOCH, TRIAL = range(5)


def seed_everything(*place: int) -> None:
    """Set the random generators that OpenMMLab draws from: Python's, numpy's, PyTorch's on all devices.

    Args:
        place: whole numbers >= 0 that say what the numbers are for, such as (seed, ITERATION, 17).
    """
    words = np.random.SeedSequence(place).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))


@contextmanager
def draws_of(*place: int) -> Iterator[None]:
    """A context in which what the CPU draws is a function of the place; outside nothing was drawn."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(place).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class PlacedIndices(NamedTuple):
    """Which images a batch is of, and its place: the how-manieth of which epoch, both from 0."""

    epoch: int
    position: int
    indices: list[int]


class NamedDataset(Dataset[Any]):
    """A dataset that names the image which cannot be loaded; to everything else what it is made of.

    Args:
        dataset: map-style.
    """

    OWN = ('dataset', 'seed', 'rank', 'replace_broken', 'broken')

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.replace_broken = 0
        # One byte an image, which worker processes share.
        self.broken = torch.multiprocessing.RawArray('b', len(dataset))

    def _load(self, index: int) -> Any:
        for other in range(index, index + 1 + self.replace_broken):
            other %= len(self.dataset)
            try:
                return self.dataset[other]
            except Exception as error:
                self.broken[other] = 1
                if sum(self.broken) > self.replace_broken:
                    text = (
                        f'{self.name(other)} could not be loaded ({type(error).__name__}: {error}).'
                    )
                    if self.replace_broken:
                        text += (
                            f' {self.replace_broken} others have been left out before: no more are.'
                        )
                    raise RuntimeError(
                        f'{text} Mend or remove it, or let some of the training data be left out: '
                        'default_hooks.data_check.replace_broken=10'
                    ) from error

    def name(self, index: int) -> str:
        """The file of an image, or its number where that is not known."""
        try:
            return str(self.dataset.get_data_info(index)['img_path'])
        except Exception:  # a dataset of another kind, or one that cannot say even that
            return f'image {index} of {type(self.dataset).__name__}'

    def __getitem__(self, index: int) -> Any:
        return self._load(index)

    def __len__(self) -> int:
        return len(self.dataset)

    def __deepcopy__(self, memo: dict[int, Any]) -> 'NamedDataset':
        return self  # MMEngine copies the config of a data loader, in which this lies

    def __getattr__(self, name: str) -> Any:
        if name in self.OWN or name.startswith('__'):  # while it is unpickled in a worker
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Hooks replace pipelines: of the dataset, not of what is around it.
        if name in self.OWN:
            super().__setattr__(name, value)
        else:
            setattr(self.dataset, name, value)


class PlacedDataset(NamedDataset):
    """A dataset whose augmentation is a function of (seed, rank, place of the batch).

    So it does not matter which worker process loads a batch, how many there are, and what they have
    loaded before.

    Args:
        dataset: map-style.
        seed: of the run.
        rank: of the process.
    """

    def __init__(self, dataset: Any, seed: int, rank: int) -> None:
        super().__init__(dataset)
        self.seed, self.rank = seed, rank

    def __getitems__(self, batch: PlacedIndices) -> list[Any]:
        """What a DataLoader calls for a batch."""
        with draws_of(self.seed, BATCH, self.rank, batch.epoch, batch.position):
            if callable(getattr(self.dataset, '__getitems__', None)):
                return self.dataset.__getitems__(batch.indices)
            return [self._load(index) for index in batch.indices]


class PlacedBatchSampler(Sampler[PlacedIndices]):
    """A batch sampler that says of each batch which place it has, and can begin in the middle.

    Args:
        sampler: of indices.
        batch_size: images a batch, of one process.
        drop_last: leave out a last batch that is smaller.
        of: config of another batch sampler, such as MMDetection's AspectRatioBatchSampler.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        drop_last: bool = False,
        of: Optional[dict[str, Any]] = None,
    ) -> None:
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last
        if of is None:
            self.batches = BatchSampler(sampler, batch_size, drop_last)
        else:
            arguments = dict(sampler=sampler, batch_size=batch_size)
            self.batches = DATA_SAMPLERS.build(dict(of), default_args=arguments)
        self.epoch = 0
        # How many batches the next pass leaves out.
        self.skip = 0

    def __iter__(self) -> Iterator[PlacedIndices]:
        epoch, skip, self.skip = self.epoch, self.skip, 0
        for position, indices in enumerate(self.batches):
            if position >= skip:
                yield PlacedIndices(epoch, position, indices)

    def __len__(self) -> int:
        return len(self.batches)


class EndlessBatches:
    """The batches of an iteration-based training, one pass over the data after another.

    In place of MMEngine's iterator, which starts workers before a checkpoint is loaded, and gets to the
    middle by loading everything before it.

    Args:
        loader: made by :func:`placed_loader`.
        seed: of the run.
        epoch, position: the place of the first batch that is loaded.
        skip: how many batches the training loop asks for only to get there; it gets None.
    """

    def __init__(
        self, loader: DataLoader[Any], seed: int, epoch: int = 0, position: int = 0, skip: int = 0
    ) -> None:
        self.loader, self.seed = loader, seed
        self.epoch, self.position, self.skip = epoch, position, skip
        self._iterator: Optional[Iterator[Any]] = None

    def __iter__(self) -> 'EndlessBatches':
        return self

    def __next__(self) -> Any:
        if self.skip:
            self.skip -= 1
            return None
        if self._iterator is None:
            self._begin()
        assert self._iterator is not None  # _begin() has made it
        try:
            batch = next(self._iterator)
        except StopIteration:
            self.epoch, self.position = self.epoch + 1, 0
            self._begin()
            batch = next(self._iterator)
        self.position += 1
        return batch

    def skip_iter(self, number: int) -> None:
        """What OneDL's loop calls instead of asking for so many batches to get there."""
        self.skip -= number

    def _begin(self) -> None:
        batches: Any = self.loader.batch_sampler
        batches.epoch, batches.skip = self.epoch, self.position
        if hasattr(batches.sampler, 'set_epoch'):
            batches.sampler.set_epoch(self.epoch)
        # A sampler may draw from the global generators (PyTorch's RandomSampler does).
        with draws_of(self.seed, ORDER, self.epoch):
            self._iterator = iter(self.loader)
            first = next(self._iterator, None)
        if first is not None:
            self._iterator = itertools.chain([first], self._iterator)


def placed_loader(runner: Runner) -> DataLoader[Any]:
    """The data loader of a training's config once more, its batches with a place.

    Everything is made anew but the dataset: samplers that MMEngine made before it read the seed of a
    checkpoint have another one.

    Raises:
        TypeError: the data loader was given ready-made.
    """
    given = runner._train_dataloader
    if not isinstance(given, dict):
        raise TypeError(
            'ExactResumeHook makes the data loader of the training itself: give train_dataloader as a '
            'dict(...), not as a DataLoader'
        )
    dataset = runner.train_loop.dataloader.dataset
    config = {**given, 'dataset': PlacedDataset(dataset, runner.seed, get_rank())}
    config.pop('num_batch_per_epoch', None)  # the dataset has been cut already
    config['batch_sampler'] = dict(
        type=PlacedBatchSampler,
        drop_last=config.pop('drop_last', False),
        of=config.get('batch_sampler'),
    )
    different = runner._randomness_cfg.get('diff_rank_seed', False)
    with draws_of(runner.seed, ORDER):  # with diff_rank_seed a sampler draws its seed
        return runner.build_dataloader(config, seed=runner.seed, diff_rank_seed=different)


def smallest_batch(runner: Runner) -> Optional[int]:
    """How many images the smallest batch of the training has, on this rank; None if it cannot be known."""
    batches = runner.train_dataloader.batch_sampler
    size = getattr(batches, 'batch_size', None)
    if size is None or batches.drop_last or isinstance(batches.sampler, InfiniteSampler):
        return size
    # MMDetection's sampler of several sources is endless too, though it has a length.
    if hasattr(batches.sampler, 'source_ratio'):
        return size
    return len(batches.sampler) % size or size
