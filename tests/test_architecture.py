"""Imports go one way: cli -> experiments -> evaluation -> models -> engine -> subnets -> slimming."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'mmgradaug'
LAYERS = ['slimming', 'subnets', 'engine', 'models']
MAY_IMPORT = {
    **{name: set(LAYERS[: i + 1]) for i, name in enumerate(LAYERS)},
    'datasets': {'datasets'},
    'evaluation': {'evaluation', 'datasets', 'models', 'slimming'},
    'experiments': {'experiments', 'evaluation', 'datasets'},
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


FILES = [f for f in sorted(PACKAGE.rglob('*.py')) if f.relative_to(PACKAGE).parts[0] in MAY_IMPORT]


def test_the_reader_of_imports_reads(tmp_path):
    found = imported_parts(PACKAGE / 'models' / 'gradaug_classifier.py')
    assert found == {'engine', 'slimming', 'subnets'}
    assert imported_parts(PACKAGE / 'slimming' / 'convert.py') == {'slimming'}


@pytest.mark.parametrize('file', FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_one_way(file):
    part = file.relative_to(PACKAGE).parts[0]
    assert imported_parts(file) <= MAY_IMPORT[part]


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
        ('engine/gradaug_step.py', 'backward'),
        ('engine/gradaug_step.py', 'update_params'),
    ]
