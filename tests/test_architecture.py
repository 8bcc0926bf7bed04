"""Imports go one way: cli -> experiments -> evaluation -> models -> engine -> training -> subnets -> slimming."""

import ast
import sys
from pathlib import Path

import pytest
from command_line import run

PACKAGE = Path(__file__).parents[1] / 'mmgradaug'
LAYERS = ['slimming', 'subnets', 'training', 'engine', 'models']
MAY_IMPORT = {
    **{name: set(LAYERS[: i + 1]) for i, name in enumerate(LAYERS)},
    'datasets': {'datasets'},
    'evaluation': {'evaluation', 'datasets', 'models', 'slimming'},
    'experiments': {'experiments', 'evaluation', 'engine', 'datasets', 'subnets'},
}


def imported_parts(file: Path) -> set:
    """The parts of mmgradaug (slimming, engine, ...) that a file imports."""
    parts = set()
    for node in ast.walk(ast.parse(file.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ['mmgradaug', *file.relative_to(PACKAGE).parts[:-1]]
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = '.'.join([*base, *([node.module] if node.module else [])])
            modules = [stem, *(f'{stem}.{alias.name}' for alias in node.names)]
        parts |= {m.split('.')[1] for m in modules if m.startswith('mmgradaug.')}
    return parts & set(MAY_IMPORT)


def part_of(file: Path) -> str:
    return Path(file.relative_to(PACKAGE).parts[0]).stem


FILES = [file for file in sorted(PACKAGE.rglob('*.py')) if part_of(file) in MAY_IMPORT]


def test_the_reader_of_imports_reads(tmp_path):
    found = imported_parts(PACKAGE / 'models' / 'gradaug_classifier.py')
    assert found == {'engine', 'slimming', 'subnets'}
    assert imported_parts(PACKAGE / 'slimming' / 'planning.py') == {'slimming'}
    assert imported_parts(PACKAGE / 'training.py') == {'slimming', 'subnets'}
    assert {part_of(file) for file in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize('file', FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_one_way(file):
    assert imported_parts(file) <= MAY_IMPORT[part_of(file)]


ALONE = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # importing it is an error
import torch
from torch import nn
from mmgradaug.slimming import extract_subnetwork, subnetwork
from mmgradaug.subnets import RandomResize
from mmgradaug.training import GradAug
model = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    nn.Linear(8, 5),
)
gradaug = GradAug(model, min_width=0.5, transforms=RandomResize([32, 24]))
losses = gradaug.backward(
    torch.randn(4, 3, 32, 32), torch.arange(4), torch.nn.functional.cross_entropy
)
assert extract_subnetwork(model, 0.5)[0].out_channels == 4
print(sorted(losses))
"""


def test_the_method_needs_pytorch_and_numpy_alone():
    blocked = ['mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'torchvision', 'rich', 'PIL', 'sklearn']
    code, output = run(
        sys.executable, '-c', ALONE.format(blocked=blocked), PYTHONPATH=PACKAGE.parent
    )
    assert code == 0 and "'loss_subnet2', 'width_subnet0'" in output, output


HEAVY = ('mmpretrain', 'mmdet', 'mmcv', 'torchvision', 'matplotlib', 'pandas')
LIGHT = """
import sys
{imports}
print('loaded', [name for name in {heavy!r} if name in sys.modules])
"""


def test_importing_the_package_is_light_and_names_load_what_they_need():
    def loaded(imports):
        code, output = run(sys.executable, '-c', LIGHT.format(imports=imports, heavy=HEAVY))
        assert code == 0, output
        return output.strip().splitlines()[-1]

    assert loaded('import mmgradaug') == 'loaded []'
    # Registries are there, so that a config can name our classes; looking one up loads it.
    named = "import mmgradaug\nmmgradaug.registry.MODELS.get('GradAugClassifier')"
    assert "'mmpretrain'" in loaded(named)


def test_no_file_is_long():
    files = [f for f in PACKAGE.rglob('*.py') if '.mim' not in f.parts]
    assert {f.name: n for f in files if (n := len(f.read_text().splitlines())) > 400} == {}


def test_the_step_is_written_once():
    """A second backward pass anywhere would be a second copy of the step."""
    calls = []
    for file in sorted(f for f in PACKAGE.rglob('*.py') if '.mim' not in f.parts):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ('backward', 'update_params'):
                    calls.append((str(file.relative_to(PACKAGE)), node.func.attr))
    assert sorted(calls) == [
        ('engine/gradaug_step.py', 'backward'),  # OptimWrapper's, within the next one
        ('engine/gradaug_step.py', 'update_params'),
    ]
