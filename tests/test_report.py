"""The training report: its numbers are right, its page is clean, and the model is as it was."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from backlit import nn
from backlit.data import load_digits
from backlit.graph import Tensor
from backlit.inspect import GradientHealth
from backlit.models import DigitsNet
from backlit.ops import random
from backlit.report import write_report
from backlit.report.health import health_section
from backlit.report.pixels import pixels_panel
from backlit.report.trace import follow
from backlit.train import History, fit
from tolerance import assert_close, assert_shown

NAMES = ("<script>alert(1)</script>", 'up & "down"', "flat")
TITLE = "Stripes </title><script>document.documentElement.dataset.hacked = 1</script>"


class Trained(NamedTuple):
    """A model, what it was trained on, and the report that was written of it."""

    model: nn.Module
    history: History
    x: np.ndarray
    y: np.ndarray
    path: Path

    @property
    def html(self) -> str:
        return self.path.read_text("utf-8")


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images (N, 1, 6, 6) of horizontal stripes, vertical stripes, or none, in float64."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    patterns = np.zeros((3, 1, 6, 6))
    patterns[0, 0, ::2], patterns[1, 0, :, ::2] = 1.0, 1.0
    return patterns[y] + rng.normal(0, 0.7, (count, 1, 6, 6)), y


def network(channels: int = 1) -> nn.Module:
    with random.using(np.random.default_rng(0)):
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3, stride=2, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 2, groups=2),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(6, 3),
        ).double()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    model = network()
    x, y = stripes(90, 1)
    probe = stripes(20, 3)
    history = fit(
        model,
        (x[:60], y[:60]),
        epochs=3,
        batch_size=20,
        lr=0.02,
        validation=(x[60:], y[60:]),
        callbacks=[GradientHealth(*probe)],
        progress=False,
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    facts = {"Data": "stripes <b>", "seed": "0", "Parameters": "counted by hand"}
    x, y = stripes(40, 2)
    write_report(
        path,
        model=model,
        history=history,
        test=(x, y),
        title=TITLE,
        facts=facts,
        class_names=NAMES,
        follow_index=5,
    )
    return Trained(model, history, x, y, path)


def logits_of(model: nn.Module, x: np.ndarray) -> np.ndarray:
    """The model's outputs, an image at a time, in evaluation mode."""
    model.eval()
    return np.stack([model(Tensor(image[None])).data[0] for image in x])


def section(html: str, name: str) -> str:
    """One section of the page, as HTML."""
    return html.split(f'<section id="{name}"')[1].split("<section id=")[0]


def words(html: str) -> str:
    """The text of a piece of HTML."""
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)))


