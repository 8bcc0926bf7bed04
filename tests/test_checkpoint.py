import pickle
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

import mmgradaug  # noqa: F401  allows the globals


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
