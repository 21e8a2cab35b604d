"""A table on a terminal, by rich: cells shown as they are, the live release set off; NO_COLOR is honoured."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.report.tables import MARK


def draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print ``rows``; cells are shown as they are, never read as markup."""
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(Text(column))
    for row in rows:
        style = "bold green" if MARK in row else "red" if "bad" in row or "unreachable" in row else ""
        table.add_row(*[Text(cell) for cell in row], style=style)
    Console(highlight=False, markup=False, emoji=False).print(table)