def cells(table: str) -> list[list[str]]:
    """The text of every cell, row by row."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    return [[words(cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


class Sum(NamedTuple):
    """A worked sum as it stands on the page: gradient name and index, the products, the rest, what backward said."""

    name: str
    at: tuple[int, ...]
    factors: list[tuple[str, tuple[int, ...], float, str, tuple[int, ...], float]]
    rest: float
    gradient: float


def sums(html: str) -> list[Sum]:
    found = []
    element = re.compile(r"(\w+)\[([\d, ]+)\]")
    for block in re.findall(r'<section class="sum">.*?</section>', html, re.DOTALL):
        factors = []
        for values, codes in re.findall(r'<tr data-term="\d+" data-values="([^"]+)">(.*?)</th>', block):
            (left, at), (right, where) = ((n, _index(i)) for n, i in element.findall(codes))
            x, y = map(float, values.split())
            factors.append((left, at, x, right, where, y))
        rest = re.search(r'data-rest="([^"]+)"', block)
        name, at = element.search(block.split('data-element="')[1]).groups()
        gradient = float(block.split('data-gradient="')[1].split('"')[0])
        found.append(Sum(name, _index(at), factors, float(rest.group(1)) if rest else 0.0, gradient))
    return found


def _index(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def slope(
    loss: Callable[[], float], array: np.ndarray, at: tuple[int, ...], step: float = 2.0 ** (-52 / 3)
) -> float:
    """The central difference of a loss with respect to one element of an array that it reads."""
    kept, ends = array[at], []
    for sign in (-1, 1):
        array[at] = kept + sign * step
        ends.append(loss())
    array[at] = kept
    return (ends[1] - ends[0]) / (2 * step)


def test_report_accuracy_is_that_of_one_image_at_a_time(trained: Trained) -> None:
    right = sum(
        int(row.argmax() == k) for row, k in zip(logits_of(trained.model, trained.x), trained.y, strict=True)
    )
    header = words(trained.html.split("<header>")[1].split("</header>")[0])
    assert f"{100 * right / len(trained.y):.2f}%".replace("100.00", "100") in header
    assert f"Of 40 test inputs that it never trained on, the model names {right} rightly" in header


def test_report_confusion_matrix_counts_each_pair(trained: Trained) -> None:
    answers = logits_of(trained.model, trained.x).argmax(axis=1)
    counted = Counter(zip(trained.y.tolist(), answers.tolist(), strict=True))
    table = trained.html.split('<table class="confusion')[1].split("</table>")[0]
    shown = [[int(cell.replace("·", "0")) for cell in row[1:4]] for row in cells(table)[1:4]]
    assert shown == [[counted[true, said] for said in range(3)] for true in range(3)]


def test_report_shows_the_surest_mistakes_first(trained: Trained) -> None:
    logits = logits_of(trained.model, trained.x)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = [i for i in range(len(p)) if p[i].argmax() != trained.y[i]]
    assert wrong, "the model has to make mistakes for this test to say anything"
    expected = [
        f"{NAMES[trained.y[i]]} taken for {NAMES[p[i].argmax()]} {100 * p[i].max():.1f}% sure, image {i}"
        for i in sorted(wrong, key=lambda i: -p[i].max())[:12]
    ]
    cards = re.findall(r"<li><img.*?</li>", section(trained.html, "mistakes"), re.DOTALL)
    assert [words(card).strip() for card in cards] == expected


def test_report_epochs_are_those_of_the_history(trained: Trained) -> None:
    table = section(trained.html, "learning").split("<table")[1].split("</table>")[0]
    head, *rows = cells(table)
    assert [row[head.index("epoch")] for row in rows] == ["1", "2", "3"]
    losses = [float(row[head.index("val loss")]) for row in rows]
    assert_shown(trained.history["val_loss"], losses, digits=3)


def test_report_gradient_table_has_the_last_norms(trained: Trained) -> None:
    rows = cells(section(trained.html, "flow").split("<table")[1].split("</table>")[0])
    shown = {row[0]: float(row[2]) for row in rows[1:]}
    assert list(shown) == ["0.weight", "3.weight", "8.weight"]
    for name, value in shown.items():
        assert_shown(trained.history[f"grad_norm/{name}"][-1], value, digits=3)


def test_report_follows_every_operation_back_to_the_pixels(trained: Trained) -> None:
    rail = section(trained.html, "backward").split('<ol class="rail">')[1].split("</ol>")[0]
    assert [words(item).split()[-1] for item in re.findall(r"<li>.*?</li>", rail)] == [
        "Loss", "8", "7", "6", "5", "4", "3", "2", "1", "0", "Pixels",
    ]  # fmt: skip


def test_report_worked_sums_add_up_to_the_gradient(trained: Trained) -> None:
    found = sums(section(trained.html, "backward"))
    assert [worked.name for worked in found] == [
        "dx",
        "dw",
        "dw",
        "dx",
    ]  # linear, second and first convolution
    for worked in found:
        products = [x * y for _, _, x, _, _, y in worked.factors] + [worked.rest]
        assert [abs(p) for p in products[:-1]] == sorted((abs(p) for p in products[:-1]), reverse=True)
        assert_close(sum(products), worked.gradient, 100, max(map(abs, products)))


def test_report_worked_factors_are_elements_of_the_image_and_the_weights(trained: Trained) -> None:
    over_weight, over_pixel = sums(section(trained.html, "backward"))[2:]
    for name, at, value, _, _, _ in over_weight.factors:
        assert (name, value) == ("x", trained.x[5:6][at])
    for name, at, value, _, _, _ in over_pixel.factors:
        assert (name, value) == ("w", trained.model.state_dict()["0.weight"][at])


def test_report_worked_products_pair_what_the_kernel_joins(trained: Trained) -> None:
    over_weight, over_pixel = sums(section(trained.html, "backward"))[2:]
    k, _, u, v = over_weight.at
    for _, x_at, _, _, y_at, _ in over_weight.factors:
        assert x_at == (0, 0, 2 * y_at[2] + u - 1, 2 * y_at[3] + v - 1)
        assert y_at[:2] == (0, k)
    _, _, i, j = over_pixel.at
    for _, (k, _, u, v), _, _, y_at, _ in over_pixel.factors:
        assert (i, j) == (2 * y_at[2] + u - 1, 2 * y_at[3] + v - 1)
        assert y_at[:2] == (0, k)


def test_report_worked_gradients_equal_finite_differences(trained: Trained) -> None:
    model, pixels = trained.model, trained.x[5:6].copy()

    def loss() -> float:
        z = logits_of(model, pixels)[0]
        return float(np.log(np.exp(z).sum()) - z[trained.y[5]])

    _, second, first, pixel = sums(section(trained.html, "backward"))
    weights = dict(model.named_parameters())
    for array, worked in (
        (weights["3.weight"].data, second),
        (weights["0.weight"].data, first),
        (pixels, pixel),
    ):
        assert_close(slope(loss, array, worked.at), worked.gradient, 500, 1.0, differenced=True)


def test_report_checks_the_pixel_gradient_by_changing_the_pixel(trained: Trained) -> None:
    text = words(section(trained.html, "backward")).replace("−", "-")
    measured, claimed = re.search(r"a slope of (-?[\d.]+) . The chain rule says (-?[\d.]+)", text).groups()
    assert_shown(float(measured), float(claimed), digits=4, terms=2)


class _Residual(nn.Module):
    """A functional network in float32 with a shortcut, many ReLUs and a maximum."""

    def __init__(self) -> None:
        self.stem, self.bn = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.inner, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16 * 16, 10)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        f = nn.functional
        y = f.relu(self.bn(self.stem(x)))
        y = f.max_pool2d(f.relu(self.inner(y) + y), 2)
        return self.head(self.dropout(f.flatten(y, 1)))


@pytest.fixture(scope="module", params=[DigitsNet, _Residual])
def digits_report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A network in float32 after one epoch on real digits."""
    (x, y), (x_test, y_test) = load_digits()
    with random.using(np.random.default_rng(0)):
        model = request.param()
        history = fit(model, (x[:600], y[:600]), epochs=1, batch_size=30, lr=0.01, progress=False)
    path = tmp_path_factory.mktemp("digits") / "report.html"
    write_report(path, model=model, history=history, test=(x_test, y_test))
    return Trained(model, history, x_test, y_test, path)


