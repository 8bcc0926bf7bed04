"""Examples as users run them, only shorter, and the code of docs/plain_pytorch.md."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from command_line import ROOT, run

EXAMPLES = sorted(path.name for path in (ROOT / 'examples').glob('*.py'))
DOCS = (ROOT / 'docs' / 'plain_pytorch.md').read_text()


def need(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f'{package} is not installed')


def output_of(*command):
    code, output = run(*command)
    assert code == 0, output[-3000:]
    return output


def accuracy(output):
    return float(re.findall(r'test accuracy ([\d.]+)%', output)[-1])


def test_plain_pytorch():
    options = ['--epochs', '12']
    script = ROOT / 'examples' / 'plain_pytorch.py'
    gradaug = output_of(sys.executable, script, *options)
    plain = output_of(sys.executable, script, '--plain', *options)
    assert accuracy(gradaug) > 80 and accuracy(plain) > 70  # chance is 10
    assert gradaug != plain


def test_ddp():
    torchrun = Path(sys.executable).parent / 'torchrun'
    command = [torchrun, '--standalone', '--nproc_per_node', '2']
    output = output_of(*command, ROOT / 'examples' / 'ddp.py', '--epochs', '3')
    assert re.search(r'2 ranks agree: \d+ equal weights', output)
    assert accuracy(output) > 60


def test_timm_model():
    need('timm')
    output = output_of(sys.executable, ROOT / 'examples' / 'timm_model.py')
    last = next(line for line in output.splitlines() if line.startswith('iteration 40:'))
    for name in ('loss', 'loss_full', *(f'loss_subnet{i}' for i in range(3))):
        assert f"'{name}': " in last
    assert float(re.search(r"'loss_full': ([\d.]+)", last)[1]) < 1.5  # ln 10 = 2.3 before
    assert accuracy(output) > 50


@pytest.mark.parametrize('precision', ['32-true', 'bf16-mixed'])
def test_lightning_module(precision):
    need('lightning')
    script = ROOT / 'examples' / 'lightning_module.py'
    output = output_of(sys.executable, script, '--epochs', '3', '--precision', precision)
    assert all(f"'loss_subnet{i}': " in output for i in range(3))
    assert accuracy(output) > 60


@pytest.mark.parametrize('name', EXAMPLES)
def test_heads_name_the_command(name):
    head = (ROOT / 'examples' / name).read_text().split('"""')[1]
    assert f'examples/{name}' in head and 'Takes ' in head and 'Prints ' in head


def test_documented_code_runs(tmp_path):
    blocks = re.findall(r'```python\n(.*?)```', DOCS, re.DOTALL)
    assert len(blocks) > 8
    # From a file, since PyTorch reads the source of custom operations.
    script = tmp_path / 'documented.py'
    script.write_text('\n'.join(blocks) + "\nprint('all ran')\n")
    assert 'all ran' in output_of(sys.executable, script)


def test_documented_files_exist():
    links = re.findall(r'\]\((?!https?:)([^)#]+)\)', DOCS)
    assert {f'../examples/{name}' for name in EXAMPLES} == {
        link for link in links if 'examples/' in link
    }
    assert all((ROOT / 'docs' / link).exists() for link in links)
