"""Where the boxes of a layered graph go: columns from left to right, few crossings, nothing over anything else."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Size = tuple[float, float]
Point = tuple[float, float]

_ROUNDS = 8  # of ordering and of settling: both have long come to rest by then
_STRAIGHT = 8.0  # pixels that a link runs straight before it arrives, for the head of its arrow
_PORT = 22.0  # pixels between two links that end at one box, where it is tall enough


@dataclass(frozen=True, slots=True)
class Link:
    """A connection from one box to another on its right.

    Attributes:
        source: index of the box on the left.
        target: index of the box on the right.
        label: width and height of a label on the way, or None.
    """

    source: int
    target: int
    label: Size | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The measures of a drawing, in pixels from its upper left corner.

    Attributes:
        boxes: the upper left corner, width and height of each box; those of a column are equally wide.
        labels: the upper left corner of each link's label, None for a link without.
        routes: for each link its points in fours: straight to the second, curved to the third, straight to the last.
        size: width and height of the whole.
    """

    boxes: list[tuple[float, float, float, float]]
    labels: list[Point | None]
    routes: list[list[Point]]
    size: Size


@dataclass(slots=True, eq=False)
class _Item:
    """What takes up room in a column: a box, a label, or a link that passes through."""

    column: int
    width: float = 0.0
    height: float = 6.0
    left: list[_Join] = field(default_factory=list)
    right: list[_Join] = field(default_factory=list)
    y: float = 0.0  # of the centre
    place: float = 0.0  # within its column, from 0 to 1


@dataclass(slots=True, eq=False)
class _Join:
    """Where a link gets from one column to the next; it arrives `port` below the centre of the item on the right."""

    left: _Item
    right: _Item
    port: float = 0.0


def arrange(boxes: Sequence[Size], links: Sequence[Link], *, gap: Size = (36.0, 18.0)) -> Layout:
    """Place boxes in columns so that every link leads from left to right.

    A box stands one column right of the last that leads to it, and one that nothing leads to directly left of the
    first that it leads to. Labels have columns of their own. Within its column each item comes as close to the
    mean height of its neighbours as the others let it.

    Args:
        boxes: least width and height of each; the first is where all links lead to in the end.
        links: the connections, each from a box to one that stands before it in the list.
        gap: the space between columns, and between the items of a column.
    """
    step = 2 if any(link.label for link in links) else 1
    items = [
        _Item(step * layer, *size) for layer, size in zip(_layers(len(boxes), links), boxes, strict=True)
    ]
    for column in {item.column for item in items}:
        widest = max(item.width for item in items if item.column == column)
        for item in items:
            item.width = widest if item.column == column else item.width
    chains = [_chain(link, items[link.source], items[link.target]) for link in links]
    columns: list[list[_Item]] = [[] for _ in range(1 + max(item.column for item in items))]
    for item in _from_root(items, chains):
        columns[item.column].append(item)
    _untangle(columns)
    _set_ports(items)
    _settle(columns, gap[1])

    everything = [item for column in columns for item in column]
    top = min(item.y - item.height / 2 for item in everything)
    bottom = max(item.y + item.height / 2 for item in everything)
    widths = [max((item.width for item in column), default=0.0) for column in columns]
    left = [sum(widths[:i]) + i * gap[0] for i in range(len(widths))]

    def edges(item: _Item) -> tuple[float, float]:
        """The item's left and right edge: it stands in the middle of its column."""
        middle = left[item.column] + widths[item.column] / 2
        return middle - item.width / 2, middle + item.width / 2

    def corner(item: _Item) -> Point:
        return edges(item)[0], item.y - item.height / 2 - top

    routes: list[list[Point]] = []
    for chain in chains:
        route: list[Point] = []
        for join in chain:
            start, end = join.left.y - top, join.right.y + join.port - top
            column = join.left.column
            route += [(edges(join.left)[1], start), (left[column] + widths[column], start)]
            route += [(left[column + 1] - _STRAIGHT, end), (edges(join.right)[0], end)]
        routes.append(route)
    labels = [
        corner(chain[-1].left) if link.label else None for link, chain in zip(links, chains, strict=True)
    ]
    placed = [(*corner(item), item.width, item.height) for item in items]
    return Layout(placed, labels, routes, (left[-1] + widths[-1], bottom - top))


def _layers(count: int, links: Sequence[Link]) -> list[int]:
    """The column of each box, the labels' columns not counted."""
    into: list[list[int]] = [[] for _ in range(count)]
    out: list[list[int]] = [[] for _ in range(count)]
    for link in links:
        into[link.target].append(link.source)
        out[link.source].append(link.target)
    layers = [0] * count
    for box in reversed(range(count)):
        layers[box] = 1 + max((layers[source] for source in into[box]), default=-1)
    for box in range(count):
        if out[box] and not into[box]:
            layers[box] = min(layers[target] for target in out[box]) - 1
    return layers


