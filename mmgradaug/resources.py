"""The configs and scripts of OpenMMLab's layout: links in a checkout, copies in an installed package."""

from pathlib import Path
from typing import Optional

RESOURCES = Path(__file__).resolve().parent / '.mim'
CONFIGS = (RESOURCES / 'configs').resolve()
TOOLS = (RESOURCES / 'tools').resolve()


def find_config(name: str) -> Optional[Path]:
    """A config by its path, or by its path below configs/; None if there is none.

    An installed package has configs/ too, so that ``quickstart/digits_gradaug.py`` is found anywhere.
    """
    for path in (Path(name), CONFIGS / name, CONFIGS.parent / name):
        if path.is_file():
            return path.resolve()
    return None
