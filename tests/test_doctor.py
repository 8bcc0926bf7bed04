"""The doctor: bad environments are named, by themselves and in a real interpreter."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import venv
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCTOR = ROOT / 'mmgradaug' / 'doctor.py'


def load_by_path():
    """Import the file alone, as `python mmgradaug/doctor.py` does, without the package."""
    spec = importlib.util.spec_from_file_location('lone_doctor', DOCTOR)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


doctor = load_by_path()

KNOWN = {package.distributions[0]: package.known for package in doctor.PACKAGES}
KNOWN['mmgradaug'] = '0.1.0'
ONEDL = {
    package.distributions[-1] if package.onedl else package.distributions[0]: package.onedl
    or package.known
    for package in doctor.PACKAGES
}
ONEDL['mmgradaug'] = '0.1.0'


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
        (dict(mmcv_lite=None), 'mmcv-missing', 'error', 'mmcv-lite==2.1.0'),
        (dict(mmcv='2.1.0'), 'mmcv-twice', 'error', 'uninstall -y mmcv-lite mmcv'),
        (dict(onedl_mmengine='0.10.12'), 'mmengine-twice', 'error', 'mmengine==0.10.7'),
        (dict(mmcv_lite='1.7.2'), 'mmcv-too-old', 'error', 'mmcv-lite==2.1.0'),
        (dict(mmcv_lite=None, mmcv='1.7.2'), 'mmcv-too-old', 'error', 'mim install mmcv==2.1.0'),
        (dict(mmcv_lite='2.2.0'), 'mmcv-too-new-for-mmdet', 'warning', 'mmcv-lite==2.1.0'),
        (dict(mmdet=None, mmcv_lite='2.4.0'), 'mmcv-too-new-for-mmpretrain', 'error', '2.1.0'),
        (dict(mmengine='0.9.1'), 'mmengine-too-old', 'error', 'mmengine==0.10.7'),
        (dict(mmpretrain='1.1.1'), 'mmpretrain-too-old', 'error', 'mmpretrain==1.2.0'),
        (dict(mmpretrain=None), 'mmpretrain-missing', 'error', 'mmpretrain==1.2.0'),
        (dict(torchvision='0.28.0'), 'torch-torchvision-pair', 'error', "'torchvision==0.29.*'"),
        (dict(torch='2.1.2+cu121'), 'torch-torchvision-pair', 'error', "'torchvision==0.16.*'"),
        (dict(torchvision=None, torch='2.1.2'), 'torchvision-missing', 'error', '==0.16.*'),
        (dict(torch='2.2.2', torchvision='0.17.2'), 'torch-numpy-pair', 'error', "'numpy<2'"),
        (dict(torch='1.13.1', torchvision='0.14.1'), 'torch-too-old', 'error', 'torch=='),
        (dict(setuptools='82.0.1'), 'setuptools-without-pkg-resources', 'warning', '<81'),
        (dict(setuptools=None), 'setuptools-without-pkg-resources', 'warning', '<81'),
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
        dict(torch='2.0.1', torchvision='0.15.2', numpy='1.26.4'),
        dict(torch='2.3.0', torchvision='0.18.0'),
        dict(mmcv_lite=None, mmcv='2.1.0'),
        dict(mmcv_lite=None, mmcv='2.0.0rc4'),
        dict(mmdet=None, pycocotools=None, mmcv_lite='2.3.0'),
        dict(openmim=None, setuptools='82.0.1'),
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
    missing = found(numpy=None, mmpretrain=None)
    assert diagnose(missing, python=(3, 9))['numpy-missing'].fix.endswith('install numpy')
    # Pure Python, and the version matters.
    assert 'mmpretrain==1.2.0' in diagnose(missing, python=(3, 9))['mmpretrain-missing'].fix


def test_a_package_missing_from_the_fork_is_taken_from_the_fork():
    fix = diagnose({**ONEDL, 'onedl-mmcv': None})['mmcv-missing'].fix
    assert 'onedl-mmcv==2.3.6' in fix
    assert 'mmcv-lite' not in fix


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
    assert list(mim) == ['setuptools-without-pkg-resources']


def test_a_problem_of_detection_does_not_hide_one_of_classification():
    problems = diagnose(
        found(mmcv_lite='2.2.0'),
        imports={'mmdet': 'AssertionError', 'mmpretrain': 'ImportError: no einops'},
    )
    assert {name: problem.level for name, problem in problems.items()} == {
        'mmpretrain-broken': 'error',
        'mmcv-too-new-for-mmdet': 'warning',
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


@pytest.mark.parametrize(
    ('changes', 'facts', 'name', 'level', 'says', 'fix'),
    [
        (
            dict(), dict(mmcv_ops='none', imports={'mmcv.ops': "No module named 'mmcv._ext'"}),
            'mmcv-without-ops', 'warning', 'mmdet 3.3.0 fails', 'mmcv_ext_fallback',
        ),
        (
            dict(mmdet=None), dict(mmcv_ops='none'),
            'mmcv-without-ops', 'info', 'Classification does not need them', 'mmcv_ext_fallback',
        ),
        (
            dict(), dict(mmcv_ops='fallback', imports={'mmcv.ops': ''}),
            'mmcv-ops-not-compiled', 'info', 'mmcv-ext-fallback serves NMS', 'mim install',
        ),
        (
            dict(), dict(mmcv_ops='stand-in', imports={'mmcv.ops': ''}),
            'mmcv-ops-not-compiled', 'info', 'a Python module stands in', 'mim install',
        ),
        (
            dict(), dict(mmcv_ops='fallback', imports={'mmcv.ops': 'TypeError: no'}),
            'mmcv-ops-broken', 'warning', 'mmcv-ext-fallback, do not work: TypeError: no',
            'mmcv_ext_fallback',
        ),
        (
            dict(mmcv_lite=None, mmcv='2.1.0'),
            dict(mmcv_ops='compiled', imports={'mmcv.ops': 'ImportError: undefined symbol'}),
            'mmcv-ops-broken', 'warning', 'compiled operators do not work: ImportError', 'mim install',
        ),
        (
            dict(mmcv_lite=None, mmcv='2.1.0', mmdet=None),
            dict(mmcv_ops='compiled', imports={'mmcv.ops': 'ImportError: undefined symbol'}),
            'mmcv-ops-broken', 'info', 'for detection only', 'uninstall -y mmcv &&',
        ),
    ],
)  # fmt: skip
def test_what_is_said_of_the_operators_of_mmcv(changes, facts, name, level, says, fix):
    problems = diagnose(found(**changes), **facts)
    problems.pop('mmdet-missing', None)
    assert list(problems) == [name]
    assert problems[name].level == level
    assert says in problems[name].what
    assert fix in problems[name].fix


def test_the_fallback_is_installed_by_its_path(monkeypatch):
    monkeypatch.chdir(ROOT)
    fix = diagnose(KNOWN, mmcv_ops='none')['mmcv-without-ops'].fix
    # Without './', pip would take it for the name of a distribution.
    assert fix == 'python -m pip install --no-deps ./mmcv_ext_fallback'
    assert (ROOT / 'mmcv_ext_fallback' / 'pyproject.toml').is_file()


def test_without_a_checkout_only_a_compiled_mmcv_is_left(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, 'ROOT', str(tmp_path))
    assert 'mim install' in diagnose(KNOWN, mmcv_ops='none')['mmcv-without-ops'].fix
    assert diagnose(ONEDL, mmcv_ops='none')['mmcv-without-ops'].fix == ''


@pytest.mark.parametrize('module', ['torch', 'torchvision', 'mmcv'])
def test_operators_are_not_blamed_for_what_they_stand_on(module):
    problems = diagnose(KNOWN, imports={module: 'ImportError: no', 'mmcv.ops': 'ImportError: no'})
    assert list(problems) == [f'{module}-broken']


def test_the_remedy_names_the_interpreter():
    fix = diagnose(found(mmpretrain=None), interpreter='my env/bin/python')[
        'mmpretrain-missing'
    ].fix
    assert fix == "'my env/bin/python' -m pip install mmpretrain==1.2.0"


def test_errors_come_first():
    problems = doctor.diagnose({}, doctor.Facts())
    levels = [problem.level for problem in problems]
    assert levels == sorted(levels, key=['error', 'warning', 'info'].index)
    assert {'torch-missing', 'mmcv-missing', 'mmpretrain-missing'} <= {p.name for p in problems}


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
    stated = {}
    for package in doctor.PACKAGES:
        if package.module in ('mmcv', 'sklearn', 'matplotlib', 'mim', 'setuptools'):
            continue  # mmcv is on purpose not declared; the others have no bounds
        if package.purpose == doctor.EVALUATION:
            continue
        bounds = [f'>={package.minimum}'] if package.minimum else []
        bounds += [f'<{package.below}'] if package.below else []
        stated[package.distributions[0]] = ','.join(bounds)
    declared = dict(re.match(r'([\w-]+)(.*)', line).groups() for line in [*required, *extra])
    assert stated == declared


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
    if verdicts['mmdet'] != 'missing':
        assert data['mmcv_ops'] in ('compiled', 'fallback')
        assert data['mmcv_ops_work']


class Environment:
    """A virtual environment with stub packages, to break at will."""

    def __init__(self, folder):
        self.folder = folder
        venv.create(folder, with_pip=False, symlinks=os.name != 'nt')
        self.python = str(folder / 'bin' / 'python')
        (self.site,) = folder.glob('lib/python*/site-packages')
        for package in doctor.PACKAGES:
            self.add(package.distributions[0], package.known, package.module)
        self.add('mmgradaug', '0.1.0', 'mmgradaug')
        zeros = 'class zeros:\n    def __init__(self, *a): pass\n    def numpy(self): pass\n'
        cuda = 'class cuda:\n    is_available = staticmethod(lambda: False)\n'
        tensors = 'tensor = ones = lambda *a, **k: None\n'
        self.module('torch').write_text(zeros + cuda + tensors)
        (self.site / 'torchvision' / 'ops.py').write_text('nms = lambda *a: None\n')

    def module(self, name):
        return self.site / name / '__init__.py'

    def add(self, distribution, version, module):
        info = self.site / f'{distribution.replace("-", "_")}-{version}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n'
        )
        self.module(module).parent.mkdir(exist_ok=True)
        self.module(module).write_text('')

    def remove(self, distribution, module):
        for path in self.site.glob(f'{distribution.replace("-", "_")}-*.dist-info'):
            path.rename(path.with_suffix('.gone'))
        self.module(module).unlink()
        (self.site / module).rename(self.site / f'no-{module}')

    def add_operators(self, extension, kept='[2, 1]', mean=1.0):
        (self.site / 'mmcv' / f'_ext{extension}').write_text('')
        (self.site / 'mmcv' / 'ops.py').write_text(
            f'class Kept: tolist = lambda self: {kept}\n'
            f'class Mean: tolist = lambda self: [[[[{mean}]]]]\n'
            'nms = lambda *a: (None, Kept())\n'
            'roi_align = lambda *a: Mean()\n'
        )

    def problems(self):
        result = run_doctor(self.python, '--json', '-')
        assert 'Traceback' not in result.stderr
        data = json.loads(result.stdout)
        levels = {problem['name']: problem['level'] for problem in data['problems']}
        assert result.returncode == ('error' in levels.values())
        return levels


@pytest.fixture
def stubs(tmp_path):
    return Environment(tmp_path / 'env')


def test_stub_environment_is_fine(stubs):
    assert 'error' not in stubs.problems().values()


def test_environment_without_mmcv(stubs):
    stubs.remove('mmcv-lite', 'mmcv')
    stubs.module('mmpretrain').write_text('import mmcv')
    errors = [name for name, level in stubs.problems().items() if level == 'error']
    assert errors == ['mmcv-missing']


def test_environment_with_both_mmcv(stubs):
    stubs.add('mmcv', '2.1.0', 'mmcv')
    assert stubs.problems()['mmcv-twice'] == 'error'


def test_torchvision_that_does_not_load(stubs):
    stubs.module('torchvision').write_text("raise RuntimeError('operator nms does not exist')")
    stubs.module('mmpretrain').write_text('import torchvision')
    problems = stubs.problems()
    assert problems['torchvision-broken'] == 'error'
    assert 'mmpretrain-broken' not in problems


@pytest.mark.parametrize('end', ['os.kill(os.getpid(), 11)', 'os._exit(0)', 'sys.exit(3)'])
def test_an_import_that_ends_the_interpreter_is_blamed_alone(stubs, end):
    stubs.module('mmengine').write_text(f'import os, sys; {end}')
    stubs.module('mmdet').write_text("raise ImportError('no _ext')")
    problems = stubs.problems()
    assert problems['mmengine-broken'] == 'error'
    assert 'torch-broken' not in problems
    # It comes later, and was tried all the same.
    assert problems['mmdet-broken'] == 'warning'


def test_modules_that_print_do_not_spoil_the_json(stubs):
    stubs.module('mmengine').write_text("import os; print('noise'); os.write(1, b'noise')")
    assert 'error' not in stubs.problems().values()


def test_an_mmcv_folder_that_holds_the_fallback_alone_is_no_mmcv(stubs):
    """What `pip uninstall mmcv-lite` leaves; Python imports it as a namespace package."""
    stubs.remove('mmcv-lite', 'mmcv')
    stubs.add('mmcv-ext-fallback', '0.1.0', 'mmcv')
    stubs.module('mmcv').unlink()
    (stubs.site / 'mmcv' / '_ext.py').write_text('')
    problems = stubs.problems()
    assert problems['mmcv-missing'] == 'error'
    assert not [name for name in problems if 'ops' in name]


def test_mmdet_without_operators(stubs):
    assert stubs.problems()['mmcv-without-ops'] == 'warning'
    assert 'operators of mmcv: none' in run_doctor(stubs.python).stdout


def test_operators_are_told_apart(stubs):
    stubs.add_operators('.py')
    text = run_doctor(stubs.python).stdout
    assert 'operators of mmcv: stand-in' in text
    assert 'a Python module stands in' in text
    stubs.add('mmcv-ext-fallback', '0.1.0', 'mmcv')
    text = run_doctor(stubs.python).stdout
    assert 'operators of mmcv: fallback' in text
    assert '[mmcv-ops-not-compiled]' in text
    # Beside the fallback, and empty: it is found, not loaded.
    stubs.add_operators(EXTENSION_SUFFIXES[0])
    text = run_doctor(stubs.python).stdout
    assert 'operators of mmcv: compiled' in text
    assert 'mmcv-ops' not in text


@pytest.mark.parametrize(
    ('answers', 'says'),
    [
        (dict(kept='[2, 1, 0]'), 'nms keeps [2, 1, 0] on cpu'),
        (dict(mean=0.5), 'roi_align says [[[[0.5]]]] on cpu'),
    ],
)
def test_operators_that_do_not_work(stubs, answers, says):
    stubs.add_operators('.py', **answers)
    assert stubs.problems()['mmcv-ops-broken'] == 'warning'
    assert says in run_doctor(stubs.python).stdout


def test_operators_that_end_the_interpreter_are_blamed_alone(stubs):
    stubs.add_operators(EXTENSION_SUFFIXES[0])
    (stubs.site / 'mmcv' / 'ops.py').write_text('import os; os.kill(os.getpid(), 11)')
    problems = stubs.problems()
    assert problems['mmcv-ops-broken'] == 'warning'
    assert not [name for name, level in problems.items() if level == 'error']


def test_empty_environment(tmp_path):
    venv.create(tmp_path / 'env', with_pip=False, symlinks=os.name != 'nt')
    python = str(tmp_path / 'env' / 'bin' / 'python')
    result = run_doctor(python)
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr + result.stdout
    for name in ('torch', 'torchvision', 'numpy', 'mmengine', 'mmcv', 'mmpretrain'):
        assert f'[{name}-missing]' in result.stdout
    assert f'{python} -m pip install mmpretrain==1.2.0' in result.stdout


def test_json_file_that_cannot_be_written(stubs, tmp_path):
    result = run_doctor(stubs.python, '--json', tmp_path / 'no' / 'such' / 'folder.json')
    assert result.returncode == 1
    assert 'was not written' in result.stderr
    assert 'Traceback' not in result.stderr


def test_json_file_beside_the_table(stubs, tmp_path):
    result = run_doctor(stubs.python, '--json', tmp_path / 'found.json')
    assert result.returncode == 0
    assert 'Everything that mmgradaug needs is fine.' in result.stdout
    assert json.loads((tmp_path / 'found.json').read_text())['ok']
