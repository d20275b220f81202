"""The digits and npz files: what comes out, the split, and files that are damaged, hostile or hold something else."""

from __future__ import annotations

import hashlib
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlit.data import DIGIT_NAMES, load_digits, load_npz, npz, split
from tolerance import assert_close

X = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 5), np.uint8)
Y = np.arange(20) % 4


# --- the digits


def test_digits_are_1797_images_in_two_parts() -> None:
    (x_train, y_train), (x_test, y_test) = load_digits()
    assert x_train.shape == (1442, 1, 8, 8)
    assert x_test.shape == (355, 1, 8, 8)
    assert (x_train.dtype, y_train.dtype) == (np.float32, np.int64)
    assert (len(y_train), len(y_test)) == (1442, 355)


def test_digits_go_from_zero_to_one_in_sixteenths() -> None:
    (x, _), _ = load_digits()
    assert (x.min(), x.max()) == (0, 1)
    np.testing.assert_array_equal(x * 16, np.round(x * 16))


def test_digits_have_every_class_in_both_parts_in_equal_shares() -> None:
    (_, y_train), (_, y_test) = load_digits()
    train, test = np.bincount(y_train), np.bincount(y_test)
    assert len(train) == len(test) == len(DIGIT_NAMES) == 10
    assert np.abs(test / (train + test) - 0.2).max() < 0.005  # less than one image of a class


def test_digits_first_image_is_the_zero_that_the_source_begins_with() -> None:
    (x, y), _ = load_digits()
    assert y[0] == 0
    assert (x[0, 0, 0] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


def test_digits_are_new_arrays_each_time() -> None:
    (x, _), _ = load_digits()
    x[...] = 9
    assert load_digits()[0][0].max() == 1


def test_digits_are_those_of_scikit_learn() -> None:
    """The sum is that of scikit-learn 1.9's load_digits: images, then target, both as bytes."""
    with np.load(Path(npz.__file__).with_name("digits.npz"), allow_pickle=False) as file:
        content = file["images"].tobytes() + file["labels"].tobytes()
    assert (
        hashlib.sha256(content).hexdigest()
        == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
    )


# --- the split


def test_split_takes_every_nth_of_each_class_in_order() -> None:
    y = np.array([7, 7, 3, 7, 3, 7, 3, 3])
    (x_train, y_train), (x_test, y_test) = split(np.arange(8), y, test_every=2)
    assert x_test.tolist() == [1, 4, 5, 7]  # the 2nd and 4th 7, the 2nd and 4th 3
    assert y_test.tolist() == [7, 3, 7, 3]
    assert x_train.tolist() == [0, 2, 3, 6]
    assert y_train.tolist() == [7, 3, 7, 3]


def test_split_by_zero_leaves_the_test_part_empty() -> None:
    (x, _), (x_test, y_test) = split(X, Y, test_every=0)
    assert len(x) == 20
    assert x_test.shape == (0, 3, 4, 5)
    assert y_test.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (X, Y[:-1]),
            ValueError,
            r"y has shape \(19,\), and one label for each of x's samples, \(20, 3, 4, 5\)",
        ),
        ((X, Y.astype(float)), TypeError, "y has dtype float64"),
        ((X, Y, 1), ValueError, "test_every is 1, which leaves nothing to train on"),
        ((X, Y, -1), ValueError, "test_every is -1"),
        ((X, Y, 2.0), TypeError, "test_every is 2.0"),
    ],
)
def test_split_refuses_with_a_sentence(arguments: Any, error: type[Exception], message: str) -> None:
    x, y, *every = arguments
    with pytest.raises(error, match=message):
        split(x, y, **({"test_every": every[0]} if every else {}))


# --- npz: what comes out


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "set.npz"
    np.savez(path, **arrays)
    return path


def test_npz_bytes_become_floats_from_zero_to_one(tmp_path: Path) -> None:
    (x, y), (empty, _) = load_npz(saved(tmp_path, x=X, y=Y), test_every=0)
    assert (x.dtype, y.dtype, len(empty)) == (np.float32, np.int64, 0)
    assert_close(x, X / 255, 1, X / 255)
    np.testing.assert_array_equal(y, Y)
    assert x.flags.c_contiguous


