"""History: columns, CSV there and back, and what a notebook shows."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from backlit import nn
from backlit.train import History, fit
from backlit.train.history import COLUMNS

ROWS: list[dict[str, Any]] = [
    {"epoch": 1, "loss": 0.1 + 0.2, "val_loss": None, "lr": 1e-300, 'odd, "name"': float("inf")},
    {"epoch": 2, "loss": 1e17, "val_loss": 2 / 3, "lr": 1.0, 'odd, "name"': -0.0, "late": 5e-324},
]


def trained(epochs: int = 3) -> History:
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    return fit(
        nn.Linear(2, 2), (x, (x[:, 0] > 0).astype(int)), epochs=epochs, batch_size=5, lr=0.1, progress=False
    )


def test_a_history_has_the_columns_it_promises_in_their_order() -> None:
    assert tuple(trained().columns) == COLUMNS


def test_a_history_counts_epochs_from_one() -> None:
    assert trained()["epoch"] == [1, 2, 3]


def test_a_history_is_a_sequence_of_rows() -> None:
    history = History.from_rows(ROWS)
    assert (len(history), history[1], list(history)) == (2, ROWS[1], ROWS)


def test_a_column_that_a_row_lacks_is_none_there() -> None:
    assert History.from_rows(ROWS)["late"] == [None, 5e-324]


def test_a_column_that_does_not_exist_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(KeyError, match="its columns are: epoch, loss"):
        History.from_rows(ROWS)["acc"]


def test_from_rows_copies_the_rows() -> None:
    rows: list[dict[str, Any]] = [{"epoch": 1}]
    history = History.from_rows(rows)
    rows[0]["epoch"] = 2
    assert history["epoch"] == [1]


@pytest.mark.parametrize(
    "history", [History.from_rows(ROWS), trained(), History()], ids=["odd", "trained", "empty"]
)
def test_csv_gives_back_the_same_numbers_bit_for_bit(tmp_path: Path, history: History) -> None:
    history.to_csv(tmp_path / "h.csv")
    read = History.from_csv(tmp_path / "h.csv")
    assert len(read) == len(history)
    for name in history.columns:
        assert [repr(value) for value in read[name]] == [repr(value) for value in history[name]]


def test_csv_is_what_other_readers_expect(tmp_path: Path) -> None:
    trained().to_csv(tmp_path / "h.csv")
    with (tmp_path / "h.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["val_loss"] for row in rows] == ["", "", ""]
    assert all(float(row["loss"]) > 0 for row in rows)


def test_csv_has_numpys_numbers_as_plain_ones(tmp_path: Path) -> None:
    numbers = {
        "a": np.float32(0.1),
        "b": np.float64(0.1),
        "c": np.int8(3),
        "d": np.array(0.5),
        "e": np.bool_(True),
    }
    History.from_rows([{"epoch": np.int64(1), **numbers}]).to_csv(tmp_path / "h.csv")
    read = History.from_csv(tmp_path / "h.csv")[0]
    assert read == {"epoch": 1, "a": 0.10000000149011612, "b": 0.1, "c": 3, "d": 0.5, "e": 1}


@pytest.mark.parametrize("value", ["0.5", [1.0], 1j, np.zeros(2)], ids=str)
def test_to_csv_refuses_what_is_no_number_and_leaves_the_file(tmp_path: Path, value: Any) -> None:
    (tmp_path / "h.csv").write_text("before")
    with pytest.raises(TypeError, match=r"the column 'mine' holds .*, and a history holds numbers and None"):
        History.from_rows([{"epoch": 1, "mine": value}]).to_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text() == "before"


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (None, TypeError, "path is None, and a path is needed"),
        (3, TypeError, "path is 3, and a path is needed"),
        ("a\0b", ValueError, r"path is 'a\\x00b', and a path holds no NUL character"),
    ],
)
def test_csv_refuses_what_is_no_path(path: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        History.from_rows(ROWS).to_csv(path)
    with pytest.raises(error, match=message):
        History.from_csv(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epoch,loss,loss\n1,2,3\n", "line 1: the column 'loss' is there 2 times"),
        (b"", "is no history: its first line has no column 'epoch'"),
        (b"a,b\n1,2\n", "is no history"),
        (b"epoch,loss\n1,0.5\n2\n", "line 3: 1 fields for 2 columns; the file seems cut short"),
        (b"epoch,loss\n1,much\n", "line 2: 'much' is no number"),
        (b"\xff\xfe\x00", "is no CSV file that to_csv wrote"),
        (b'epoch,"loss\n', "is no CSV file that to_csv wrote"),
    ],
)
def test_from_csv_says_what_is_wrong_with_a_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "h.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        History.from_csv(tmp_path / "h.csv")


def test_a_history_says_how_it_went() -> None:
    history = History.from_rows(
        [{"epoch": 1, "loss": 0.25, "accuracy": 0.5, "val_loss": None, "val_accuracy": None}]
    )
    assert repr(history) == "History(1 epoch: loss 0.2500, accuracy 0.5000)"
    history.interrupted = True
    assert repr(history).endswith("0.5000, interrupted)")
    assert repr(History()) == "History(no epoch)"


@pytest.mark.parametrize("epochs", [0, 1, 2, 15])
def test_a_notebook_shows_well_formed_html(epochs: int) -> None:
    rows = [
        {"epoch": i + 1, "loss": 1 / (i + 1), "val_loss": float("nan") if i == 1 else 2.0}
        for i in range(epochs)
    ]
    tree = ElementTree.fromstring(History.from_rows(rows)._repr_html_())  # noqa: S314  # our own
    assert len(tree.findall(".//td")) == 3 * min(epochs, 10)
    assert len(tree.findall(".//polyline")) == (2 if epochs > 1 else 0)


def test_a_notebook_asks_for_nothing_outside_the_page() -> None:
    html = trained()._repr_html_()
    assert not re.search(r"https?:|//|src=|href=|<script|url\(", html)