def check_of(html: str) -> tuple[str, str]:
    """The two numbers of the last step: the slope that was measured, and the gradient."""
    text = words(section(html, "backward"))
    return re.search(r"a slope of (\S+) . The chain rule says (\S+) ", text).groups()


def test_report_of_a_float32_network_measures_the_gradient_to_the_digits_shown(
    digits_report: Trained, tmp_path: Path
) -> None:
    for index in (0, 7, 19):
        path = tmp_path / f"{index}.html"
        write_report(
            path,
            model=digits_report.model,
            history=digits_report.history,
            test=(digits_report.x[:40], digits_report.y[:40]),
            follow_index=index,
        )
        measured, claimed = check_of(path.read_text("utf-8"))
        assert measured == claimed


def test_report_says_so_where_the_pixel_sits_on_a_kink(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(1, 2)).double()
    x = np.array([[[[0.0]]], [[[1.0]]]])
    trace = follow(model, x[1:], 1)
    at_the_kink = replace(trace, pixels=x[:1])

    def loss_of(pixels: np.ndarray) -> float:
        z = logits_of(model, pixels)[0]
        return float(np.log(np.exp(z).sum()) - z[1])

    assert "The pixel sits on a kink" in words(pixels_panel(at_the_kink, (0.0, 1.0), loss_of, 4))


