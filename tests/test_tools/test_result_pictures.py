import numpy as np
import pytest
from command_line import load_tool
from PIL import Image

pictures = load_tool('result_pictures')


@pytest.mark.parametrize('number', [1, 3])
def test_every_curve_is_drawn_in_its_colour(tmp_path, number):
    panels = [
        (f'panel {i}', [('one', [(0, 10), (1, 20)]), ('two', [(0, 5), (1, 40 + i)])])
        for i in range(number)
    ]
    file = tmp_path / 'deep' / 'picture.png'
    pictures.draw_panels(file, panels, 'x', 'y', 'title', columns=2)
    assert [path.name for path in file.parent.iterdir()] == ['picture.png']
    pixels = np.asarray(Image.open(file).convert('RGB')).astype(int)
    for colour in pictures.COLOURS[:2]:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - wanted).sum(-1) < 12).sum() > 100 * number
    unused = [int(pictures.COLOURS[2][i : i + 2], 16) for i in (1, 3, 5)]
    assert (np.abs(pixels - unused).sum(-1) < 12).sum() == 0
