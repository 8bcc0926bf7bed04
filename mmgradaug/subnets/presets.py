"""Settings of GradAug that go together, by name."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Section 4.1 and 4.2; the paper recommends n >= 3.
    'paper': dict(num_subnets=3),
    # Ours, from the search of docs/economy.md.
    'economy': dict(num_subnets=1, every=2),
}
# What a preset decides; widths and transformations suit the data and the network.
DECIDED = ('num_subnets', 'smallest_if_single', 'always_smallest', 'every', 'batch_fraction')


def preset(name: str) -> dict[str, Any]:
    """The settings of a preset; what it does not mention is as in the paper.

    In a config: ``gradaug=dict(preset='economy', transforms=...)``; what is written beside ``preset`` counts.

    Example:
        >>> from mmgradaug import preset
        >>> preset('economy')  # GradAug(model, transforms=..., **preset('economy'))
        {'num_subnets': 1, 'every': 2}

    Args:
        name: 'paper' or 'economy'. The latter is ours: about a fifth of GradAug's extra cost, see
            docs/economy.md for what it keeps of the gain.

    Raises:
        ValueError: there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f'there is no preset {name!r}: write one of {", ".join(PRESETS)}')
    return dict(PRESETS[name])


def with_preset(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in which ``preset`` is replaced by what it stands for.

    Example:
        >>> from mmgradaug.subnets import with_preset
        >>> with_preset(dict(preset='economy', every=3))
        {'num_subnets': 1, 'every': 3}
    """
    own = {key: value for key, value in settings.items() if key != 'preset'}
    return {**preset(settings['preset']), **own} if 'preset' in settings else own