def test_report_does_not_check_a_network_that_refuses_float64(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.linear = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(nn.functional.flatten(x, 1) * Tensor(np.full(4, 2.0, np.float32)))

    x, y = np.ones((4, 1, 2, 2), np.float32), np.arange(4) % 2
    write_report(tmp_path / "r.html", model=Scaled(), history=History(), test=(x, y))
    assert "The gradient is not checked here" in words((tmp_path / "r.html").read_text("utf-8"))


def test_report_leaves_the_arrays_of_a_float32_network_in_place(
    digits_report: Trained, tmp_path: Path
) -> None:
    model = digits_report.model
    arrays = [p.data for p in model.parameters()] + list(model.buffers())
    values = [array.copy() for array in arrays]
    write_report(
        tmp_path / "r.html",
        model=model,
        history=digits_report.history,
        test=(digits_report.x[:9], digits_report.y[:9]),
    )
    after = [p.data for p in model.parameters()] + list(model.buffers())
    assert all(one is other for one, other in zip(arrays, after, strict=True))
    assert all(np.array_equal(one, other) for one, other in zip(values, after, strict=True))


def test_report_lists_every_product_of_a_long_sum(digits_report: Trained) -> None:
    lists = re.findall(
        r"<summary>all (\d+) products</summary>(.*?)</details>",
        section(digits_report.html, "backward"),
        re.DOTALL,
    )
    assert lists
    for count, listing in lists:
        values = [float(row[2].replace("−", "-")) for row in cells(listing)[1:]]
        assert len(values) == int(count)
        assert [abs(v) for v in values] == sorted((abs(v) for v in values), reverse=True)


def test_report_shows_the_formulas_of_evaluation(digits_report: Trained) -> None:
    text = words(section(digits_report.html, "backward"))
    assert "dx = dy * gamma / sqrt(running_var + eps)" in text
    assert "mean(dy)" not in text
    assert "where kept" not in text


def test_report_does_not_name_a_step_twice(digits_report: Trained) -> None:
    headings = [words(h).strip() for h in re.findall(r'<h3 id="step-[^>]*>(.*?)</h3>', digits_report.html)]
    assert "Dropout" in headings
    assert "Dropout dropout" not in headings


def test_report_of_one_epoch_has_one_tick(digits_report: Trained) -> None:
    learning = section(digits_report.html, "learning")
    texts = re.findall(
        r"<text[^>]*>([^<]+)</text>", learning.split('<svg class="chart"')[1].split("</svg>")[0]
    )
    before_label = texts[: texts.index("epoch")]
    assert before_label == ["1"]


def test_report_class_gradient_is_probability_less_one_at_the_truth(trained: Trained) -> None:
    z = logits_of(trained.model, trained.x[5:6])[0]
    p = np.exp(z) / np.exp(z).sum()
    rows = cells(section(trained.html, "backward").split("<table")[1].split("</table>")[0])[1:]
    shown = [float(row[3].replace("−", "-")) for row in rows]
    assert_shown(p - np.eye(3)[trained.y[5]], shown, 4)


def flow_with(dead: list[float | None]) -> str:
    """The section on the flow of the gradient for a history with these shares of dead units."""
    rows = [{"epoch": i + 1, "loss": 1.0, "dead/body.relu": share} for i, share in enumerate(dead)]
    return health_section(network(), History.from_rows(rows))


def test_report_says_so_where_no_unit_was_dead_in_any_epoch() -> None:
    flow = flow_with([0.0, 0.0, 0.0])
    assert "No unit was dead in any of the 3 epochs." in words(flow)
    assert "<svg" not in flow


def test_report_draws_the_dead_units_where_one_was_dead_in_an_early_epoch_alone() -> None:
    flow = flow_with([0.25, 0.0, 0.0])
    assert "Share of dead units by epoch" in flow
    assert "No unit was dead" not in flow


def test_report_draws_those_layers_in_which_units_died_where_not_all_can_be_drawn() -> None:
    rows = [{"epoch": e, **{f"dead/layer{n}": 0.5 * (n in (3, 5)) for n in range(40)}} for e in (1, 2)]
    figure = health_section(network(), History.from_rows(rows)).split("</figure>")[0]
    assert set(re.findall(r"layer\d+", figure)) == {"layer3", "layer5"}


def test_report_table_of_dead_units_has_the_most_of_any_epoch() -> None:
    table = cells(flow_with([0.125, 0.5, None, 0.25]))
    assert table[-2:] == [
        ["activation", "dead, last epoch", "most, in any epoch", "reading"],
        ["body.relu", "25.0%", "50.0%", "some are dead"],
    ]


def test_report_escapes_what_came_from_outside(trained: Trained) -> None:
    elements = _Elements(trained.html)
    assert elements.text["title"] == TITLE
    assert elements.text["h1"] == TITLE
    assert [e for e, _ in elements.found if e == "script"] == [
        "script",
        "script",
    ]  # the data and the one script
    assert ("b", {}) not in [(e, a) for e, a in elements.found if "stripes" in str(a)]
    assert "<dd>stripes &lt;b&gt;</dd>" in trained.html


def test_report_facts_of_the_caller_win(trained: Trained) -> None:
    header = trained.html.split("<header>")[1].split("</header>")[0]
    assert header.count("<dt>Parameters</dt>") == 1
    assert "<dd>counted by hand</dd>" in header


def test_report_refers_to_nothing_outside(trained: Trained) -> None:
    for _, attributes in _Elements(trained.html).found:
        for name in ("src", "href", "xlink:href"):
            assert re.match(r"data:|#|$", attributes.get(name) or "")
    assert "url(http" not in trained.html


def test_report_uses_no_id_twice(trained: Trained) -> None:
    ids = Counter(a["id"] for _, a in _Elements(trained.html).found if "id" in a)
    assert [name for name, count in ids.items() if count > 1] == []


def test_report_points_only_at_ids_that_are_there(trained: Trained) -> None:
    elements = _Elements(trained.html)
    ids = {a["id"] for _, a in elements.found if "id" in a}
    links = {a["href"][1:] for _, a in elements.found if str(a.get("href")).startswith("#")}
    labels = {name for _, a in elements.found for name in str(a.get("aria-labelledby") or "").split()}
    clips = set(re.findall(r"url\(#([^)]+)\)", trained.html))
    assert links | labels | clips <= ids


def test_report_is_the_same_bytes_again(trained: Trained, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "model": trained.model,
        "history": trained.history,
        "test": (trained.x, trained.y),
    }
    for name in ("a", "b"):
        write_report(tmp_path / name, **arguments)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_report_leaves_the_model_as_it_was(trained: Trained, tmp_path: Path) -> None:
    model = network()
    model.train()
    model[1].eval()
    grads = {}
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = grads[number] = np.full(parameter.shape, float(number))
    before, modes = model.state_dict(), [module.training for module in model.modules()]
    write_report(tmp_path / "r.html", model=model, history=trained.history, test=(trained.x, trained.y))
    assert [module.training for module in model.modules()] == modes
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is grads[number] for number, parameter in enumerate(model.parameters()))
    assert all((grad == number).all() for number, grad in grads.items())
    assert not any(module._hooks for module in model.modules())