def test_npz_is_split_as_the_digits_are(tmp_path: Path) -> None:
    (x, y), (x_test, y_test) = load_npz(saved(tmp_path, x=X, y=Y))
    assert y_test.tolist() == [0, 1, 2, 3]
    assert_close(x_test, X[16:] / 255, 1, X[16:] / 255)
    assert (len(x), len(y)) == (16, 16)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4", ">f8"])
def test_npz_floats_are_taken_as_they_are(tmp_path: Path, kind: str) -> None:
    floats = np.random.default_rng(0).integers(-40, 40, (4, 3, 3)).astype(kind)
    (x, _), _ = load_npz(saved(tmp_path, x=floats, y=np.zeros(4, np.uint8)), test_every=0)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, floats[:, None].astype(np.float32))


def test_npz_gives_float64_when_asked(tmp_path: Path) -> None:
    (x, _), _ = load_npz(saved(tmp_path, x=X, y=Y), dtype=np.float64)
    assert x.dtype == np.float64


def test_npz_images_without_channels_get_one(tmp_path: Path) -> None:
    (x, _), _ = load_npz(saved(tmp_path, x=X[:, 0], y=Y), test_every=0)
    assert x.shape == (20, 1, 4, 5)


def test_npz_arrays_go_by_the_names_that_are_given(tmp_path: Path) -> None:
    (x, _), _ = load_npz(saved(tmp_path, images=X, targets=Y), "images", "targets", test_every=0)
    assert len(x) == 20


def test_npz_with_parts_of_its_own_keeps_them(tmp_path: Path) -> None:
    path = saved(tmp_path, x_train=X[:15], y_train=Y[:15], x_test=X[15:], y_test=Y[15:])
    (x, y), (x_test, y_test) = load_npz(path)
    assert (len(x), len(y), len(x_test)) == (15, 15, 5)
    assert y_test.tolist() == [3, 0, 1, 2, 3]


def test_npz_compressed_and_in_fortran_order_is_the_same(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.asfortranarray(X), y=Y.astype(">i2"))
    (x, y), _ = load_npz(tmp_path / "a.npz", test_every=0)
    assert_close(x, X / 255, 1, X / 255)
    np.testing.assert_array_equal(y, Y)


def test_npz_reads_no_array_that_was_not_asked_for(tmp_path: Path) -> None:
    objects = np.array([print], object)
    path = tmp_path / "a.npz"
    np.savez(path, x=X, y=Y, names=objects)
    assert len(load_npz(path, test_every=0)[0][0]) == 20


