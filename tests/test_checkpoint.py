import pickle

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
