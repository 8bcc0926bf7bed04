"""The doctor: bad environments are named, by themselves and in a real interpreter."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCTOR = ROOT / 'mmgradaug' / 'doctor.py'


doctor = importlib.import_module('mmgradaug.doctor')
PACKAGES = [package for package in doctor.PACKAGES if package.distributions]
KNOWN = {package.distributions[0]: package.known for package in PACKAGES}
KNOWN['mmgradaug'] = '0.1.0'
ONEDL = {package.distributions[-1]: package.known for package in PACKAGES}
ONEDL |= {'mmgradaug': '0.1.0', 'onedl-mmcv': '2.3.6', 'onedl-mmdetection': '3.5.1'}


def found(**changes):
    """The known set with changes; `mmcv_lite=None` takes mmcv-lite out."""
    return {**KNOWN, **{name.replace('_', '-'): version for name, version in changes.items()}}


def diagnose(versions, **facts):
    facts.setdefault('gpus', ('a GPU',))
    return {problem.name: problem for problem in doctor.diagnose(versions, doctor.Facts(**facts))}


@pytest.mark.parametrize('versions', [KNOWN, ONEDL], ids=['official', 'OneDL'])
def test_a_complete_stack_has_no_problem(versions):
    assert diagnose(versions) == {}


@pytest.mark.parametrize(
    ('changes', 'name', 'level', 'fix'),
    [
        (dict(mmcv_lite=None), 'mmcv-missing', 'error', "'mmcv-lite<2.2.0'"),
        (dict(mmcv='2.1.0'), 'mmcv-twice', 'error', 'uninstall -y mmcv-lite mmcv'),
        (dict(onedl_mmengine='0.10.12'), 'mmengine-twice', 'error', 'mmengine==0.10.7'),
        (dict(mmcv_lite='1.7.2'), 'mmcv-version', 'error', "'mmcv-lite>=2.0.0'"),
        (dict(mmcv_lite='2.2.0'), 'mmdet-mmcv-pair', 'warning', "'mmcv-lite<2.2.0'"),
        (dict(mmdet=None, mmcv_lite='2.4.0'), 'mmpretrain-mmcv-pair', 'error', '<2.4.0'),
        (dict(mmengine='0.9.1'), 'mmengine-version', 'error', "'mmengine>=0.10.4,<1'"),
        (dict(mmpretrain=None), 'mmpretrain-missing', 'error', 'mmpretrain==1.2.0'),
        (dict(torchvision='0.28.0'), 'torch-torchvision-pair', 'error', "'torchvision==0.29.*'"),
        (dict(torch='2.1.2+cu121'), 'torch-torchvision-pair', 'error', "'torchvision==0.16.*'"),
        (dict(torchvision=None, torch='2.1.2'), 'torchvision-missing', 'error', '==0.16.*'),
        (dict(torch='2.2.2', torchvision='0.17.2'), 'torch-numpy-pair', 'error', "'numpy<2'"),
        (dict(torch='1.13.1', torchvision='0.14.1'), 'torch-version', 'error', 'torch>='),
        (dict(setuptools='82.0.1'), 'setuptools-version', 'warning', '<81'),
        (dict(setuptools=None), 'setuptools-missing', 'info', 'setuptools'),
        (dict(scikit_learn=None), 'sklearn-missing', 'warning', 'scikit-learn=='),
        (dict(mmdet=None), 'mmdet-missing', 'info', 'mmdet==3.3.0'),
        (dict(mmgradaug=None), 'mmgradaug-not-installed', 'warning', 'install --no-deps -e'),
    ],
)
def test_bad_versions_are_named_with_a_remedy(changes, name, level, fix):
    problems = diagnose(found(**changes))
    assert name in problems
    assert problems[name].level == level
    assert fix in problems[name].fix


@pytest.mark.parametrize(
    'changes',
    [
        dict(torch='2.14.1+cu130'),
        dict(torch='2.3.0', torchvision='0.18.0'),
        dict(torch='2.3.1', torchvision='0.18.1', numpy='1.26.4'),
        dict(mmcv_lite=None, mmcv='2.1.0'),
        dict(mmcv_lite=None, mmcv='2.0.0rc4'),
        dict(mmdet=None, pycocotools=None, mmcv_lite='2.3.0'),
        dict(setuptools='80.9.0'),
    ],
)
def test_other_sound_versions_are_no_error(changes):
    assert {problem.level for problem in diagnose(found(**changes)).values()} <= {'info'}


def test_python_too_old():
    problems = diagnose(KNOWN, python=(3, 8, 18))
    assert list(problems) == ['python-too-old']
    assert problems['python-too-old'].level == 'error'
    assert 'python-too-old' not in diagnose(KNOWN, python=(3, 9, 0))


def test_old_pythons_are_not_sent_to_releases_that_leave_them_out():
    assert diagnose(found(numpy=None), python=(3, 9))['numpy-missing'].fix.endswith('install numpy')


def test_a_package_missing_from_the_fork_is_taken_from_the_fork():
    fix = diagnose({**ONEDL, 'onedl-mmcv': None})['mmcv-missing'].fix
    assert fix.endswith('install onedl-mmcv')


def test_root_causes_only():
    """One broken torch makes everything above it fail to import; only torch is to be mended."""
    modules = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmgradaug')
    problems = diagnose(KNOWN, imports=dict.fromkeys(modules, 'ImportError: libtorch.so'))
    assert list(problems) == ['torch-broken']
    assert 'libtorch.so' in problems['torch-broken'].what


def test_a_known_cause_explains_a_failing_import():
    pair = diagnose(
        found(torchvision='0.28.0'),
        imports={
            'torchvision': 'RuntimeError: operator torchvision::nms does not exist',
            'mmpretrain': 'RuntimeError: operator torchvision::nms does not exist',
        },
    )
    assert list(pair) == ['torch-torchvision-pair']
    mim = diagnose(
        found(setuptools='82.0.1'), imports={'mim': "ModuleNotFoundError: 'pkg_resources'"}
    )
    assert list(mim) == ['setuptools-version']


def test_a_problem_of_detection_does_not_hide_one_of_classification():
    problems = diagnose(
        found(mmcv_lite='2.2.0'),
        imports={'mmdet': 'AssertionError', 'mmpretrain': 'ImportError: no einops'},
    )
    assert {name: problem.level for name, problem in problems.items()} == {
        'mmpretrain-broken': 'error',
        'mmdet-mmcv-pair': 'warning',
    }


def test_a_failing_import_of_mmgradaug_is_an_error():
    problems = diagnose(KNOWN, imports={'mmgradaug': 'SyntaxError: invalid syntax'})
    assert problems['mmgradaug-broken'].level == 'error'


def test_a_pair_that_works_is_a_warning():
    problems = diagnose(found(torchvision='0.28.0'), imports={'torchvision': ''})
    assert problems['torch-torchvision-pair'].level == 'warning'


def test_missing_gpus_are_only_a_note():
    problems = diagnose(KNOWN, gpus=(), imports={'torch': ''})
    assert {name: problem.level for name, problem in problems.items()} == {'no-gpu': 'info'}
    hidden = diagnose(KNOWN, gpus=(), imports={'torch': ''}, nvidia_driver=True)
    assert {name: problem.level for name, problem in hidden.items()} == {'gpu-not-seen': 'warning'}


def test_operators_of_mmcv_are_for_detection_alone():
    error = {'mmcv.ops': "ModuleNotFoundError: No module named 'mmcv._ext'", 'mmdet': 'the same'}
    problems = diagnose(KNOWN, imports=error)
    assert {name: problem.level for name, problem in problems.items()} == {
        'mmcv-without-ops': 'warning'
    }
    assert problems['mmcv-without-ops'].fix.endswith('mmcv_ext_fallback')
    alone = diagnose(found(mmdet=None), imports=error)
    assert alone['mmcv-without-ops'].level == 'info'
    # They are not blamed for what they stand on.
    below = {**error, 'torch': 'OSError: no libcuda'}
    assert list(diagnose(KNOWN, imports=below)) == ['torch-broken']


def test_errors_come_first():
    levels = [p.level for p in doctor.diagnose(found(mmcv_lite=None, mmdet=None, mmgradaug=None))]
    assert levels == sorted(levels, key=('error', 'warning', 'info').index)


def test_verdicts():
    mmcv = next(package for package in doctor.PACKAGES if package.module == 'mmcv')
    assert doctor.verdict(mmcv, {'mmcv-lite': '2.1.0'}) == 'ok'
    assert doctor.verdict(mmcv, {'mmcv': '2.1.0'}) == 'ok'
    assert doctor.verdict(mmcv, {'mmcv-lite': '2.0.1'}) == 'different, not tested'
    assert doctor.verdict(mmcv, {'onedl-mmcv': '2.1.0'}) == 'different, not tested'
    assert doctor.verdict(mmcv, {'mmcv-lite': '2.1.0'}, 'ImportError') == 'broken'
    assert doctor.verdict(mmcv, {'mmcv-lite': '2.1.0', 'mmcv': '2.1.0'}) == 'broken'
    assert doctor.verdict(mmcv, {'mmcv-lite': None}) == 'missing'


def test_known_versions_are_those_of_requirements_txt():
    text = (ROOT / 'requirements.txt').read_text()
    pins = dict(re.findall(r'^([\w-]+)==(\S+)$', text, re.MULTILINE))
    assert len(pins) >= 10
    # Both install the package cv2: other versions would write over each other.
    assert pins.pop('opencv-python-headless') == pins.pop('opencv-python')
    assert {name: KNOWN.get(name) for name in pins} == pins


def test_bounds_are_those_of_pyproject_toml():
    text = (ROOT / 'pyproject.toml').read_text()
    oldest = re.search(r"^requires-python = '>=([\d.]+)'", text, re.MULTILINE).group(1)
    assert oldest == '.'.join(map(str, doctor.OLDEST_PYTHON))
    required = ast.literal_eval(re.search(r'^dependencies = (\[.*?\])', text, re.M | re.S).group(1))
    extra = ast.literal_eval(re.search(r'^detection = (\[.*?\])', text, re.M).group(1))
    declared = {}
    for line in [*required, *extra]:
        name, bounds = re.match(r'([\w-]+)(.*)', line).groups()
        declared[name.lower()] = bounds
    stated = {
        package.distributions[0]: package.accepted
        for package in PACKAGES
        # mmcv is on purpose not declared.
        if package.module != 'mmcv' and package.purpose in ('', 'detection')
    }
    # What the commands need beside it has no bounds.
    assert {name: declared[name] for name in stated} == stated


# In a real interpreter.


def run_doctor(python, *arguments):
    environment = {key: os.environ[key] for key in os.environ if not key.startswith('PYTHON')}
    return subprocess.run(
        [python, DOCTOR, *arguments], capture_output=True, text=True, env=environment, timeout=120
    )


def test_this_environment_is_fine():
    result = run_doctor(sys.executable, '--json', '-')
    assert result.returncode == 0, result.stdout + result.stderr
    data = json.loads(result.stdout)
    assert data['ok']
    verdicts = {row['package']: row['verdict'] for row in data['packages']}
    for needed in ('torch', 'torchvision', 'numpy', 'mmengine', 'mmcv', 'mmpretrain'):
        assert verdicts[needed] in ('ok', 'different, not tested')


class Environment:
    """A virtual environment with stub packages, to break at will."""

    def __init__(self, folder):
        venv.create(folder, with_pip=False, symlinks=os.name != 'nt')
        self.python = str(folder / 'bin' / 'python')
        (self.site,) = folder.glob('lib/python*/site-packages')
        import packaging

        (self.site / 'packaging').symlink_to(Path(packaging.__file__).parent)
        for package in PACKAGES:
            self.add(package.distributions[0], package.known, package.module)
        self.add('mmgradaug', '0.1.0', 'mmgradaug')
        zeros = 'class zeros:\n    def __init__(self, *a): pass\n    def numpy(self): pass\n'
        cuda = 'class cuda:\n    is_available = staticmethod(lambda: False)\n'
        self.module('torch').write_text(zeros + cuda + 'tensor = lambda *a, **k: None\n')
        (self.site / 'torchvision' / 'ops.py').write_text('nms = lambda *a: None\n')
        (self.site / 'mmcv' / 'ops.py').write_text('nms = lambda *a: None\n')
        (self.site / 'mmdet' / 'models.py').write_text('')
        (self.site / 'pkg_resources.py').write_text('')

    def module(self, name):
        return self.site / name / '__init__.py'

    def add(self, distribution, version, module):
        info = self.site / f'{distribution.replace("-", "_")}-{version}.dist-info'
        info.mkdir()
        metadata = f'Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n'
        (info / 'METADATA').write_text(metadata)
        self.module(module).parent.mkdir(exist_ok=True)
        self.module(module).write_text('')

    def problems(self):
        result = run_doctor(self.python, '--json', '-')
        assert 'Traceback' not in result.stderr, result.stderr
        data = json.loads(result.stdout)
        levels = {problem['name']: problem['level'] for problem in data['problems']}
        assert result.returncode == ('error' in levels.values())
        return levels


@pytest.fixture
def stubs(tmp_path):
    return Environment(tmp_path / 'env')


def test_stub_environment_is_fine(stubs):
    assert 'error' not in stubs.problems().values()


@pytest.mark.parametrize(
    'end', ['raise SystemExit(3)', 'import os; os._exit(3)', 'import os; os.abort()']
)
def test_an_import_that_ends_the_interpreter_is_blamed_alone(stubs, end):
    (stubs.site / 'torchvision' / 'ops.py').write_text(end)
    levels = stubs.problems()
    assert [name for name in levels if name.endswith('broken')] == ['torchvision-broken']


def test_modules_that_print_do_not_spoil_the_json(stubs):
    stubs.module('mmengine').write_text("import os; print('hello'); os.write(1, b'raw')")
    assert 'error' not in stubs.problems().values()


def test_empty_environment(tmp_path):
    env = Environment(tmp_path / 'env')
    for info in env.site.glob('*.dist-info'):
        info.rename(info.with_suffix('.gone'))
    levels = env.problems()
    assert {'torch-missing', 'mmpretrain-missing', 'mmcv-missing'} <= set(levels)


def test_json_file_beside_the_table(stubs, tmp_path):
    result = run_doctor(stubs.python, '--json', tmp_path / 'found.json')
    assert json.loads((tmp_path / 'found.json').read_text())['ok']
    assert 'known to work' in result.stdout