# --- npz: what is refused


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "images missing": ({"a": X, "y": Y}, r"lacks 'x': it has 'a', 'y'\.$"),
    "everything missing": ({}, "lacks 'x', 'y': it has no arrays"),
    "only the training part": ({"x_train": X, "y_train": Y}, "lacks 'x', 'y': it has 'x_train', 'y_train'"),
    "fewer labels": ({"x": X, "y": Y[:-1]}, "has 19 labels, and there are 20 images"),
    "no images": ({"x": X[:0], "y": Y[:0]}, r"shape \(0, 3, 4, 5\), and images"),
    "images of no size": ({"x": X[:, :, :0], "y": Y}, r"\(20, 3, 0, 5\), and images"),
    "flat images": ({"x": X.reshape(20, 60), "y": Y}, r"shape \(20, 60\), and images \(N, C, H, W\)"),
    "images with colours last": (
        {"x": np.zeros((20, 6, 5, 3), np.uint8), "y": Y},
        r"\(20, 6, 5, 3\), which looks like \(N, H, W, C\), .*save x.transpose\(0, 3, 1, 2\)",
    ),
    "images of integers": ({"x": X.astype(int), "y": Y}, r"holds int64, .*save x.astype\(np.uint8\)"),
    "images of bools": ({"x": X > 9, "y": Y}, "holds bool, and images are uint8"),
    "images of complex numbers": ({"x": X * 1j, "y": Y}, "array 'x' at byte 0: it holds complex128"),
    "images of texts": ({"x": np.full((20, 2, 2), "a"), "y": Y}, "it holds <U1, and numbers are needed"),
    "images of objects": ({"x": X.astype(object), "y": Y}, "array 'x' at byte 0: it holds Python objects"),
    "labels of objects": ({"x": X, "y": Y.astype(object)}, r"array 'y' at byte \d+: it holds Python objects"),
    "nan": ({"x": np.where(np.arange(20) == 7, np.nan, 1.0)[:, None, None], "y": Y}, "first in image 7"),
    "infinity": ({"x": np.full((20, 1, 1), np.inf), "y": Y}, "NaN, infinity or numbers beyond float32"),
    "beyond float32": ({"x": np.full((20, 1, 1), 1e300), "y": Y}, "numbers beyond float32, first in image 0"),
    "labels of floats": ({"x": X, "y": Y.astype(float)}, r"holds float64, .*save y.astype\(np.int64\)"),
    "labels negative": ({"x": X, "y": Y - 1}, "goes from -1 to 2"),
    "labels astronomical": ({"x": X, "y": np.full(20, 2**63, np.uint64)}, "to 9223372036854775808"),
    "labels one-hot": (
        {"x": X, "y": np.eye(4, dtype=int)[Y]},
        r"\(20, 4\), .*y.argmax\(axis=1\) turns one-hot",
    ),
    "labels in a column": ({"x": X, "y": Y[:, None]}, r"\(20, 1\), .*save y.ravel\(\)"),
    "parts of two sizes": (
        {"x_train": X, "y_train": Y, "x_test": X[:, :, :2], "y_test": Y},
        "x_train of shape .* and x_test of shape .* images of one size",
    ),
    "part without labels enough": (
        {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y[:3]},
        "'y_test' of file .* has 3 labels",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_npz_that_holds_something_else_is_refused(tmp_path: Path, case: str) -> None:
    arrays, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as caught:
        load_npz(saved(tmp_path, **arrays))
    assert "set.npz" in str(caught.value)


def test_npz_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"file '.*no.npz' does not exist"):
        load_npz(tmp_path / "no.npz")


def test_npz_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder, and an npz file is needed"):
        load_npz(tmp_path)


def test_npz_path_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="path is None"):
        load_npz(None)


def test_npz_dtype_of_integers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="dtype is int32"):
        load_npz(saved(tmp_path, x=X, y=Y), dtype=np.int32)


@pytest.mark.parametrize("content", [b"", b"PK", b"a letter, and no data set", b"\x93NUMPY\x01\x00"])
def test_npz_that_is_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.npz' of {len(content)} bytes is truncated or no npz file"):
        load_npz(tmp_path / "a.npz")


def test_npz_cut_anywhere_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", x=X[:2, :1], y=Y[:2])
    whole, cut = (tmp_path / "whole.npz").read_bytes(), tmp_path / "cut.npz"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"^file '.*cut\.npz'"):
            load_npz(cut)


@pytest.fixture(scope="module")
def whole() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x=X[:4], y=Y[:4])
    return file.getvalue()


@given(position=st.integers(0, 2**16), value=st.integers(0, 255))
def test_npz_with_one_byte_changed_is_right_or_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, position: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "a.npz"
    at = position % len(whole)
    path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
    try:
        (x, y), _ = load_npz(path, test_every=0)
    except ValueError as error:
        problem = str(error)
    else:
        assert_close(x, X[:4] / 255, 1, X[:4] / 255)  # a date or a comment, nothing more
        np.testing.assert_array_equal(y, Y[:4])
        return
    assert "a.npz" in problem


# --- npz: what claims to be more than it is


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def zipped(folder: Path, member: bytes, **options: Any) -> Path:
    path = folder / "claims.npz"
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("x.npy", member)
        labels = io.BytesIO()
        np.save(labels, Y)
        archive.writestr("y.npy", labels.getvalue())
    return path


