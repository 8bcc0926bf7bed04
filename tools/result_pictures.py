"""Curves of several models beside one another, for tools that look at trained classifiers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

Curve = tuple[str, Sequence[tuple[float, float]]]  # a model's name, its (x, y)
COLOURS = ('#d62728', '#7f7f7f', '#2a86c8', '#2ca02c', '#e07b00', '#9467bd', '#a0694f', '#e377c2')
MARKERS = 'osD^vPX*'


def draw_panels(
    file: Path,
    panels: Sequence[tuple[str, Sequence[Curve]]],
    x_label: str,
    y_label: str,
    title: str,
    y_from_zero: bool = True,
    dashed: Sequence[str] = (),
    columns: Optional[int] = None,
) -> None:
    """One panel beside another, with shared axes and one legend; a colour for each name.

    Args:
        file: a PNG; written in one move.
        panels: (heading, curves).
        x_label, y_label: of the axes.
        title: over all.
        y_from_zero: whether the vertical axis starts at 0.
        dashed: names of curves that are drawn in dashes.
        columns: how many panels in a row; all by default.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.5 + 3.6 * columns, 1.3 + 3.0 * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout='constrained',
    )
    names = list(dict.fromkeys(name for _, curves in panels for name, _ in curves))
    handles = {}
    for axis, (heading, curves) in zip(axes.flat, panels):
        for name, points in curves:
            index = names.index(name)
            (handles[name],) = axis.plot(
                *zip(*points),
                label=name,
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=4,
                linewidth=1.5,
                linestyle='--' if name in dashed else '-',
            )
        axis.set_title(heading, fontsize=10)
        axis.grid(alpha=0.3)
        if y_from_zero:
            axis.set_ylim(bottom=0)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_ylabel(y_label)
    for axis in axes[-1]:
        axis.set_xlabel(x_label)
    figure.suptitle(title, fontsize=11)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc='outside lower center',
        ncols=min(len(names), max(2, columns * 3)),
        fontsize=9,
        frameon=False,
    )
    save(figure, file)


def save(figure: object, file: Path) -> None:
    """Write a figure in one move, and close it."""
    from matplotlib import pyplot as plt

    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f'.{file.stem}.new.png')
    figure.savefig(beside, dpi=130)
    plt.close(figure)
    beside.replace(file)
