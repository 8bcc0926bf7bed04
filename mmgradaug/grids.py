"""Tables for a terminal, a page and Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Grid:
    """A table.

    Args:
        head: of the columns; the first is the rows' names.
        rows: of text; one of a single cell is a heading between rows.
        notes: below it.
        badge: a word of warning beside the title; may be empty.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: str = ''
    badge: str = ''


def show(grid: Grid) -> None:
    """Print a table, its first column on the left and the others on the right; nothing is cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, name in enumerate(grid.head):
        table.add_column(name, justify='left' if i == 0 else 'right', overflow='fold')
    for row in grid.rows:
        table.add_row(*map(str, row))
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:  # in a file lines may be long
        console.width = max(
            80, console.measure(table, options=console.options.update(width=1000)).maximum
        )
    title = f'{grid.title} [{grid.badge}]' if grid.badge else grid.title
    if title:
        print(title)
    console.print(table)
    if grid.notes:
        print(grid.notes)


def as_markdown(grid: Grid) -> str:
    """The table alone, without title and notes."""
    from tabulate import tabulate

    width = len(grid.head)
    rows = [
        [f'*{_plain(row[0])}*', *[''] * (width - 1)] if len(row) == 1 else list(map(_plain, row))
        for row in grid.rows
    ]
    align = ['left', *['right'] * (width - 1)]
    head = list(map(_plain, grid.head))
    return tabulate(rows, head, tablefmt='pipe', colalign=align, disable_numparse=True)


def _plain(text: str) -> str:
    for character in '\\`*_[]<>|':
        text = str(text).replace(character, f'\\{character}')
    return text