def described(shape: str, descr: str = "'|u1'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


CLAIMS = {
    "more than there is": (npy(described("(20, 8, 8)"), bytes(9)), "1280 bytes, and 9 are there"),
    "less than there is": (npy(described("(20, 1, 1)"), bytes(99)), "20 bytes, and 99 are there"),
    "a product beyond 64 bits": (npy(described("(4294967296, 4294967296, 16)")), "and 0 are there"),
    "a size beyond memory": (npy(described("(1099511627776, 8, 8)")), "and 0 are there"),
    "a negative size": (npy(described("(-1, 8, 8)"), bytes(9)), "its header has the shape|shape"),
    "nothing, in vast axes": (npy(described("(0, 4611686018427387904, 8)")), ""),
    "objects": (npy(described("(20,)", "'|O'"), b"\x80\x04."), "it holds Python objects"),
    "objects within": (npy(described("(20,)", "[('a', '|O')]"), b"\x80\x04."), "it holds Python objects"),
    "a call": (npy(described("__import__('os').getpid()")), ""),
    "no dict": (npy("[]"), ""),
    "brackets that nothing closes": (npy("(" * 5000), "its header has 5001 bytes, and that of an array"),
    "brackets that fit the limit": (npy("(" * 4000), "header"),
    "deep nesting": (npy("(" * 1500 + ")" * 1500), "header"),
    "many signs": (npy("-" * 4000 + "1"), "header"),
    "a header beyond the file": (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{", "its header has 2147483647 bytes"),
    "no header": (b"not an array at all, but long enough to be taken for one", ""),
    "nothing at all": (b"", ""),
    "another version": (npy(described("(20, 8, 8)"), version=b"\x03\x00"), "version"),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_npz_that_claims_what_is_not_there_is_refused_before_memory_is_taken(
    tmp_path: Path, case: str
) -> None:
    member, message = CLAIMS[case]
    with pytest.raises(
        ValueError, match=rf"claims\.npz', array 'x' at byte 0: .*{message}|claims\.npz' has shape"
    ):
        load_npz(zipped(tmp_path, member))


def test_npz_bomb_in_the_header_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    header = b" " * 50_000_000
    member = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header
    path = zipped(tmp_path, member, compression=zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    with pytest.raises(ValueError, match="its header has 50000000 bytes"):
        load_npz(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("test_every", [0, 5])
def test_npz_takes_little_more_memory_than_its_result(tmp_path: Path, test_every: int) -> None:
    path = saved(tmp_path, x=np.zeros((4000, 1, 32, 32), np.uint8), y=np.arange(4000) % 4)
    tracemalloc.start()
    (x, _), (x_test, _) = load_npz(path, test_every=test_every)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.4 * (x.nbytes + x_test.nbytes)


def test_npz_limit_counts_what_becomes_of_the_bytes(tmp_path: Path) -> None:
    path = saved(tmp_path, x=X, y=Y.astype(np.uint8))
    result = 4 * X.size + 8 * len(Y)
    assert len(load_npz(path, max_bytes=result, test_every=0)[0][0]) == 20
    with pytest.raises(ValueError, match=r"array 'y' at byte \d+: it unfolds to 160 bytes, and 159 are"):
        load_npz(path, max_bytes=result - 1)
    with pytest.raises(ValueError, match=rf"array 'x' at byte 0: it unfolds to {8 * X.size} bytes"):
        load_npz(path, max_bytes=result, dtype=np.float64)


def test_npz_path_with_a_nul_character_is_refused() -> None:
    with pytest.raises(ValueError, match=r"path is 'a\\x00b', and a path holds no NUL character"):
        load_npz("a\0b")


def test_npz_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "_ROOM", 1000)
    images = np.zeros((20, 200, 200), np.uint8)  # 800 000 bytes that deflate makes 1000 times smaller
    member = io.BytesIO()
    np.save(member, images)
    path = zipped(tmp_path, member.getvalue(), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"it unfolds to 3200000 bytes, and \d+ are allowed .* max_bytes"):
        load_npz(path)
    assert len(load_npz(path, max_bytes=4 * 10**6, test_every=0)[0][0]) == 20


def test_npz_max_bytes_holds_for_all_arrays_together(tmp_path: Path) -> None:
    path = saved(tmp_path, x=X, y=Y)
    with pytest.raises(
        ValueError, match=r"array 'y' at byte \d+: it unfolds to 160 bytes, and 100 are allowed"
    ):
        load_npz(path, max_bytes=4 * X.size + 100)


def test_npz_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, x=X, y=Y)
    content = bytearray(path.read_bytes())
    content[400] ^= 1  # within the pixels
    path.write_bytes(content)
    with pytest.raises(ValueError, match="array 'x' at byte 0: Bad CRC-32"):
        load_npz(path)
