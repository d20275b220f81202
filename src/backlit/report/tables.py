"""Tables that scroll sideways by themselves where they are wider than the page."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["table"]


def table(
    label: str, columns: Sequence[str], rows: str, *, caption: str = "", foot: str = "", kind: str = "small"
) -> str:
    """A table in a box of its own that a keyboard can scroll.

    Args:
        label: plain words; names the box to a screen reader.
        columns: the headings, as HTML; one that begins with ">" stands over numbers, which are set flush right.
        rows: the `<tr>` elements of the body.
        caption: HTML above the table. foot: `<tr>` elements of the foot.
        kind: the table's classes.
    """
    headings = "".join(
        f'<th scope="col" class="number">{column[1:]}</th>'
        if column.startswith(">")
        else f'<th scope="col">{column}</th>'
        for column in columns
    )
    above = f"<caption>{caption}</caption>" if caption else ""
    below = f"<tfoot>{foot}</tfoot>" if foot else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table class="{kind}">{above}'
        f"<thead><tr>{headings}</tr></thead><tbody>{rows}</tbody>{below}</table></div>"
    )
