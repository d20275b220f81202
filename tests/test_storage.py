"""Model files: back the same, readable elsewhere, and damaged in every way without harm to the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import backlit as bl
from backlit import models, nn
from backlit.nn import storage


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file of this header, whatever it says; a str is written as it is."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(start: Any, end: Any, shape: Any = (1,), dtype: str = "F32") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": list(shape) if isinstance(shape, tuple) else shape,
        "data_offsets": [start, end],
    }


# --- back the same


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_model_comes_back_the_same_bits(tmp_path: Path, dtype: str) -> None:
    source, target = net().astype(dtype), net().astype(dtype)
    source[1].num_batches_tracked[...] = 5
    source[0].weight.data[0, 0, 0] = [np.nan, np.inf, -0.0]
    bl.save(source, tmp_path / "m.safetensors")
    bl.load(target, str(tmp_path / "m.safetensors"))
    for name, array in source.state_dict().items():
        loaded = target.state_dict()[name]
        assert (loaded.dtype, loaded.tobytes()) == (array.dtype, array.tobytes())


def test_model_can_be_trained_on_after_loading(tmp_path: Path) -> None:
    bl.save(net(), tmp_path / "m.safetensors")
    model = net()
    bl.load(model, tmp_path / "m.safetensors")
    model(np.ones((2, 1, 4, 4), np.float32)).sum().backward()
    bl.optim.SGD(model.parameters(), lr=0.1).step()


def test_model_without_state_has_a_file(tmp_path: Path) -> None:
    bl.save(nn.ReLU(), tmp_path / "m.safetensors")
    bl.load(nn.ReLU(), tmp_path / "m.safetensors")


def test_file_is_read_by_the_formats_own_library(tmp_path: Path) -> None:
    model = net()
    bl.save(model, tmp_path / "m.safetensors")
    arrays = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    assert set(arrays) == set(model.state_dict())
    np.testing.assert_array_equal(arrays["0.weight"], model[0].weight.data)
    with safetensors.safe_open(tmp_path / "m.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "backlit"}


@pytest.mark.torch
def test_file_goes_to_and_comes_from_pytorch(torch: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    ours, theirs = net(), torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    bl.save(ours, tmp_path / "ours.safetensors")
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"))
    with torch.no_grad():
        theirs[0].bias.fill_(3)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    bl.load(ours, tmp_path / "theirs.safetensors")
    assert ours[0].bias.data.tolist() == [3, 3]


def test_metadata_says_which_model_it_is(tmp_path: Path) -> None:
    bl.save(models.LeNet5(classes=3), tmp_path / "m.safetensors")
    metadata = storage.read_metadata(tmp_path / "m.safetensors")
    assert metadata["format"] == "backlit"
    assert json.loads(metadata["config"]) == {
        "name": "lenet5",
        "arguments": {"classes": 3, "in_channels": 1, "image_size": [28, 28]},
    }


def test_tensors_of_any_kind_come_back(tmp_path: Path) -> None:
    arrays = {
        "matrix": np.arange(6.0).reshape(2, 3).T,
        "swapped": np.arange(3, dtype=">i4"),
        "flags": np.array([True, False]),
        "number": np.array(7, np.uint8),
        "nothing": np.zeros((0, 4), np.float32),
        "ünïcode": np.ones(1),
    }
    storage.write_tensors(tmp_path / "t", arrays, {"note": "ü\n"})
    back, metadata = storage.read_tensors(tmp_path / "t")
    assert metadata == {"note": "ü\n"}
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].flags.writeable


# --- what is refused, and leaves everything as it was


def test_save_refuses_what_is_no_module(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"model is 3, and an nn\.Module is needed"):
        bl.save(3, tmp_path / "m")
    with pytest.raises(TypeError, match=r"an nn\.Module is needed"):
        bl.load({}, tmp_path / "m")


@pytest.mark.parametrize("config", [{"name": "a"}, {"name": "a", "arguments": {"f": print}}, 3])
def test_save_refuses_a_config_that_json_cannot_hold_and_keeps_the_old_file(
    tmp_path: Path, config: Any
) -> None:
    model, path = net(), tmp_path / "m.safetensors"
    bl.save(model, path)
    before = path.read_bytes()
    model.config = config
    with pytest.raises(ValueError, match=r"model\.config is"):
        bl.save(model, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_into_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="a folder that does not exist"):
        bl.save(net(), tmp_path / "no" / "m.safetensors")


def test_load_of_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"file '.*no.safetensors' does not exist"):
        bl.load(net(), tmp_path / "no.safetensors")


def test_load_of_a_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"):
        bl.load(net(), tmp_path)


@pytest.mark.parametrize("use", [bl.load, bl.save])
@pytest.mark.parametrize("path", [3, b"x", None])
def test_what_is_no_path_is_refused_by_name(use: Any, path: Any) -> None:
    with pytest.raises(TypeError, match=f"path is {path!r}, and a path is needed"):
        use(net(), path)


@pytest.mark.parametrize("use", [bl.load, bl.save])
def test_path_with_a_nul_character_is_refused_by_name(use: Any) -> None:
    with pytest.raises(ValueError, match=r"path is 'a\\x00b', and a path holds no NUL character"):
        use(net(), "a\0b")


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F8_E5M2"])
def test_load_of_a_foreign_precision_names_the_tensor(tmp_path: Path, dtype: str) -> None:
    size = 1 if dtype.startswith("F8") else 2
    content = file_of({"0.bias": entry(0, size, dtype=dtype)}, bytes(size))
    refused(tmp_path, content, f"holds tensor '0.bias' as {dtype}, and F32, F64, integers and BOOL are")


def refused(tmp_path: Path, content: bytes, message: str = "") -> None:
    """Loading a file of this content is a ValueError that names the file, and leaves the model as it was."""
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    model = net()
    before = model.state_dict()
    with pytest.raises(ValueError, match=rf"^file '.*damaged\.safetensors'.*{message}"):
        bl.load(model, path)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "m.safetensors"
    bl.save(net(), path)
    return path.read_bytes()


def test_load_refuses_a_file_cut_anywhere(tmp_path: Path, sound: bytes) -> None:
    for size in range(len(sound)):
        refused(tmp_path, sound[:size], "truncated|no safetensors file")


def test_load_refuses_a_file_with_bytes_that_belong_to_nothing(tmp_path: Path, sound: bytes) -> None:
    refused(
        tmp_path,
        sound + b"\0",
        rf"its header describes {len(sound)} bytes, and the file has {len(sound) + 1}",
    )


DAMAGED = {
    "empty": (b"", "of 0 bytes is no safetensors file"),
    "text": (b"this is not a model, it is a letter", "no safetensors file"),
    "zip": (b"PK\x03\x04" + bytes(100), "no safetensors file"),
    "pickle": (b"\x80\x04\x95" + bytes(100), "no safetensors file"),
    "header longer than the file": (file_of({}, length=10_000), "truncated: its header takes 10000 bytes"),
    "header beyond the limit": (file_of({}, length=2**63), "no safetensors file"),
    "header no json": (file_of("{'a': 1}"), "from byte 8 on, is damaged"),
    "header cut in a text": (file_of('{"a'), "is damaged"),
    "header nested": (file_of('{"a":' * 50_000 + "1" + "}" * 50_000), "is damaged"),
    "header no object": (file_of("[1, 2]"), "no safetensors file"),
    "entry no object": (file_of({"a": 1}), "is damaged"),
    "entry without offsets": (file_of({"a": {"dtype": "F32", "shape": [1]}}), "is damaged"),
    "name twice": (
        file_of(f'{{"a":{json.dumps(entry(0, 4))},"a":{json.dumps(entry(0, 4))}}}', bytes(4)),
        "stands twice",
    ),
    "metadata no texts": (file_of({"__metadata__": {"format": 1}}), "is damaged"),
    "offsets beyond the file": (file_of({"a": entry(0, 4)}, b""), "truncated: its header describes"),
    "offsets astronomical": (file_of({"a": entry(0, 10**30)}), "truncated"),
    "offsets infinite": (
        file_of('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e999]}}'),
        "damaged",
    ),
    "offsets negative": (file_of({"a": entry(-4, 0)}), "no sound safetensors file"),
    "offsets of texts": (file_of({"a": entry("0", "4")}, bytes(4)), "no sound safetensors file"),
    "overlap": (file_of({"a": entry(0, 4), "b": entry(0, 4)}, bytes(4)), "no sound safetensors file"),
    "hole": (file_of({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)), "no sound safetensors file"),
    "shape larger than the data": (file_of({"a": entry(0, 4, (2,))}, bytes(4)), "no sound safetensors file"),
    "shape that wraps 64 bits": (
        file_of({"a": entry(0, 4, (2**62, 4, 4))}, bytes(4)),
        "no sound safetensors file",
    ),
    "shape no list": (file_of({"a": entry(0, 4, 1)}, bytes(4)), "no sound safetensors file"),
    "dtype unknown": (file_of({"a": entry(0, 4, dtype="Q7")}, bytes(4)), "no sound safetensors file"),
    "dtype that numpy lacks": (file_of({"a": entry(0, 1, dtype="F8_E5M2")}, bytes(1)), ""),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_load_refuses_a_damaged_file(tmp_path: Path, case: str) -> None:
    content, message = DAMAGED[case]
    refused(tmp_path, content, message)


@given(position=st.integers(0, 2**16), value=st.integers(0, 255))
def test_load_of_a_file_with_one_byte_changed_is_right_or_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, sound: bytes, position: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "m.safetensors"
    at = position % len(sound)
    path.write_bytes(sound[:at] + bytes([value]) + sound[at + 1 :])
    model = net()
    before = model.state_dict()
    try:
        bl.load(model, path)
    except ValueError as error:
        problem = str(error)
    else:
        return
    assert "m.safetensors" in problem
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_load_of_another_architecture_tells_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    bl.save(models.LeNet5(), path)
    with pytest.raises(
        ValueError, match=r"\(it holds the model 'lenet5'\) does not fit DigitsNet: missing 'bn1"
    ):
        bl.load(models.DigitsNet(), path)


def test_load_of_another_size_tells_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    bl.save(nn.Linear(3, 2), path)
    with pytest.raises(ValueError, match=r"'weight' has shape \(2, 3\) where the model has \(2, 4\)"):
        bl.load(nn.Linear(4, 2), path)


def test_load_of_another_precision_tells_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    bl.save(nn.Linear(3, 2).double(), path)
    with pytest.raises(ValueError, match=r"model.astype\(np.float64\)"):
        bl.load(nn.Linear(3, 2), path)
