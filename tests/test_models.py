"""The networks: shapes, sizes, names, training on the digits, and building from a file without trusting it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backlit as bl
from backlit import data, models, nn, optim
from backlit.models.registry import smallest_image
from backlit.nn import storage
from backlit.ops import random


def images(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_lenet_has_the_shapes_of_the_paper() -> None:
    shapes = {name: array.shape for name, array in models.LeNet5().state_dict().items()}
    assert shapes == {
        "conv1.weight": (6, 1, 5, 5),
        "conv1.bias": (6,),
        "conv2.weight": (16, 6, 5, 5),
        "conv2.bias": (16,),
        "linear1.weight": (120, 400),
        "linear1.bias": (120,),
        "linear2.weight": (84, 120),
        "linear2.bias": (84,),
        "classifier.weight": (10, 84),
        "classifier.bias": (10,),
    }


SIZES = [("lenet5", 28), ("lenet5", 12), ("lenet5", 13), ("lenet5", 32), ("lenet5", (12, 40))]
SIZES += [("digits", 8), ("digits", 4), ("digits", 7), ("digits", 28), ("digits", (5, 16))]


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_model_takes_the_images_it_was_made_for(name: str, size: Any) -> None:
    height, width = size if isinstance(size, tuple) else (size, size)
    model = models.create(name, classes=3, in_channels=2, image_size=size)
    logits = model(images(5, 2, height, width))
    assert logits.shape == (5, 3)
    nn.CrossEntropyLoss()(logits, [0, 1, 2, 0, 1]).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", models.names())
def test_model_uses_every_layer_once_in_the_order_it_is_written(name: str) -> None:
    model, called = models.create(name), []
    for layer, module in model.named_children():
        module.register_forward_hook(lambda _module, _inputs, _output, layer=layer: called.append(layer))
    size = model.config["arguments"]["image_size"]
    model(images(2, 1, *size))
    assert called == [layer for layer, _ in model.named_children()]


@pytest.mark.parametrize("name", models.names())
def test_model_config_makes_the_same_model(name: str) -> None:
    model = models.create(name, classes=7, in_channels=3, image_size=(16, 20))
    config = json.loads(json.dumps(model.config))
    twin = models.create(config["name"], **config["arguments"])
    assert {n: a.shape for n, a in twin.state_dict().items()} == {
        n: a.shape for n, a in model.state_dict().items()
    }
    assert twin.config == model.config


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "lenet too small": (
        lambda: models.LeNet5(image_size=8),
        ValueError,
        "image_size is 8x8, and LeNet5 needs at least 12x12",
    ),
    "digits too small": (lambda: models.DigitsNet(image_size=(3, 8)), ValueError, "at least 4x4"),
    "one class": (lambda: models.LeNet5(classes=1), ValueError, "classes is 1"),
    "no channel": (lambda: models.LeNet5(in_channels=0), ValueError, "in_channels is 0"),
    "size a float": (lambda: models.LeNet5(image_size=28.0), TypeError, "image_size is 28.0"),
    "three sizes": (lambda: models.LeNet5(image_size=(28, 28, 28)), ValueError, "image_size is"),
    "unknown name": (
        lambda: models.create("resnet"),
        ValueError,
        "name is 'resnet', and the networks are 'digits', 'lenet5'",
    ),
    "name no text": (lambda: models.create(5), ValueError, "name is 5"),
    "unknown argument": (
        lambda: models.create("lenet5", depth=3),
        TypeError,
        "lenet5 has no argument 'depth': it takes classes, in_channels, image_size",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_model_refuses_with_a_sentence(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()


# --- from files


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_load_model_builds_what_was_saved(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "m.safetensors"
    model = models.DigitsNet(classes=4, in_channels=3, image_size=(8, 12)).astype(dtype)
    bl.save(model, path)
    loaded = models.load_model(path)
    x = images(2, 3, 8, 12).astype(dtype)
    assert isinstance(loaded, models.DigitsNet)
    assert not loaded.training
    np.testing.assert_array_equal(loaded(x).numpy(), model.eval()(x).numpy())


def test_load_model_of_a_model_of_ones_own_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    bl.save(nn.Linear(3, 2), path)
    with pytest.raises(
        ValueError, match=r"does not say which network it holds: .*backlit.load\(model, path\)"
    ):
        models.load_model(path)


def lying(path: Path, config: Any) -> None:
    """A sound file of a DigitsNet whose metadata holds this config."""
    text = config if isinstance(config, str) else json.dumps(config)
    storage.write_tensors(path, models.DigitsNet().state_dict(), {"format": "backlit", "config": text})


def lie(name: Any = "digits", **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


LIES = {
    "unknown network": (lie("os.system"), "cannot be made here: name is 'os.system'"),
    "unknown argument": (lie(__class__="x"), "has no argument '__class__'"),
    "self": (lie(self=1), "has no argument 'self'"),
    "another network": (lie("lenet5"), r"\(it holds the model 'lenet5'\) does not fit LeNet5"),
    "other sizes": (
        lie(classes=11),
        r"'classifier.weight' has shape \(10, 128\) where the model has \(11, 128\)",
    ),
    "classes beyond memory": (
        lie(classes=10**12),
        "its argument 'classes' is 1000000000000, and its arrays hold",
    ),
    "size beyond memory": (lie(image_size=[8, 10**9]), "its argument 'image_size'"),
    "size nan": (lie(classes=float("nan")), "its argument 'classes'"),
    "text": (lie(classes="10"), "classes is '10'"),
    "nested": (lie(image_size=[[8], 8]), "image_size"),
    "bool": (lie(classes=True), "classes is True"),
    "no name": ({"arguments": {}}, "does not say which network"),
    "no arguments": ({"name": "digits"}, "does not say which network"),
    "name a list": (lie(["digits"]), "does not say which network"),
    "no json": ("{", "does not say which network"),
    "no object": ("[1]", "does not say which network"),
    "nested beyond the stack": ("[" * 100_000, "does not say which network"),
}


@pytest.mark.parametrize("case", LIES)
def test_load_model_refuses_a_file_that_lies(tmp_path: Path, case: str) -> None:
    config, message = LIES[case]
    lying(tmp_path / "m.safetensors", config)
    with pytest.raises(ValueError, match=rf"^file '.*m\.safetensors'.*{message}"):
        models.load_model(tmp_path / "m.safetensors")


def test_load_model_of_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        models.load_model(tmp_path / "no.safetensors")


# --- training


def test_digits_net_learns_the_digits() -> None:
    """Four epochs; the 20 that training takes by default bring it to 99 percent."""
    (x, y), (x_test, y_test) = data.load_digits()
    rng = np.random.default_rng(0)
    with random.using(rng):
        model = models.DigitsNet()
        optimizer, loss = optim.Adam(model.parameters(), lr=2e-3), nn.CrossEntropyLoss()
        for _ in range(4):
            order = rng.permutation(len(x))
            for batch in np.array_split(order, len(x) // 32):
                optimizer.zero_grad()
                loss(model(x[batch]), y[batch]).backward()
                optimizer.step()
    with bl.no_grad():
        predicted = model.eval()(x_test).numpy().argmax(axis=1)
    assert (predicted == y_test).mean() > 0.97


@pytest.mark.parametrize("name", models.names())
def test_smallest_image_is_the_smallest_that_a_model_takes(name: str) -> None:
    smallest = smallest_image(name)
    assert models.create(name, image_size=smallest)(
        np.zeros((1, 1, smallest, smallest), np.float32)
    ).shape == (1, 10)
    with pytest.raises(ValueError, match=f"needs at least {smallest}x{smallest} pixels"):
        models.create(name, image_size=smallest - 1)
