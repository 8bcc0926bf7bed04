"""Curves of several methods or models beside one another, in one colour a method throughout the project."""

import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from .files import write_whole

# GradAug is red, plain training grey, plain training at equal cost blue; told apart by dashes as well.
GRADAUG, PLAIN, EQUAL_COST = '#d62728', '#7f7f7f', '#1f77b4'
OTHERS = ('#2ca02c', '#e07b00', '#9467bd', '#a0694f', '#e377c2', '#17becf', '#bcbd22')
DASHES = ('-.', (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = 'osD^vPX*'
INK = '#010203'  # in SVGs, replaced by the text's colour, which is light on a dark page

Look = dict[str, Any]


class Line(NamedTuple):
    """A curve: a name for the legend, points (x, y), deviations of y for a band, and whether it is GradAug's."""

    name: str
    points: Sequence[tuple[float, float]]
    deviations: Optional[Sequence[float]] = None
    is_gradaug: bool = False


class Panel(NamedTuple):
    """One picture of several side by side."""

    title: str
    lines: Sequence[Line]
    y_label: str = ''
    log: bool = False


def looks(names: Sequence[str], gradaug: Collection[str] = ()) -> dict[str, Look]:
    """Colour, dashes and marker by name: the same methods look the same in every picture.

    Args:
        gradaug: names of GradAug's methods that have no "gradaug" in them.
    """
    found: dict[str, Look] = {}
    spare = 0
    for name in dict.fromkeys(names):
        low = name.lower()
        if low in ('gradaug', 'with gradaug') or (
            (name in gradaug or 'gradaug' in low)
            and not any(look['color'] == GRADAUG for look in found.values())
        ):
            found[name] = dict(color=GRADAUG, linestyle='-', marker=MARKERS[0])
        elif 'equal cost' in low and not any(x['color'] == EQUAL_COST for x in found.values()):
            found[name] = dict(color=EQUAL_COST, linestyle='--', marker=MARKERS[1])
        elif any(word in low for word in ('plain', 'baseline')) and not any(
            look['color'] == PLAIN for look in found.values()
        ):
            found[name] = dict(color=PLAIN, linestyle=':', marker=MARKERS[2])
        else:
            found[name] = dict(
                color=OTHERS[spare % len(OTHERS)],
                linestyle=DASHES[spare % len(DASHES)],
                marker=MARKERS[(spare + 3) % len(MARKERS)],
            )
            spare += 1
    return found


def panels(
    parts: Sequence[Panel],
    x_label: str,
    title: str = '',
    columns: Optional[int] = None,
    from_zero: bool = False,
    markers: bool = False,
) -> Any:
    """A matplotlib figure: panels beside one another with one legend.

    Args:
        parts: the panels.
        x_label: below the last row.
        columns: panels in a row; all by default.
        from_zero: whether vertical axes start at 0.
        markers: whether points are marked.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    columns = columns or len(parts)
    rows = -(-len(parts) // columns)
    figure, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(1.2 + 4.2 * columns, 1.2 + 3.1 * rows),
        squeeze=False,
        layout='constrained',
    )
    lines = [line for part in parts for line in part.lines]
    styles = looks([line.name for line in lines], {x.name for x in lines if x.is_gradaug})
    handles: dict[str, Any] = {}
    for axis, part in zip(axes.flat, parts):
        for line in part.lines:
            look = dict(styles[line.name])
            if not markers:
                look.pop('marker')
            xs, ys = zip(*line.points)
            (handles[line.name],) = axis.plot(xs, ys, linewidth=2, markersize=4, **look)
            if line.deviations and any(line.deviations):
                low = [y - d for y, d in zip(ys, line.deviations)]
                high = [y + d for y, d in zip(ys, line.deviations)]
                axis.fill_between(xs, low, high, color=look['color'], alpha=0.15, linewidth=0)
        axis.set_title(part.title, fontsize=10)
        axis.set_ylabel(part.y_label)
        axis.grid(alpha=0.3)
        if part.log:
            axis.set_yscale('log')
            for set_formatter in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
                set_formatter(_log_formatter())
        elif from_zero:
            axis.set_ylim(bottom=0)
    for axis in axes.flat[len(parts) :]:
        axis.remove()
    for axis in axes[-1]:
        axis.set_xlabel(x_label)
    if title:
        figure.suptitle(title, fontsize=11)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc='outside lower center',
        # Two short names fit below a panel, one long one.
        ncols=min(len(handles), columns if max(map(len, handles), default=0) > 24 else 2 * columns)
        or 1,
        fontsize=9,
        frameon=False,
    )
    return figure


def _log_formatter() -> Any:
    """For a logarithmic axis: 0.3 and 4.2 instead of powers of ten."""
    from matplotlib.ticker import LogFormatterSciNotation

    class Formatter(LogFormatterSciNotation):
        def __call__(self, x: float, pos: Any = None) -> str:
            return f'{x:g}' if super().__call__(x, pos) else ''

    return Formatter(labelOnlyBase=False, minor_thresholds=(2, 0.4))


def save(figure: Any, file: Path) -> None:
    """Write a figure as PNG in one move, and close it."""
    write_whole(file, as_png(figure))
    close(figure)


def as_png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format='png', dpi=120)
    return stream.getvalue()


def as_svg(figure: Any, name: str) -> str:
    """A figure as a part of a page, in the page's colours, with ids of its own."""
    import re

    from matplotlib import rc_context
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if text.get_color() == 'black':
            text.set_color(INK)
    for axis in figure.axes:
        axis.tick_params(colors=INK, which='both')
        for spine in axis.spines.values():
            spine.set_edgecolor(INK)
    stream = io.StringIO()
    # The same figure gives the same text.
    with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': name}):
        figure.savefig(stream, format='svg', metadata={'Date': None}, transparent=True)
    svg = stream.getvalue()
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg[svg.index('<svg') :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf'\g<1>{name}-', svg)
    for size in ('height', 'width'):
        svg = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r'\1', svg, count=1)
    return svg.replace(INK, 'currentColor').strip()


def close(figure: Any) -> None:
    from matplotlib import pyplot

    pyplot.close(figure)
