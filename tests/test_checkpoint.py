import argparse
import os
import pickle
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader

import mmgradaug  # noqa: F401  allows the globals
from mmgradaug.checkpoint import CAN_BE_SAFE, DamagedCheckpointError


def test_a_training_log_survives_the_safe_unpickler(tmp_path):
    hub = MessageHub('test_checkpoint')
    for step in range(3):
        hub.update_scalar('train/loss', 1.5 * step)
    hub.update_scalar('train/acc', np.float32(0.5))
    torch.save(dict(message_hub=hub.state_dict(), best=np.float64(0.25)), tmp_path / 'log.pth')
    loaded = torch.load(tmp_path / 'log.pth', weights_only=True)
    other = MessageHub('test_checkpoint_loaded')
    other.load_state_dict(loaded['message_hub'])
    buffer = other.get_scalar('train/loss')
    assert buffer.data[0].tolist() == [0.0, 1.5, 3.0]
    assert (buffer.mean(), buffer.max(), buffer.current()) == (1.5, 3.0, 3.0)
    assert loaded['best'] == 0.25


def test_a_checkpoint_of_the_other_numpy_loads(tmp_path):
    """numpy 1 and 2 name the same two functions differently."""
    torch.save(dict(log=HistoryBuffer([1.0], [1]), best=np.float64(0.5)), tmp_path / 'new.pth')
    here = np.zeros(1).__reduce__()[0].__module__
    other = {
        'numpy._core.multiarray': 'numpy.core.multiarray',
        'numpy.core.multiarray': 'numpy._core.multiarray',
    }[here]
    with (
        zipfile.ZipFile(tmp_path / 'new.pth') as new,
        zipfile.ZipFile(tmp_path / 'old.pth', 'w') as old,
    ):
        for name in new.namelist():
            data = new.read(name)
            if name.endswith('data.pkl'):
                assert here.encode() in data
                data = data.replace(here.encode(), other.encode())
            old.writestr(name, data)
    loaded = torch.load(tmp_path / 'old.pth', weights_only=True)
    assert loaded['best'] == 0.5 and loaded['log'].current() == 1.0


class Reach:
    """A pickle that asks for something through getattr, as an attack would."""

    def __init__(self, owner, name):
        self.asks = (owner, name)

    def __reduce__(self):
        return getattr, self.asks


@pytest.mark.parametrize(
    'asks', [(HistoryBuffer, '__init__'), (np.ndarray, 'tofile'), (HistoryBuffer, '__getstate__')]
)
def test_other_attributes_stay_out_of_reach(tmp_path, asks):
    torch.save(Reach(*asks), tmp_path / 'attack.pth')
    assert torch.load(tmp_path / 'attack.pth', weights_only=False) is getattr(*asks)
    with pytest.raises(pickle.UnpicklingError, match='may not ask for'):
        torch.load(tmp_path / 'attack.pth', weights_only=True)


@pytest.mark.skipif(not CAN_BE_SAFE, reason='PyTorch loads them')
@pytest.mark.parametrize('zipped', [True, False])
def test_a_whole_model_is_told_from_other_objects_beside_weights(tmp_path, zipped):
    path, save = tmp_path / 'some.pth', dict(_use_new_zipfile_serialization=zipped)
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), path, **save)
    with pytest.raises(pickle.UnpicklingError, match='some.pth holds a pickled model') as error:
        CheckpointLoader.load_checkpoint(str(path))
    assert 'model.state_dict()' in str(error.value) and len(str(error.value).splitlines()) == 1
    settings = argparse.Namespace(lr=0.1)
    torch.save(dict(model=torch.nn.Linear(2, 2).state_dict(), args=settings), path, **save)
    with pytest.raises(pickle.UnpicklingError, match='holds argparse.Namespace beside') as error:
        CheckpointLoader.load_checkpoint(str(path))
    for name in ('likely succeed', '\x1b', '--resume'):
        assert name not in str(error.value)
    # The lines that it gives do what it says.
    folder = os.getcwd()
    os.chdir(tmp_path)
    try:
        lines = [line.strip() for line in str(error.value).splitlines()[1:]]
        exec('\n'.join(lines), dict(torch=torch))
    finally:
        os.chdir(folder)
    assert set(CheckpointLoader.load_checkpoint(str(tmp_path / 'weights.pth'))) == {
        'weight',
        'bias',
    }


def test_a_damaged_file_says_nothing_of_resuming(tmp_path):
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(DamagedCheckpointError, match='is empty. Take another one$'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'empty.pth'))


def test_a_file_that_cannot_be_downloaded_says_which_setting_takes_a_local_one(
    tmp_path, monkeypatch
):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    url = 'http://127.0.0.1:9/resnet.pth'  # where nothing listens
    with pytest.raises(ConnectionError, match='init_cfg.checkpoint=PATH .*load_from=PATH') as error:
        CheckpointLoader.load_checkpoint(url)
    assert str(error.value).startswith(f'{url} cannot be downloaded')


def test_resuming_does_not_run_a_checkpoints_text(tmp_path, classifier):
    """Stock MMEngine executes it: a file that weights_only accepts makes a directory of its choice."""
    proof = tmp_path / 'proof'
    (tmp_path / 'config.py').write_text(
        f'_base_ = {str(classifier / "config.py")!r}\n'
        "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)\n"
        "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))\n"
        'test_dataloader = test_evaluator = test_cfg = None\n'
    )
    work_dir = tmp_path / 'work_dir'
    command = [sys.executable, 'tools/train.py', tmp_path / 'config.py', '--work-dir', work_dir]
    subprocess.run(command, check=True, capture_output=True)
    checkpoint = torch.load(work_dir / 'epoch_1.pth', weights_only=True)
    assert 'config' not in checkpoint['meta']  # so nothing is lost
    checkpoint['meta']['config'] = f'__import__("os").mkdir({str(proof)!r})\n'
    checkpoint['meta']['epoch'] = checkpoint['meta']['iter'] = 0
    torch.save(checkpoint, tmp_path / 'stranger.pth')
    for resume in (['--resume', tmp_path / 'stranger.pth'], ['--resume']):
        shutil.copy(tmp_path / 'stranger.pth', work_dir / 'epoch_1.pth')
        done = subprocess.run([*command, *resume], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert 'resumed epoch: 0' in done.stdout + done.stderr
        assert "meta['config']" in done.stdout + done.stderr
        assert not proof.exists()
