"""Classification works without MMDetection, and detection says what is missing."""

import sys

import pytest
from command_line import run

CODE = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # importing it is an error
import mmgradaug
from mmgradaug.registry import MODELS
assert MODELS.get('GradAugClassifier') is not None
for name in ('GradAugMaskRCNN', 'GradAugDetector'):
    try:
        MODELS.build(dict(type=name, backbone=dict(), gradaug=dict()))
    except ImportError as error:
        print(name, error)
"""


@pytest.mark.parametrize('blocked', [['mmdet'], ['mmcv._ext']], ids=str)
def test_detection_says_what_is_missing(blocked):
    code, output = run(sys.executable, '-c', CODE.format(blocked=blocked))
    assert code == 0, output
    for name in ('GradAugMaskRCNN', 'GradAugDetector'):
        assert f'{name} detection needs MMDetection and operators of mmcv' in output
    assert blocked[0] in output and 'pip install -r requirements.txt' in output
