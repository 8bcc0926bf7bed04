"""Classification works without MMDetection, and detection says what is missing."""

import sys

import pytest
from command_line import ON_ONEDL, run

CODE = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # importing it is an error
import mmgradaug
from mmgradaug.registry import DATASETS, MODELS
assert MODELS.get('GradAugClassifier') is not None
wanted = [(MODELS, 'GradAugMaskRCNN'), (MODELS, 'GradAugDetector'), (DATASETS, 'Shapes')]
for registry, name in wanted:
    try:
        registry.build(dict(type=name, anything=dict()))
    except (ImportError, TypeError) as error:  # TypeError: it is there, and takes no such argument
        print('asked for', name + ':', error)
"""


@pytest.mark.parametrize('blocked', [['mmdet'], ['mmcv._ext']], ids=str)
def test_detection_says_what_is_missing(blocked):
    code, output = run(sys.executable, '-c', CODE.format(blocked=blocked))
    assert code == 0, output
    both = 'GradAugMaskRCNN and GradAugDetector'
    needing = [('GradAugMaskRCNN', both), ('GradAugDetector', both)]
    # The data sets of OneDL's MMDetection are imported without operators.
    if not (ON_ONEDL and blocked == ['mmcv._ext']):
        needing.append(('Shapes', 'Shapes'))
    for name, said in needing:
        assert f'asked for {name}: {said} need MMDetection and operators of mmcv' in output
    assert blocked[0] in output and 'pip install -r requirements.txt' in output
