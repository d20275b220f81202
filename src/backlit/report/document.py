"""write_report: the sections put together into one self-contained page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

import backlit
from backlit.files import as_path, write_atomic
from backlit.graph import Tensor, apply
from backlit.html import page
from backlit.nn import Module
from backlit.ops.arrays import Array, as_array
from backlit.report.chain import chain_section
from backlit.report.curves import need_matplotlib
from backlit.report.evaluation import in_double
from backlit.report.filters import filters_section
from backlit.report.health import health_section
from backlit.report.mistakes import mistakes_section
from backlit.report.overview import curves_section, header
from backlit.report.results import Results
from backlit.report.trace import follow, recording
from backlit.sizes import integer
from backlit.train import History

__all__ = ["write_report"]

_SECTIONS = {
    "learning": "How it learned",
    "mistakes": "What it confuses",
    "filters": "What it looks for",
    "flow": "How the gradient flowed",
    "backward": "One input, backwards",
}


def write_report(
    path: str | os.PathLike[str],
    *,
    model: Module,
    history: History,
    test: tuple[Any, Any],
    title: str = "Training report",
    facts: Mapping[str, object] | None = None,
    class_names: Sequence[object] | None = None,
    follow_index: int | None = None,
) -> None:
    """Write the report of a training run as one HTML file, which needs nothing but itself to be read.

    It shows what was trained on what, the learning curves, the confusion matrix with the worst mistakes, the
    learned kernels with their gradients, how the gradient flowed through the layers (where `history` has the columns
    of `inspect.GradientHealth`), and one test input followed backwards through every operation,

        loss -> d loss / d logits -> ... -> d loss / d pixels

    by the rules and the numbers that the graph recorded. The model computes in evaluation mode; its parameters, their
    gradients, buffers and modes are afterwards as they were.

    Args:
        path: the file to write, whole or not at all.
        model: a trained classifier, which maps x to logits (N, K).
        history: what `fit` returned.
        test: (x, y): inputs (N, C, *spatial) that it was not trained on, and their classes (N,).
        title: the heading.
        facts: name -> value, in the order in which the header lists them: the data, the optimiser, the seed ...
        class_names: K names; None takes the numbers.
        follow_index: which test input to follow backwards; None takes one that the model gets right and is about
            75% sure of, since where it is quite sure no gradient flows.

    Raises:
        ModuleNotFoundError: matplotlib, which draws the curves, is not installed.
        TypeError, ValueError: the test data, the names or the index do not fit the model.
        OSError: the file cannot be written.

    Source: the steps backwards follow the figure of the article that the project grew from.

    Example:
        >>> import backlit as bl, pathlib, tempfile
        >>> from backlit.train import fit
        >>> x = np.random.default_rng(0).normal(size=(60, 1, 4, 4)).astype(np.float32)
        >>> y = (x.mean(axis=(1, 2, 3)) > 0).astype(np.int64)
        >>> model = bl.nn.Sequential(bl.nn.Conv2d(1, 2, 3), bl.nn.ReLU(), bl.nn.Flatten(), bl.nn.Linear(8, 2))
        >>> history = fit(model, (x, y), epochs=2, batch_size=20, lr=0.01, progress=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "report.html")
        ...     write_report(file, model=model, history=history, test=(x, y), title="Above zero?")
        ...     print(file.read_text("utf-8")[:15])
        <!doctype html>
    """
    file = as_path("path", path)
    need_matplotlib()
    if not isinstance(test, (tuple, list)) or len(test) != 2:
        raise TypeError("test is a pair of arrays (x, y): inputs and their classes.")
    x = as_array("test[0]", test[0])
    results = Results.of(model, x, test[1], class_names)
    index = results.hesitant if follow_index is None else integer("follow_index", follow_index, 0)
    if index >= len(x):
        raise ValueError(f"follow_index is {index}, and test has {len(x)} inputs, numbered from 0.")
    label = int(results.labels[index])
    trace = follow(model, x[index : index + 1], label)

    def loss_of(pixels: Array) -> float:
        """In float64: in float32 rounding would blur what a small change of a pixel does."""
        with in_double(model), recording(model):
            return float(apply("cross_entropy", model(Tensor(pixels)), labels=np.array([label])).item())

    with np.errstate(all="ignore"):  # a model that broke in training has infinities to show
        sections = {
            "learning": curves_section(history),
            "mistakes": mistakes_section(results),
            "filters": filters_section(model, results, trace),
            "flow": health_section(model, history),
            "backward": chain_section(trace, results, index, loss_of),
        }
    contents = "".join(
        f'<li><a href="#{name}">{_SECTIONS[name]}</a></li>' for name, html in sections.items() if html
    )
    body = (
        f"{header(title, model, history, results, facts or {}, backlit.__version__)}"
        f'<nav class="contents" aria-label="sections"><ul>{contents}</ul></nav>'
        f"<main>{''.join(sections.values())}</main>"
    )
    data = {
        "accuracy": results.accuracy,
        "classes": results.class_names,
        "confusion": results.confusion,
        "history": history.epochs,
    }
    html = page(title, body, style=_asset("report.css"), script=_asset("report.js"), data=data)
    write_atomic(file, html.encode())


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
