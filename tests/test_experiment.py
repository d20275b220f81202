"""What an experiment says about itself before it trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backlit import engines, nn
from backlit.experiment import _engine
from backlit.geometry import ConvGeometry

IMAGES = np.zeros((5, 4, 9, 8), np.float32)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[ConvGeometry]:
    """The convolutions whose engine is asked for."""
    seen: list[ConvGeometry] = []
    explain = engines.explain_choice

    def noting(geometry: Any, *arguments: Any) -> Any:
        seen.append(ConvGeometry.parse(str(geometry)))
        return explain(geometry, *arguments)

    monkeypatch.setattr(engines, "explain_choice", noting)
    return seen


def test_engine_is_asked_for_with_every_setting_of_the_convolution(asked: list[ConvGeometry]) -> None:
    convolution = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=((1, 0), (2, 2)), dilation=(1, 3), groups=2)
    assert _engine(nn.Sequential(convolution), IMAGES) == engines.names()[0]
    assert asked == [ConvGeometry(5, 4, 6, (9, 8), (3, 2), (2, 1), ((1, 0), (2, 2)), (1, 3), groups=2)]


def test_engine_is_asked_for_with_the_input_that_reaches_the_convolution(asked: list[ConvGeometry]) -> None:
    _engine(nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 7, 1)), IMAGES)
    assert asked == [ConvGeometry(5, 4, 6, (4, 4), (3, 3))]


def test_engine_is_that_of_the_convolution_computed_first(asked: list[ConvGeometry]) -> None:
    class Crossed(nn.Module):
        def __init__(self) -> None:
            self.later, self.sooner = nn.Conv2d(6, 7, 1), nn.Conv2d(4, 6, 1, padding="same")

        def forward(self, x: Any) -> Any:
            return self.later(self.sooner(x))

    _engine(Crossed(), IMAGES)
    assert asked == [ConvGeometry(5, 4, 6, (9, 8), (1, 1))]


def test_engine_of_a_network_without_convolutions_is_none() -> None:
    assert _engine(nn.Sequential(nn.Flatten(), nn.Linear(288, 2)), IMAGES) == "none"


def test_asking_for_the_engine_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6))
    before = network.state_dict()
    _engine(network, IMAGES)
    np.testing.assert_equal(network.state_dict(), before)
    assert [module.training for module in network.modules()] == [True, True, True]
    assert not any(module._hooks for module in network.modules())
