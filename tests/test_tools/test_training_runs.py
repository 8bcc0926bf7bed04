"""tools/training_runs.py: its arithmetic on made-up runs, and its processes with a made-up trainer."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from command_line import load_tool

training_runs = load_tool('training_runs')
AP = training_runs.Metric('ap', 'coco/AP', 'AP', 'AP %', factor=100)

# Ten iterations a log entry, a checkpoint every twenty, validation at the end; what its work dir
# says it does: fail in an iteration, lose the final value, or a NaN.
TRAINER = """
import json, pathlib, sys
arguments = sys.argv[1:]
config = pathlib.Path(arguments[0]).read_text()
work_dir = pathlib.Path(arguments[arguments.index('--work-dir') + 1])
options = dict(option.split('=') for option in arguments if '=' in option)
print('trainer', *arguments)
checkpoint = work_dir / 'last_checkpoint'
begin = int(checkpoint.read_text()) if '--resume' in arguments and checkpoint.exists() else 0
behaviour = pathlib.Path(__file__).with_name('behaviour')
fails, loss, value = behaviour.read_text().split()
logs = work_dir / str(len(list(work_dir.glob('*/vis_data')))) / 'vis_data'
logs.mkdir(parents=True)
with (logs / 'scalars.json').open('w') as file:
    for i in range(begin + 10, int(options['iterations']) + 1, 10):
        entry = dict(loss=float(loss), loss_full=float(loss) / 4, time=0.5 + begin, step=i)
        print(json.dumps(entry), file=file, flush=True)
        if str(i) == fails:
            sys.exit('no more memory')
        if i % 20 == 0:
            checkpoint.write_text(str(i))
    if value != 'none':
        print(json.dumps({'coco/AP': float(value), 'step': i}), file=file)
"""
# In front of its last lines: GradAug goes on until the longer plain training has begun.
WAIT = """
    import time
    deadline = time.monotonic() + 20
    while work_dir.name == 'gradaug' and not work_dir.with_name('plain_equal_cost').exists():
        if time.monotonic() > deadline:
            sys.exit('nothing else has begun')
        time.sleep(0.05)
