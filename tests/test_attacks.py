"""A stranger's checkpoint, handed to every command that takes one: nothing in it is run."""

import os
import pickle
import shutil
import sys

import pytest
import torch
from command_line import ROOT, load_tool
from mmengine.runner import CheckpointLoader, load_checkpoint

from mmgradaug import cli  # importing mmgradaug is what makes loading safe
from mmgradaug.checkpoint import newest_whole_checkpoint
from mmgradaug.models.regularizers import DistillationClsDataPreprocessor


class Attack:
    """A pickle that makes a folder when it is read."""

    def __init__(self, proof):
        self.proof = str(proof)

    def __reduce__(self):
        return os.mkdir, (self.proof,)


def in_a_zip(contents, path):
    torch.save(contents, path)


def in_a_pickle(contents, path):
    torch.save(contents, path, _use_new_zipfile_serialization=False)


def bare(contents, path):
    path.write_bytes(pickle.dumps(contents))


FORMS = [in_a_zip, in_a_pickle, bare]


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
def attack(request, tmp_path):
    """A checkpoint that looks like one, and the folder that it would make."""
    proof = tmp_path / 'proof'
    contents = dict(
        meta=dict(epoch=1, iter=1, time='20990101_000000', attack=Attack(proof)),
        state_dict={},
        optimizer={},
        message_hub={},
    )
    path = tmp_path / 'epoch_1.pth'
    request.param(contents, path)
    return path, proof


def test_the_attack_would_work(attack):
    path, proof = attack
    with path.open('rb') as file:
        if file.read(2) == b'PK' or b'ctorch' in path.read_bytes()[:200]:
            torch.load(path, weights_only=False)
        else:
            try:
                torch.load(path, weights_only=False)
            except Exception:  # a bare pickle is not PyTorch's form, but it has been read by then
                pass
    assert proof.is_dir()


COMMANDS = {
    'train.py': ['--resume', '{}', '--work-dir', 'work'],
    'train.py load_from': ['--work-dir', 'work', '--cfg-options', 'load_from={}'],
    'test.py': ['{}', '--work-dir', 'work'],
    'extract': ['{}', '--width', '0.5', '--out', 'out'],
    'cam': ['{}', 'image.png', '--out', 'out'],
    'fgsm': ['{}', '--out', 'out'],
    'robustness': ['{}', '--out', 'out'],
    'width-curve': ['{}', '--out', 'out'],
    'detections': ['{}', '--out', 'out'],
}


@pytest.mark.parametrize('command', COMMANDS)
def test_no_command_runs_it(command, attack, classifier, tmp_path, monkeypatch):
    path, proof = attack
    config = classifier / 'config.py'
    script = command.split()[0]
    tool = script.removesuffix('.py')
    if tool == 'train':
        config = tmp_path / 'config.py'
        config.write_text(
            f'_base_ = {str(classifier / "config.py")!r}\n'
            "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)\n"
            "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))\n"
        )
    elif tool == 'detections':
        config = ROOT / 'configs/quickstart/shapes_baseline.py'
    image = next((classifier / 'test').rglob('*.png'))
    shutil.copy(image, tmp_path / 'image.png')
    monkeypatch.chdir(tmp_path)
    words = [word.format(path) for word in COMMANDS[command]]
    monkeypatch.setattr(sys, 'argv', [tool, str(config), *words])
    with pytest.raises((SystemExit, Exception)) as error:
        load_tool(tool).main() if script != tool else cli.main([tool, str(config), *words])
        sys.exit('went on to its end')
    assert 'went on to its end' not in str(error.value)
    assert not isinstance(error.value, SystemExit) or error.value.code != 2, 'wrong command line'
    assert not proof.exists()


def through_newest(path):
    assert newest_whole_checkpoint([path.parent])[0] is None
    raise RuntimeError


READERS = {
    'MMEngine, as MMDetection and MMPretrain call it': (
        lambda path: load_checkpoint(torch.nn.Linear(1, 1), str(path))
    ),
    'its loader': lambda path: CheckpointLoader.load_checkpoint(str(path)),
    'a bare --resume': through_newest,
    'a teacher': lambda path: DistillationClsDataPreprocessor(
        teacher=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='mmpretrain.ResNet', depth=18),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=2, in_channels=512),
        ),
        teacher_checkpoint=str(path),
    )._load_teacher(),
}


@pytest.mark.parametrize('reader', READERS)
def test_no_reader_runs_it(reader, attack):
    path, proof = attack
    with pytest.raises((Exception, SystemExit)):
        READERS[reader](path)
    assert not proof.exists()


def test_an_environment_variable_does_not_open_it(attack, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    path, proof = attack
    with pytest.raises(Exception):  # noqa: B017
        CheckpointLoader.load_checkpoint(str(path))
    assert not proof.exists()
