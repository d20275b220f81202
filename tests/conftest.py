"""What every test shares: the tools that some need, seeds, Hypothesis's profiles, a browser without a network."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

import backlit
from backlit.engines import module

hypothesis.settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=50,
    deadline=None,  # a busy machine is no failure
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "full", max_examples=1000, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def _chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def _missing_torch() -> str:
    return "" if importlib.util.find_spec("torch") else "PyTorch is not installed"


def _missing_browser() -> str:
    if not importlib.util.find_spec("playwright"):
        return "playwright is not installed"
    return "" if _chromium() else "there is no chromium, chromium-browser or google-chrome on PATH"


def _missing_onnx() -> str:
    return "" if importlib.util.find_spec("onnx") else "onnx is not installed"


# Marker -> what is missing for the tests that have it, or "". pyproject.toml describes each marker.
TOOLS: dict[str, Callable[[], str]] = {
    "torch": _missing_torch,
    "onnx": _missing_onnx,
    "browser": _missing_browser,
    "native": module.why_unavailable,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default="",
        metavar="TOOLS",  # given as --require=TOOLS: with a space pytest may take it for a path
        help=f"fail instead of skipping where one of these is missing, comma-separated: {', '.join(TOOLS)}",
    )


def _required(config: pytest.Config) -> list[str]:
    return [name for name in config.getoption("--require").split(",") if name]


def pytest_configure(config: pytest.Config) -> None:
    for name in _required(config):
        if name not in TOOLS:
            raise pytest.UsageError(f"--require {name}: no such tool, there are {', '.join(TOOLS)}")
        if reason := TOOLS[name]():
            raise pytest.UsageError(f"--require {name}: {reason}")
    if getattr(config.option, "numprocesses", None):  # workers inherit this; one test per processor is enough
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {name: missing() for name, missing in TOOLS.items()}
    for item in items:
        for name, reason in reasons.items():
            if reason and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where a tool that the test is marked with is required."""
    report = yield
    required = [name for name in _required(item.config) if item.get_closest_marker(name)]
    if required and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though --require {','.join(required)} was given: {report.longrepr}"
    return report


def pytest_report_header() -> str:
    """The instruction sets that the native engine is tested on here."""
    return f"native instruction sets: {', '.join(module.isas()) or 'none, as ' + module.why_unavailable()}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """As many workers as this process may use processors, in a container with a quota too."""
    return module.usable_threads()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that are the same in every run of one test, and others in another test."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(autouse=True)
def _fixed_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts from the same random state and number of threads, whichever tests ran before it."""
    random.seed(0)
    backlit.manual_seed(0)
    monkeypatch.setattr("backlit.engines.threads._chosen", None)


@pytest.fixture(scope="session")
def torch() -> Any:
    """PyTorch on one thread. Only for tests with @pytest.mark.torch: its import is slow."""
    import torch as module

    module.set_num_threads(1)
    return module


class BrowserPage:
    """A page of an offline Chromium that remembers everything a report must not do.

    Attributes:
        page: playwright's synchronous Page, for locators, clicks, `evaluate` and screenshots.
        problems: console errors and warnings, uncaught exceptions, and every request but the one for the file itself.
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.problems: list[str] = []
        self._url = ""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.problems.append(f"uncaught exception: {error}"))
        page.on("request", self._on_request)

    def open(self, path: str | os.PathLike[str]) -> Any:
        """Load the HTML file at `path`, wait for its load event, and return playwright's Page."""
        self._url = Path(path).resolve().as_uri()
        self.page.goto(self._url, wait_until="load")
        return self.page

    def assert_clean(self) -> None:
        """Fail unless the console stayed silent and nothing but the file was asked for, data: URLs apart."""
        self.page.wait_for_timeout(50)  # ms: lets messages already on their way arrive
        assert self.problems == []

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console {message.type}: {message.text}")

    def _on_request(self, request: Any) -> None:
        if request.url.partition("#")[0] != self._url and not request.url.startswith("data:"):
            self.problems.append(f"request: {request.url}")


@pytest.fixture(scope="session")
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_chromium(),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def browser_page(_browser: Any) -> Iterator[BrowserPage]:
    """An offline page to open one HTML file in. Only for tests with @pytest.mark.browser.

    @pytest.mark.browser
    def test_report_stays_offline(browser_page, tmp_path):
        write_report(tmp_path / "report.html", ...)
        page = browser_page.open(tmp_path / "report.html")
        assert page.locator("h1").inner_text() == "..."
        page.emulate_media(color_scheme="dark")             # or "light"
        page.set_viewport_size({"width": 390, "height": 844})   # a phone
        browser_page.assert_clean()
    """
    context = _browser.new_context(offline=True)
    yield BrowserPage(context.new_page())
    context.close()
