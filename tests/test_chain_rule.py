"""The chain rule as text and picture: the article's figure by hand, and what holds for every graph."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from backlit.explain import ChainRule, chain_rule
from backlit.graph import Tensor, apply, gradients
from backlit.html import page
from tolerance import assert_shown

SVG = "{http://www.w3.org/2000/svg}"


def leaf(value: Any, name: str | None = None) -> Tensor:
    return Tensor(value, requires_grad=True, name=name)


def article() -> Tensor:
    """The article's figure: f = (x + y) * z at x = -2, y = 5, z = -4."""
    x, y, z = leaf(-2.0, "x"), leaf(5.0, "y"), leaf(-4.0, "z")
    q = x + y
    f = q * z
    q.name, f.name = "q", "f"
    return f


def diamond() -> Tensor:
    x = leaf(3.0, "x")
    a = x * x
    return a * x - 2 * a


def layer() -> Tensor:
    rng = np.random.default_rng(0)
    x, w, b = (
        Tensor(rng.standard_normal((4, 3)), name="x"),
        leaf(rng.standard_normal((3, 5)), "w"),
        leaf(np.ones(5)),
    )
    return apply("relu", x @ w + b).mean()


def network(dtype: str = "float32") -> Tensor:
    """A small convolutional network, whose graph is a large one."""
    rng = np.random.default_rng(0)

    def parameter(*shape: int) -> Tensor:
        return leaf(rng.standard_normal(shape).astype(dtype) / 4)

    h = Tensor(rng.standard_normal((2, 1, 12, 12)).astype(dtype), name="images")
    for channels in ((1, 4), (4, 4)):
        h = apply("conv", h, parameter(channels[1], channels[0], 3, 3), parameter(channels[1]), padding=1)
        h = apply("max_pool", apply("relu", h), kernel_size=2)
    skip = h
    h = apply("conv", h, parameter(4, 4, 3, 3), None, padding=1) + skip
    h = apply("linear", apply("flatten", h), parameter(6, 36), parameter(6))
    h = apply("linear", apply("relu", h), parameter(3, 6), parameter(3))
    return apply("cross_entropy", h, labels=np.array([0, 2]))


GRAPHS = {"article": article, "diamond": diamond, "layer": layer, "network": network}
each_graph = pytest.mark.parametrize("graph", GRAPHS)


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314  (our own picture, not one from outside)


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in parse(svg).iter(f"{SVG}text")]


def test_text_of_the_articles_figure_by_hand() -> None:
    assert str(chain_rule(article())).splitlines()[2:] == [
        "f = q * z",
        "   value -12   gradient 1",
        "   ├─ q   ∂f/∂q = z = -4   1 × (-4) = -4",
        "   └─ z   ∂f/∂z = q = 3    1 × 3 = 3",
        "",
        "q = x + y",
        "   value 3   gradient -4",
        "   ├─ x   ∂q/∂x = 1   -4 × 1 = -4",
        "   └─ y   ∂q/∂y = 1   -4 × 1 = -4",
        "",
        "x   value -2   gradient -4",
        "y   value 5    gradient -4",
        "z   value -4   gradient 3",
    ]


def test_picture_of_the_articles_figure_shows_every_number_by_hand() -> None:
    shown = texts(chain_rule(article()).svg)
    for text in (
        "∂f/∂q = z = -4",
        "← 1 × (-4) = -4",
        "∂f/∂z = q = 3",
        "← 1 × 3 = 3",
        "∂q/∂x = 1",
        "∂q/∂y = 1",
        "f = q * z",
        "q = x + y",
        "-12",
        "5",
    ):
        assert text in shown
    assert shown.count("← -4 × 1 = -4") == 2


def test_paths_that_meet_are_shown_as_a_sum_by_hand() -> None:
    text = str(chain_rule(diamond()))  # x**3 - 2 * x**2 at 3
    assert "gradient 1 = -2 + 3" in text  # of x * x
    assert "x   value 3   gradient 15 = 9 + 3 + 3" in text
    assert "2   value" not in text  # a constant is written where it stands


def test_arrays_show_shapes_and_the_size_of_the_local_gradient() -> None:
    text = str(chain_rule(layer()))
    assert "v1 = x @ w" in text
    assert re.search(r"└─ w   dw = x\.T @ dv1   local gradient \(4, 5, 3, 5\)   gives \[-?\d", text)
    assert re.search(r"x    +value \(4, 3\) \[0\.126, -0\.132, 0\.64, …\]   +constant", text)
    assert "x1   value (5,) [1, 1, 1, …]" in text


