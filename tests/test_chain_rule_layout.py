"""The layout of the picture: whatever the graph, nothing lies over anything else and links lead to the right."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backlit.explain.layers import Link, arrange
from tolerance import assert_close


def apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]


@st.composite
def drawings(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[Link]]:
    """Boxes of random sizes, each but the first linked to some that stand before it."""
    size = st.tuples(st.integers(10, 200), st.integers(20, 120))
    boxes = draw(st.lists(size, min_size=1, max_size=14))
    labelled = draw(st.booleans())
    links = []
    for source in range(1, len(boxes)):
        for target in draw(st.lists(st.integers(0, source - 1), min_size=1, max_size=3)):
            label = draw(size) if labelled and draw(st.booleans()) else None
            links.append(Link(source, target, label))
    return boxes, links


@given(drawings())
def test_layout_puts_nothing_over_anything_else(drawing: Any) -> None:
    boxes, links = drawing
    layout = arrange(boxes, links)
    labels = [(*at, *link.label) for at, link in zip(layout.labels, links, strict=True) if at and link.label]
    assert len(labels) == sum(link.label is not None for link in links)
    for one, other in itertools.combinations([*layout.boxes, *labels], 2):
        assert apart(one, other)
    for x, y, width, height in [*layout.boxes, *labels]:
        assert x >= -1e-9
        assert y >= -1e-9
        assert x + width <= layout.size[0] + 1e-9
        assert y + height <= layout.size[1] + 1e-9


@given(drawings())
def test_layout_leads_every_link_from_left_to_right(drawing: Any) -> None:
    boxes, links = drawing
    layout = arrange(boxes, links)
    for link, route in zip(links, layout.routes, strict=True):
        source, target = layout.boxes[link.source], layout.boxes[link.target]
        size = max(layout.size)
        assert_close(route[0], (source[0] + source[2], source[1] + source[3] / 2), 4, size)
        assert_close(route[-1][0], target[0], 4, size)
        assert target[1] <= route[-1][1] <= target[1] + target[3]
        rights = [x for x, _ in route]
        assert rights == sorted(rights)
        assert all(-1e-9 <= y <= layout.size[1] + 1e-9 for _, y in route)


@given(drawings())
def test_layout_leads_no_link_through_a_box_or_a_label(drawing: Any) -> None:
    boxes, links = drawing
    layout = arrange(boxes, links)
    for i, (link, route) in enumerate(zip(links, layout.routes, strict=True)):
        others = [box for j, box in enumerate(layout.boxes) if j not in (link.source, link.target)]
        for j, (at, other) in enumerate(zip(layout.labels, links, strict=True)):
            if j != i and at and other.label:
                others.append((*at, *other.label))
        for begin in range(0, len(route), 2):  # the straight pieces; curves stay between the columns
            (x, y), (end, _) = route[begin : begin + 2]
            assert all(apart((x, y, end - x, 0.0), other) for other in others)


def test_layout_draws_a_tree_without_crossings() -> None:
    links = [Link(2 * i + side, i) for i in range(7) for side in (1, 2)]
    layout = arrange([(40.0, 20.0)] * 15, links)
    for one, other in itertools.combinations(range(14), 2):
        a, b = layout.routes[one], layout.routes[other]
        if a[0][0] == b[0][0]:
            assert (a[0][1] - b[0][1]) * (a[-1][1] - b[-1][1]) > 0