def test_report_lists_pairs_where_classes_are_many(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 1, 4, 4)), rng.integers(0, 25, 60)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 25)).double()
    write_report(tmp_path / "r.html", model=model, history=History(), test=(x, y))
    html = (tmp_path / "r.html").read_text("utf-8")
    answers = logits_of(model, x).argmax(axis=1)
    counted = Counter((int(a), int(b)) for a, b in zip(y, answers, strict=True) if a != b)
    rows = cells(section(html, "mistakes").split("<table")[1].split("</table>")[0])[1:]
    assert [int(row[2]) for row in rows] == sorted(counted.values(), reverse=True)[:20]
    assert all(counted[int(row[0]), int(row[1])] == int(row[2]) for row in rows)


class _Branches(nn.Module):
    """Two branches that meet again, on colour images, with operations outside of modules."""

    def __init__(self) -> None:
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.side = nn.ConvTranspose2d(4, 4, 1)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu(self.stem(x))
        return self.last((self.side(y) * 0.5 + y).mean(axis=(2, 3)))


def test_report_follows_branches_and_operations_outside_of_modules(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 3, 7, 5)).astype(np.float32), np.arange(6) % 2
    write_report(tmp_path / "r.html", model=_Branches(), history=History(), test=(x, y))
    text = words(section((tmp_path / "r.html").read_text("utf-8"), "backward"))
    for title in ("Linear layer last", "Mean", "Addition", "Multiplication", "Transposed convolution side"):
        assert title in text
    assert "What it passes on goes to step 5 and step 7 ." in text  # the addition: both branches


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)], (2, 8)),
        ([nn.Conv3d(1, 2, 2), nn.Sigmoid(), nn.Flatten(), nn.Linear(16, 2)], (1, 3, 3, 3)),
        ([nn.Linear(8, 2)], (8,)),
        ([nn.Conv2d(3, 2, 5, stride=5), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 40 * 40, 2)], (3, 200, 200)),
    ],
    ids=["conv1d", "conv3d", "no convolution", "large"],
)
def test_report_takes_inputs_of_any_shape(
    tmp_path: Path, layers: list[nn.Module], shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    write_report(
        tmp_path / "r.html", model=nn.Sequential(*layers), history=History(), test=(x, np.arange(6) % 2)
    )
    html = (tmp_path / "r.html").read_text("utf-8")
    assert ('<section id="filters"' in html) == (len(layers) > 1)
    assert len(html) < 2_000_000


def test_report_says_so_where_training_has_diverged(tmp_path: Path) -> None:
    model = network()
    model[0].weight.data[0] = np.nan
    write_report(tmp_path / "r.html", model=model, history=History(), test=stripes(5, 0))
    text = words((tmp_path / "r.html").read_text("utf-8"))
    assert "Some outputs of the model are infinite or no numbers" in text


def test_report_of_a_frozen_layer_has_no_gradient_of_it(tmp_path: Path) -> None:
    model = network()
    model[0].requires_grad_(False)
    write_report(tmp_path / "r.html", model=model, history=History(), test=stripes(5, 0))
    html = (tmp_path / "r.html").read_text("utf-8")
    assert "Frozen: it has none." in section(html, "filters")
    assert "not asked for" in section(html, "backward")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"test": (np.zeros((2, 1, 6, 6)), np.array([0, 3]))},
            r"test holds labels from 0 to 3, and the model has 3",
        ),
        ({"test": (np.zeros((2, 1, 6, 6)), np.array([0]))}, r"test holds labels of shape \(1,\)"),
        ({"test": (np.zeros((0, 1, 6, 6)), np.zeros(0, int))}, r"test is empty"),
        ({"class_names": ["a", "b"]}, r"class_names has 2 names, and the model has 3 classes"),
        ({"follow_index": 5}, r"follow_index is 5, and test has 5 inputs"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(36, 1)).double()}, r"the model has 1 class"),
    ],
)
def test_report_names_the_argument_that_does_not_fit(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"model": network(), "history": History(), "test": stripes(5, 0), **changed}
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / "r.html", **arguments)
    assert not (tmp_path / "r.html").exists()


