"""The paper's tables as data, and the metafiles that repeat them for mim."""

from pathlib import Path

import pytest
import yaml
from command_line import ROOT

from mmgradaug.experiments.tables import BOX_AP, MASK_AP, ROWS, TABLES, TOP1, TOP5, baseline_of

NAMES = {
    TOP1: 'Top 1 Accuracy',
    TOP5: 'Top 5 Accuracy',
    BOX_AP: 'box AP',
    MASK_AP: 'mask AP',
}
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']


@pytest.mark.parametrize('file', INDEX)
def test_metafiles_say_what_the_tables_say(file):
    content = yaml.safe_load((ROOT / file).read_text())
    by_config = {row.config: row for row in reversed(list(ROWS.values())) if not row.options}
    assert content['Models']
    for model in content['Models']:
        row = by_config[model['Config'].removeprefix('configs/')]
        assert (ROOT / model['Config']).is_file()
        assert model['Name'] == Path(model['Config']).stem
        (result,) = model['Results']
        assert result['Metrics'] == {NAMES[key]: value for key, value in row.figures.items()}
        assert "the paper's" in model['Metadata']['Figures Are']
        assert 'Weights' not in model


def test_every_config_of_a_table_is_in_the_index():
    listed = {
        model['Config']
        for file in INDEX
        for model in yaml.safe_load((ROOT / file).read_text())['Models']
    }
    wanted = {f'configs/{row.config}' for row in ROWS.values() if row.figures and not row.options}
    assert wanted == listed


def test_table_2_is_the_papers():
    """Epochs, MB, minutes an epoch, hours (the paper's hours are rounded)."""
    table = next(table for table in TABLES if table.name == 'table2')
    assert len(table.rows) == 8
    for row in table.rows:
        assert row.cost is not None
        assert row.cost.epochs * row.cost.minutes / 60 == pytest.approx(row.cost.hours, abs=1)


def test_every_row_has_its_baseline():
    for table in TABLES:
        for row in table.rows:
            base = baseline_of(row, table)
            assert base is not None and base.label.startswith('Baseline'), row.key