"""


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """Call it to say how the made-up trainer behaves from now on."""
    folder = tmp_path / 'trainer'
    folder.mkdir()
    (folder / 'train.py').write_text(TRAINER)
    monkeypatch.setattr(training_runs, 'TRAIN', folder / 'train.py')

    def behave(fails='never', loss=8, value=0.25):
        (folder / 'behaviour').write_text(f'{fails} {loss} {value}')

    behave()
    return behave


def a_run(folder, seed=0, iterations=30, text='x = 1', **more):
    config = folder / 'config.py'
    config.write_text(text)
    training_runs._config_text.cache_clear()
    options = [f'iterations={iterations}', f'seed={seed}']
    work_dir = folder / f'run{seed}'
    return training_runs.Run(
        'plain', seed, iterations, work_dir, config=config, options=options, metrics=[AP], **more
    )


def train(*runs, resume=False):
    progress = training_runs.Progress(len(runs), 2)
    training_runs.train_all(runs, 2, progress, resume)
    return progress


def starts(run):
    """What the trainer was called with, once for each start since the work dir was made."""
    return [line for line in run.output.read_text().splitlines() if line.startswith('trainer ')]


def test_figures_are_read_from_the_log(trainer, tmp_path, capsys):
    runs = [a_run(tmp_path, seed, name='plain') for seed in range(3)]
    train(*runs)
    for run in runs:
        assert run.final(AP) == 25
        assert run.curves == {'ap': [(30, 25)]}
        assert run.loss == [(10, 2), (20, 2), (30, 2)]  # of the full network
        assert run.train_seconds == pytest.approx(15)
        assert run.wall_seconds > 0
        assert run.peak_memory_mb > 1
    output = capsys.readouterr().out
    assert '[3/3] plain, seed ' in output
    assert '25.0 AP after 30 iterations' in output


def test_resuming_keeps_what_is_finished_and_goes_on_with_the_rest(trainer, tmp_path, capsys):
    trainer(fails=30)
    with pytest.raises(training_runs.UserError, match='no more memory'):
        train(a_run(tmp_path, seed=1))
    trainer()
    train(a_run(tmp_path, seed=0))
    one, other = a_run(tmp_path, seed=0), a_run(tmp_path, seed=1)
    train(one, other, resume=True)
    assert len(starts(one)) == 1
    assert 'seed 0: 25.0 AP after 30 iterations, done before' in capsys.readouterr().out
    assert one.wall_seconds > 0 and one.peak_memory_mb > 1
    assert [line.endswith('--resume') for line in starts(other)] == [False, True]
    # 21 to 30 were done twice; 0.5 s an iteration at first, 20.5 s after resuming from 20.
    assert other.seconds == [(10, 0.5), (20, 0.5), (30, 20.5)]
    assert other.final(AP) == 25
    train(again := a_run(tmp_path, seed=0))  # without resume
    assert len(starts(again)) == 1 and '--resume' not in starts(again)[0]


@pytest.mark.parametrize('change', [dict(iterations=40), dict(text='x = 2')])
def test_another_setting_is_not_resumed(trainer, tmp_path, change):
    train(a_run(tmp_path))
    trainer(value=0.5)
    run = a_run(tmp_path, **change)
    train(run, resume=True)
    assert run.final(AP) == 50
    assert len(starts(run)) == 1 and '--resume' not in starts(run)[0]


def test_a_cut_off_record_is_no_record(trainer, tmp_path):
    run = a_run(tmp_path)
    train(run)
    record = run.work_dir / training_runs.RECORD
    record.write_text(record.read_text()[:-20])
    assert not a_run(tmp_path).recall()


@pytest.mark.parametrize(
    'behaviour, message',
    [
        (
            dict(fails=20),
            r'seed 0: training failed \(exit code 1\)\n.*\n(.*\n)*  \| no more memory',
        ),
        (dict(value='none'), 'seed 0: training left no final AP'),
        (dict(loss='nan'), 'seed 0: the loss became infinite or NaN'),
    ],
)
def test_a_run_without_figures_is_an_error_and_never_recalled(
    trainer, tmp_path, behaviour, message
):
    trainer(**behaviour)
    with pytest.raises(training_runs.UserError, match=message):
        train(a_run(tmp_path))
    assert not a_run(tmp_path).recall()


def test_a_failure_ends_the_others(tmp_path, monkeypatch):
    script = tmp_path / 'train.py'
    script.write_text("import sys, time\nif 'seed=0' in sys.argv: sys.exit('no')\ntime.sleep(60)\n")
    monkeypatch.setattr(training_runs, 'TRAIN', script)
    runs = [a_run(tmp_path, seed) for seed in range(2)]
    with pytest.raises(training_runs.UserError, match='seed 0'):
        train(*runs)
    assert runs[1].process.returncode is not None


def test_trainings_have_one_thread_and_no_gpu(tmp_path, monkeypatch):
    script = tmp_path / 'train.py'
    names = ['OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'CUDA_VISIBLE_DEVICES']
    script.write_text(f'import os\nprint([os.environ[name] for name in {names}])\n')
    monkeypatch.setattr(training_runs, 'TRAIN', script)
    with pytest.raises(training_runs.UserError, match=r"\['1', '1', ''\]"):
        train(a_run(tmp_path))


def test_a_training_on_a_gpu_gets_the_environment_as_it_is(tmp_path, monkeypatch):
    script = tmp_path / 'train.py'
    names = ['OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES']
    script.write_text(f'import os\nprint([os.environ.get(name) for name in {names}])\n')
    monkeypatch.setattr(training_runs, 'TRAIN', script)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3')
    run = a_run(tmp_path)
    run.on_gpu = True
    with pytest.raises(training_runs.UserError, match=r"\[None, '3'\]"):
        train(run)


def made_up_methods(gradaug, equal_cost, minutes=(1.0, 1.0)):
    return {
        'gradaug': dict(runs=[dict(top1=top1) for top1 in gradaug], minutes_mean=minutes[0]),
        'plain_equal_cost': dict(
            runs=[dict(top1=top1) for top1 in equal_cost], minutes_mean=minutes[1]
        ),
    }


@pytest.mark.parametrize(
    'gradaug, equal_cost, words',
    [
        # differences 4, 5, 6: mean 5, deviation 1, standard error 1 / sqrt(3)
        ([94, 95, 96], [90, 90, 90], ['5.0 points above', '3 of 3', '0.6', 'more than two']),
        ([86, 85, 84], [90, 90, 90], ['5.0 points below', '0 of 3', '0.6', 'more than two']),
        ([96, 90, 87], [90, 90, 90], ['1.0 points above', '1 of 3', 'may be chance']),
        ([90, 90], [90, 90], ['0.0 points', '0 of 2', 'may be chance']),
        ([99], [90], ['9.0 points above', '1 of 1', 'one seed cannot']),
    ],
)
def test_the_sentence_follows_the_numbers(gradaug, equal_cost, words):
    methods = made_up_methods(gradaug, equal_cost)
    sentence = training_runs.compare(methods, 'top1')['sentence']
    for word in words:
        assert word in sentence
    named = training_runs.compare(methods, 'top1', 'box AP')['sentence']
    assert named == sentence.replace(' points ', ' points of box AP ')
    assert 'busy' not in training_runs.compare_times(methods)['time_sentence']


def test_unequal_times_are_admitted():
    times = training_runs.compare_times(made_up_methods([90], [90], minutes=(1.0, 0.5)))
    assert times['equal_cost_time_ratio'] == 0.5
    assert 'not equally busy' in times['time_sentence']


def made_up_run(method, windows, iterations=30, wall_seconds=0.0):
    return training_runs.Run(
        method, 0, iterations, Path('nowhere'), seconds=windows, wall_seconds=wall_seconds
    )


def test_times_are_read_as_means_of_windows():
    # Ten iterations of 0.1 s, twenty of 0.2 s; three more are not in the log.
    one = made_up_run('plain', [(4, 0.1), (10, 0.1), (30, 0.2)], iterations=33)
    assert one.logged_seconds == pytest.approx(5.0)
    assert one.train_seconds == pytest.approx(5.5)


def test_the_ratio_is_robust_to_a_disturbed_window():
    runs = [
        made_up_run('plain', [(10, 1.0), (20, 1.0), (30, 9.0)]),
        made_up_run('gradaug', [(10, 3.0), (20, 30.0), (30, 3.0)]),
    ]
    assert training_runs.cost_ratio(runs) == 3.0


def test_the_time_left_counts_what_is_not_planned_yet():
    progress = training_runs.Progress(total=3, jobs=2)
    progress.as_fast_as = {'plain_equal_cost': 'plain'}
    plain = made_up_run('plain', [(30, 1.0)], wall_seconds=36.0)  # 6 s of start-up
    half_way = made_up_run('gradaug', [(15, 4.0)])
    unknown = made_up_run('gradaug', [])
    progress.unplanned = [half_way]
    assert progress.seconds_left([plain], [unknown]) is None  # nobody knows GradAug's pace
    progress.done = [plain]
    # 15 iterations of 4 s running; 30 of 4 s and 6 s to come; two at a time.
    assert progress.seconds_left([], [half_way]) == pytest.approx((60 + 126) / 2)
    progress.unplanned = []
    longer = made_up_run('plain_equal_cost', [], iterations=120)
    # Not less than the longest that runs: 120 iterations of 1 s and 6 s.
    assert progress.seconds_left([], [longer]) == pytest.approx(126)


def test_tables_are_aligned():
    lines = training_runs.in_columns([('method', 'AP'), ('a', '12.0 +- 0.5'), ('longer', '3.0')])
    assert lines.splitlines() == [
        'method           AP',
        '-------------------',
        'a       12.0 +- 0.5',
        'longer          3.0',
    ]


def test_options_of_gradaug_are_known():
    known = [o for o in ('model.gradaug.num_subnets=2', 'custom_hooks=[]', 'model.backbone.depth=18')
             if training_runs.is_gradaug_option(o)]  # fmt: skip
    assert known == ['model.gradaug.num_subnets=2', 'custom_hooks=[]']


def test_a_cut_off_line_of_a_log_is_left_for_later(tmp_path):
    file = tmp_path / 'scalars.json'
    file.write_text(json.dumps(dict(step=1)) + '\n' + '{"step": 2, "lo')
    assert list(training_runs.json_lines(file)) == [dict(step=1)]


def test_equal_cost_may_start_before_gradaug_ends(trainer, tmp_path, monkeypatch):
    """As soon as what an iteration costs is known; the length follows from those entries alone."""
    seen = []

    def plan(method, iterations):
        run = a_run(tmp_path, iterations=iterations)
        run.method, run.work_dir = method, tmp_path / method
        return [run]

    class Scripted(training_runs.Progress):
        def say(self, line):
            seen.append(line)

    progress = Scripted(3, 1)
    runs, ratio = training_runs.train_at_equal_cost(plan, 30, 1, progress, windows=2)
    assert [run.method for run in runs] == ['plain', 'gradaug', 'plain_equal_cost']
    assert ratio == 1.0 and runs[2].iterations == 30
    assert [line[:5] for line in seen] == ['[1/3]', '[2/3]', 'A Gra', '[3/3]']

    ratios = [made_up_run('plain', [(10, 1.0)]), made_up_run('gradaug', [(10, 3.0), (20, 9.0)])]
    assert training_runs.cost_ratio(ratios, windows=1) == 3.0
    assert training_runs.cost_ratio(ratios) == 6.0


def test_a_free_core_starts_equal_cost_while_gradaug_runs(tmp_path, monkeypatch):
    script = tmp_path / 'train.py'
    script.write_text(TRAINER.replace('    if value', WAIT + '    if value'))
    (tmp_path / 'behaviour').write_text('never 8 0.25')
    monkeypatch.setattr(training_runs, 'TRAIN', script)

    def plan(method, iterations):
        run = a_run(tmp_path, iterations=iterations)
        run.method, run.work_dir = method, tmp_path / method
        return [run]

    progress = training_runs.Progress(3, 2)
    runs, _ = training_runs.train_at_equal_cost(plan, 30, 2, progress, windows=2)
    assert [run.final(AP) for run in runs] == [25, 25, 25]


@pytest.fixture
def handlers():
    """The signal handlers of the test's process come back."""
    before = {number: signal.getsignal(number) for number in training_runs.STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_makes_an_error_of_the_interrupt_does_not_hide_it(number, handlers, capsys):
    def work():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except BaseException as interrupt:
            raise SyntaxError('cannot format') from interrupt

    signal.signal(number, signal.default_int_handler)  # a job in the background ignores SIGINT
    assert training_runs.run_tool('tool', work) == 130
    assert 'tool: stopped' in capsys.readouterr().err


def test_errors_of_the_tool_and_of_its_programmer_are_told_apart(handlers, capsys):
    def fail(error):
        raise error

    assert training_runs.run_tool('tool', lambda: fail(training_runs.UserError('so and so'))) == 1
    assert 'tool: so and so' in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        training_runs.run_tool('tool', lambda: fail(ZeroDivisionError()))


def test_a_signal_waits_until_a_started_process_is_known(handlers):
    done = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        with training_runs.signals_later():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            done.append('started')
    assert done == ['started']
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_an_interrupt_that_python_drops_ends_the_trainings_all_the_same(
    trainer, handlers, tmp_path
):
    class Careless:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    run = a_run(tmp_path)

    def more():
        """Asked when the only training is over; there would be no end to it."""
        del [Careless()][0]
        return [a_run(tmp_path, seed=1)]

    def work():
        training_runs.train_all([run], 1, training_runs.Progress(2, 1), more=more)

    assert training_runs.run_tool('tool', work) == 130
    assert not (tmp_path / 'run1' / 'last_checkpoint').exists()