def test_scalar_loss_shows_its_local_gradient_in_full() -> None:
    loss = (leaf([1.0, 2.0], "x") * Tensor([3.0, 4.0])).sum()
    assert "local gradient (2,) [1, 1]   gives [1, 1]" in str(chain_rule(loss))


def test_attributes_that_are_no_defaults_are_shown() -> None:
    shown = chain_rule((leaf(np.ones((2, 3)), "x").sum(axis=1) * Tensor([1.0, 2.0])).sum())
    assert "v1 = sum(x)   with axis=1" in str(shown)
    assert "axis=1" in texts(shown.svg)


def test_rules_with_conditions_read_as_a_sentence() -> None:
    y = apply("relu", leaf(3.0, "x"))
    assert "∂loss/∂x = (1 where x > 0, else 0) = 1   1 × 1 = 1" in str(chain_rule(y))


def test_upstream_gradient_can_be_given() -> None:
    assert "3 × (-4) = -12" in str(chain_rule(article(), 3.0))
    with pytest.raises(ValueError, match="needs gradient"):
        chain_rule(leaf([1.0, 2.0]) * 2)


@each_graph
def test_factors_add_up_to_the_gradients(graph: str) -> None:
    loss = GRAPHS[graph]()
    shown = chain_rule(loss)
    found = {id(tensor): d for tensor, d in gradients(loss).items()}
    assert len(found) == sum(vertex.kind != "constant" for vertex in shown.vertices)
    for vertex in shown.vertices:
        if not vertex.shape and vertex.parts and vertex.kind != "constant":
            total = sum(float(part) for part in vertex.parts)
            assert_shown(total, float(vertex.gradient), digits=4, terms=len(vertex.parts) + 1)


@each_graph
def test_chain_rule_leaves_the_graph_and_the_gradients_alone(graph: str) -> None:
    loss = GRAPHS[graph]()
    leaves = [tensor for tensor in gradients(loss) if tensor.node is None]
    first = chain_rule(loss)
    assert all(tensor.grad is None for tensor in leaves)
    loss.backward(retain=True)
    before = [np.array(tensor.grad) for tensor in leaves]
    assert str(chain_rule(loss)) == str(first)
    for tensor, gradient in zip(leaves, before, strict=True):
        np.testing.assert_array_equal(tensor.grad, gradient)


def test_chain_rule_stays_as_it_was_when_the_graph_is_freed() -> None:
    loss = article()
    shown = chain_rule(loss)
    before = str(shown), shown.svg
    loss.backward()
    assert (str(shown), shown.svg) == before


def test_names_are_made_up_where_there_are_none() -> None:
    x, taken = leaf(2.0), leaf(3.0, "x1")
    names = [vertex.name for vertex in chain_rule((x * taken).exp() * 2).vertices]
    assert names == ["loss", "v2", "v1", "x2", "x1", "2"]


def test_negative_constant_stands_in_brackets() -> None:
    assert "loss = x ** (-3)" in str(chain_rule(leaf(2.0, "x") ** -3))


def test_leaf_alone_is_a_picture_too() -> None:
    shown = chain_rule(leaf(2.0, "x"))
    assert str(shown).splitlines()[-1] == "x   value 2   gradient 1"
    assert "2" in texts(shown.svg)


# --- the picture


