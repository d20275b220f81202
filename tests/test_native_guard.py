"""Guard pages: no pass reads a byte before or behind its arrays."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
import pytest

from processes import ALL, ISAS, LAYOUTS, PROBLEMS, Given, assert_same_bits, operands, results, run_python

pytestmark = pytest.mark.native

# 3x3 by both algorithms, 1x1 of few channels, and rows that are one element longer or shorter than vectors are.
MORE = (
    "conv2d:n1,c64-64,i8x8,k3x3,p1",
    "conv2d:n1,c16-16,i28x28,k1x1,s2",
    "conv2d:n2,c1-1,i31x33,k3x3",
    "conv2d:n1,c3-64,i19x17,k7x7,s2,p3",
    "conv2d:n1,c33-33,g33,i12x17,k5x5,s2,p2",
    "conv1d:n1,c1-15,i65,k2",
    "conv1d:n1,c65-1,i9,k9",
)


def guarded(array: Any, end: bool) -> Any:
    """A copy that ends, or begins, where memory that cannot be touched begins, or ends."""
    page = mmap.PAGESIZE
    inside = -(-array.nbytes // page) * page
    memory = mmap.mmap(-1, inside + 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for guard in (address, address + page + inside):
        assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    offset = page + (inside - array.nbytes if end else 0)
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy


def _guarded(given: Given, end: bool) -> Given:
    return {name: tuple(guarded(array, end) for array in inputs) for name, inputs in given.items()}


@pytest.mark.parametrize("end", [False, True], ids=["start", "end"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", [*ALL, *MORE])
def test_no_pass_reads_outside_its_arrays(text: str, layout: str, isa: str, dtype: str, end: bool) -> None:
    given = operands(text, layout, dtype)
    for algorithm in (None, "direct"):
        expected = results(text, layout, given, isa=isa, algorithm=algorithm)
        for threads in (1, 3):
            found = results(text, layout, _guarded(given, end), threads, isa, algorithm)
            assert_same_bits(found, expected)


@pytest.mark.parametrize("end", [False, True], ids=["start", "end"])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "text", ["conv2d:n1,c9-10,i5x6,k3x3", "conv2d:n2,c64-64,i14x14,k3x3,p1", PROBLEMS[1]]
)
def test_winograd_reads_nothing_outside_its_arrays(text: str, layout: str, isa: str, end: bool) -> None:
    given = operands(text, layout)
    expected = results(text, layout, given, isa=isa, algorithm="winograd")
    assert_same_bits(results(text, layout, _guarded(given, end), 3, isa, "winograd"), expected)


@pytest.mark.parametrize("end", [False, True], ids=["start", "end"])
def test_memory_next_to_a_guarded_array_cannot_be_read(end: bool) -> None:
    offset = "a.nbytes" if end else "-1"
    run_python(f"""
from test_native_guard import guarded
child = os.fork()
if child == 0:
    import ctypes
    a = guarded(np.ones(1000, np.float32), {end})
    assert a.sum() == 1000
    os.close(2)
    ctypes.string_at(a.ctypes.data + {offset}, 1)
    os._exit(0)
assert os.waitpid(child, 0)[1] != 0  # killed by the signal, or ended by a sanitizer that caught it
""")