def _chain(link: Link, source: _Item, target: _Item) -> list[_Join]:
    """The joins of a link, with an item in every column between, the last of them its label."""
    between = [_Item(column) for column in range(source.column + 1, target.column)]
    if link.label:
        between[-1].width, between[-1].height = link.label
    joins = [_Join(here, there) for here, there in pairwise([source, *between, target])]
    for join in joins:
        join.left.right.append(join)
        join.right.left.append(join)
    return joins


def _from_root(items: Sequence[_Item], chains: Sequence[list[_Join]]) -> list[_Item]:
    """All items, those of one subtree together: the order to begin with, in which a tree has no crossings."""
    into: dict[_Item, list[list[_Join]]] = {item: [] for item in items}
    for chain in chains:
        into[chain[-1].right].append(chain)
    seen: dict[_Item, None] = {}
    waiting = [items[0]]
    while waiting:
        item = waiting.pop()
        if item in seen:
            continue
        seen[item] = None
        for chain in into[item]:
            seen |= {join.left: None for join in chain[1:]}
        waiting += [chain[0].left for chain in reversed(into[item])]
    return list(seen)


def _untangle(columns: Sequence[list[_Item]]) -> None:
    """Order each column by the mean place of the neighbours, left and right in turn; keep the best order met."""
    best = [list(column) for column in columns]
    fewest = _crossings(columns)
    for turn in range(2 * _ROUNDS):
        if not fewest:
            break
        for column in columns if turn % 2 == 0 else reversed(columns):
            if turn % 2 == 0:
                means = {item: _mean([join.left.place for join in item.left], item.place) for item in column}
            else:
                means = {
                    item: _mean([join.right.place for join in item.right], item.place) for item in column
                }
            column.sort(key=means.__getitem__)
            _number(column)
        crossings = _crossings(columns)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    for column, order in zip(columns, best, strict=True):
        column[:] = order
        _number(column)


def _number(column: Sequence[_Item]) -> None:
    for i, item in enumerate(column):
        item.place = (i + 0.5) / len(column)


def _crossings(columns: Sequence[Sequence[_Item]]) -> int:
    """How many pairs of joins cross between one column and the next."""
    total = 0
    for column in columns:
        _number(column)
    for column in columns:
        ends: list[float] = []
        for start in sorted((join.left.place, join.right.place) for item in column for join in item.right):
            total += len(ends) - bisect_right(ends, start[1])
            insort(ends, start[1])
    return total


def _set_ports(boxes: Sequence[_Item]) -> None:
    """Let the links that end at one box arrive one below the other."""
    for box in boxes:
        joins = sorted(box.left, key=lambda join: join.left.place)
        distance = min(_PORT, (box.height - 16) / max(len(joins) - 1, 1))
        for i, join in enumerate(joins):
            join.port = (i - (len(joins) - 1) / 2) * distance


def _settle(columns: Sequence[Sequence[_Item]], gap: float) -> None:
    """Give every item a height: near its neighbours, in order, and clear of the next."""
    for column in columns:
        _place(column, [0.0] * len(column), gap)
    for turn in range(2 * _ROUNDS + 1):
        for column in columns if turn % 2 == 0 else reversed(columns):
            wishes = []
            for item in column:
                near = [] if turn % 2 else [join.left.y - join.port for join in item.left]
                if turn % 2 or turn == 2 * _ROUNDS:
                    near += [join.right.y + join.port for join in item.right]
                wishes.append(_mean(near, item.y))
            _place(column, wishes, gap)


def _place(column: Sequence[_Item], wishes: Sequence[float], gap: float) -> None:
    """Set the heights closest to the wishes, in squares, that keep the order and the gap.

    Less the room that the items above need, the heights have to be non-decreasing: an isotonic regression, which
    merges neighbours that are out of order into blocks at their mean (pool adjacent violators).
    """
    room = [0.0]
    for above, below in pairwise(column):
        room.append(room[-1] + (above.height + below.height) / 2 + gap)
    blocks: list[tuple[float, int]] = []  # mean, number of items
    for wish, taken in zip(wishes, room, strict=False):
        mean, size = wish - taken, 1
        while blocks and blocks[-1][0] > mean:
            other, count = blocks.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        blocks.append((mean, size))
    heights = [mean for mean, size in blocks for _ in range(size)]
    for item, height, taken in zip(column, heights, room, strict=False):
        item.y = height + taken


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