def test_report_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'backlit\[report\]'"):
        write_report(tmp_path / "r.html", model=network(), history=History(), test=stripes(5, 0))


class _Elements(HTMLParser):
    """Every element's tag and attributes, and the first text of each tag."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.text: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open and self._open not in self.text:
            self.text[self._open] = data


CONTRAST = (Path(__file__).parent / "contrast.js").read_text("utf-8")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_opens_in_a_browser_without_a_complaint(browser_page, trained: Trained, scheme: str) -> None:
    browser_page.page.emulate_media(color_scheme=scheme)
    page = browser_page.open(trained.path)
    assert page.locator("h1").inner_text() == TITLE
    assert page.evaluate("document.documentElement.dataset.hacked") is None
    browser_page.assert_clean()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_text_has_contrast(browser_page, trained: Trained, scheme: str) -> None:
    browser_page.page.emulate_media(color_scheme=scheme)
    page = browser_page.open(trained.path)
    page.evaluate("document.querySelector('.stepper').classList.remove('stepping')")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate(CONTRAST, 4.5) == {}


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_report_never_scrolls_sideways(browser_page, trained: Trained, width: int) -> None:
    browser_page.page.set_viewport_size({"width": width, "height": 844})
    page = browser_page.open(trained.path)
    page.evaluate("document.querySelector('.stepper').classList.remove('stepping')")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.browser
def test_report_steps_with_buttons_keys_and_links(browser_page, trained: Trained) -> None:
    page = browser_page.open(trained.path)
    where, shown = page.locator(".where"), page.locator(".step:visible h3")
    assert (where.inner_text(), shown.all_inner_texts()) == ("Step 1 of 11: Loss", ["Loss"])
    page.get_by_role("button", name="Next").click()
    assert shown.all_inner_texts() == ["Linear layer 8"]
    page.keyboard.press("ArrowRight")
    assert where.inner_text() == "Step 3 of 11: Dropout 7"
    page.keyboard.press("ArrowLeft")
    assert where.inner_text() == "Step 2 of 11: Linear layer 8"
    page.locator(".rail a", has_text="Pixels").click()
    assert shown.all_inner_texts() == ["Pixels"]
    assert page.get_by_role("button", name="Next").is_disabled()
    assert page.locator(".rail a[aria-current=step]").all_inner_texts() == ["Pixels"]
    browser_page.assert_clean()


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_report_opened_at_a_step_shows_its_buttons(browser_page, trained: Trained, width: int) -> None:
    page = browser_page.page
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(reduced_motion="reduce")  # it is there at once
    page.goto(trained.path.as_uri() + "#step-8")
    page.wait_for_timeout(300)
    tops = page.evaluate(
        "[...document.querySelectorAll('.controls, #step-8')].map(e => e.getBoundingClientRect().top)"
    )
    assert 0 <= tops[0] < tops[1] < 844 / 2


@pytest.mark.browser
def test_report_shades_the_edge_behind_which_a_table_goes_on(browser_page, digits_report: Trained) -> None:
    browser_page.page.set_viewport_size({"width": 390, "height": 844})
    page = browser_page.open(digits_report.path)
    box = page.locator(".scroll:has(.confusion)")
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    attachments = box.evaluate("e => getComputedStyle(e).backgroundAttachment")
    assert attachments == "local, local, scroll, scroll"  # covers that move along, shadows that stay


@pytest.mark.browser
def test_report_shows_where_a_product_comes_from(browser_page, trained: Trained) -> None:
    page = browser_page.open(trained.path)
    page.locator(".rail a", has_text="Convolution").last.click()
    row = page.locator(".step:visible .sum tr[data-term='1']").first
    row.hover()
    assert page.locator(".step:visible .mark.lit").count() == 2  # in x and in dy


@pytest.mark.browser
def test_report_shows_all_steps_without_a_script(browser_page, trained: Trained) -> None:
    context = browser_page.page.context.browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(trained.path.as_uri())
    assert page.locator(".step:visible").count() == 11
    assert page.locator(".controls:visible").count() == 0
    context.close()


@pytest.mark.browser
def test_report_prints_all_steps_on_white(browser_page, trained: Trained) -> None:
    browser_page.page.emulate_media(media="print", color_scheme="dark")
    page = browser_page.open(trained.path)
    assert page.locator(".step:visible").count() == 11
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
