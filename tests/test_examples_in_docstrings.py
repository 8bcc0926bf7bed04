"""The examples in docstrings are run, and everything public that a training loop of one's own needs has one."""

import doctest
import importlib
import inspect
import pkgutil
import random

import numpy as np
import pytest
import torch

import mmgradaug
import mmgradaug.models
import mmgradaug.slimming
import mmgradaug.subnets

MODULES = sorted(m.name for m in pkgutil.walk_packages(mmgradaug.__path__, 'mmgradaug.'))
# A detector is a long config; theirs are in configs/, which tests train.
CONFIGS = {'GradAugDetector', 'GradAugMaskRCNN'}


@pytest.fixture(autouse=True)
def no_random_numbers_used():
    """Examples may draw and set seeds; tests after them draw what they would have drawn without."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])


def examples_of(module: str) -> dict[str, doctest.DocTest]:
    """By full name. Nothing of the module is at hand: who copies an example has all that it needs."""
    found = doctest.DocTestFinder().find(importlib.import_module(module), globs={})
    return {test.name: test for test in found if test.examples}


@pytest.mark.parametrize('module', MODULES)
def test_examples_give_what_they_say(module):
    for test in examples_of(module).values():
        said = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        runner.run(test, out=said.append)
        assert not said, ''.join(said)


@pytest.mark.parametrize(
    'package', [mmgradaug, mmgradaug.slimming, mmgradaug.subnets, mmgradaug.models]
)
def test_everything_public_has_an_example_that_is_run(package):
    public = {name: getattr(package, name) for name in package.__all__ if name not in CONFIGS}
    without = [
        name
        for name, each in public.items()
        if inspect.isclass(each) or inspect.isfunction(each)
        if f'{each.__module__}.{each.__qualname__}' not in examples_of(each.__module__)
    ]
    assert not without