@each_graph
def test_picture_is_one_accessible_element_that_asks_for_nothing(graph: str) -> None:
    svg = chain_rule(GRAPHS[graph]()).svg
    root = parse(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    title, desc = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert desc is not None
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert "gradient" in "".join(desc.itertext())
    assert not re.search(r"href|url\(|<style|style=|<script|<image|\son\w+=", svg)
    assert page("Picture", svg)


@each_graph
def test_picture_takes_its_colours_from_the_page(graph: str) -> None:
    svg = chain_rule(GRAPHS[graph]()).svg
    colours = re.findall(r'(?:fill|stroke)="([^"]*)"', svg)
    assert colours
    assert all(colour == "none" or colour.startswith("var(--") for colour in colours)


def test_ids_of_different_pictures_differ() -> None:
    ids = re.findall(r' id="([^"]*)"', chain_rule(article()).svg + chain_rule(diamond()).svg)
    assert len(ids) == len(set(ids)) == 4


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    name = "<script>\"'&\ud800</script>"
    shown = chain_rule(leaf(2.0, name) * leaf(3.0, "a" * 500))
    assert "<script>" not in shown.svg
    assert "<script>" not in shown._repr_html_()
    parse(shown.svg)
    shown.save(tmp_path / "page.html")
    assert "<script>" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_large_graph_has_one_box_for_each_operation() -> None:
    loss = network()
    shown = chain_rule(loss)
    operations = sum(vertex.kind == "operation" for vertex in shown.vertices)
    root = parse(shown.svg)
    assert len(list(root.iter(f"{SVG}rect"))) == operations == 13
    written = texts(shown.svg)
    assert written.count("conv") == 3
    assert "(2, 4, 12, 12)" in written
    assert "images" in written


def test_long_chain_shows_the_operations_nearest_to_the_end() -> None:
    y = leaf(1.0, "x")
    for _ in range(1000):
        y = y * 1.01
    shown = chain_rule(y)
    assert shown.hidden == 800
    assert repr(shown) == "<chain rule of loss: 200 of 1000 operations>"
    assert str(shown).endswith("... and 800 earlier operations")
    assert len(list(parse(shown.svg).iter(f"{SVG}rect"))) == 200


def apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]


@pytest.mark.browser
@each_graph
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_keeps_texts_apart_and_readable(
    graph: str, scheme: str, tmp_path: Path, browser_page: Any
) -> None:
    chain_rule(GRAPHS[graph]()).save(tmp_path / "page.html")
    browser_page.page.emulate_media(color_scheme=scheme)
    opened = browser_page.open(tmp_path / "page.html")
    boxes = opened.evaluate(
        "[...document.querySelectorAll('svg text')].map(t => { const b = t.getBoundingClientRect();"
        " return [b.x, b.y + 3, b.width, b.height - 6]; })"
    )
    for one, other in itertools.combinations(boxes, 2):
        assert apart(one, other)
    overflowing = opened.evaluate(
        "[...document.querySelectorAll('svg rect')].flatMap(r => { const b = r.getBoundingClientRect();"
        " return [...document.querySelectorAll('svg text')].filter(t => { const c = t.getBoundingClientRect();"
        " return c.x >= b.x && c.x < b.right && c.y >= b.y && c.bottom <= b.bottom && c.right > b.right; }); }).length"
    )
    assert overflowing == 0
    ink, paper = opened.evaluate(
        "[getComputedStyle(document.querySelector('svg text[font-weight]')).fill,"
        " getComputedStyle(document.body).backgroundColor]"
    )
    assert ink != paper
    assert not ink.startswith("rgb(0, 0, 0")  # the page's own colour, not the fallback
    browser_page.assert_clean()


# --- files and notebooks


def test_save_writes_a_page_with_picture_and_text(tmp_path: Path) -> None:
    chain_rule(article()).save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "<svg" in text
    assert "∂f/∂q = z = -4   1 × (-4) = -4" in text


def test_save_writes_a_picture_with_colours_of_its_own(tmp_path: Path) -> None:
    chain_rule(article()).save(str(tmp_path / "figure.SVG"))
    text = (tmp_path / "figure.SVG").read_text(encoding="utf-8")
    assert parse(text).tag == f"{SVG}svg"
    assert "prefers-color-scheme: dark" in text
    used = set(re.findall(r"var\((--(?!mono)[a-z]+)", text.partition("</style>")[2]))
    assert used <= set(re.findall(r"(--[a-z]+):", text.partition("</style>")[0]))


def test_notebooks_show_the_picture() -> None:
    assert "<svg" in chain_rule(article())._repr_html_()


def freed() -> ChainRule:
    loss = article()
    loss.backward()
    return chain_rule(loss)


@pytest.mark.parametrize(
    ("compute", "error", "message"),
    [
        (
            freed,
            ValueError,
            r"freed by a backward, .* loss\.backward\(retain=True\), or chain_rule\(loss\) before",
        ),
        (lambda: chain_rule(Tensor(1.0)), ValueError, "nothing that requires a gradient"),
        (lambda: chain_rule(np.ones(())), TypeError, "loss is a ndarray, and a Tensor is needed"),  # type: ignore[arg-type]
        (lambda: chain_rule(article()).save("figure.png"), ValueError, r"ends in \.png, and \.svg or \.html"),
        (lambda: chain_rule(article()).save("figure"), ValueError, "ends in nothing"),
    ],
)
def test_chain_rule_explains_what_it_cannot_do(compute: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compute()
