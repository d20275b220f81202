"""The article's convolution, mended, beside backlit's: its equations in numbers, the same results, the time of both.

"Back Propagation in Convolutional Neural Networks: Intuition and Code" (2017) works out a 3x3 input under a 2x2
kernel, one channel, stride 1. docs/article.md says what it leaves out. Run from the repository's root:

    python examples/article.py
"""

from collections.abc import Callable, Iterable
from functools import partial
from timeit import repeat
from typing import Any

import numpy as np

import backlit as bl
from backlit import incidence

Array = np.ndarray[Any, Any]


def conv_forward(X: Array, W: Array) -> tuple[Array, tuple[Array, Array]]:
    """H[h, w] = the sum of the products of W with the window of X whose corner is (h, w)."""
    rows, columns = W.shape
    H = np.zeros((X.shape[0] - rows + 1, X.shape[1] - columns + 1))
    for h, w in np.ndindex(H.shape):
        H[h, w] = np.sum(X[h : h + rows, w : w + columns] * W)
    return H, (X, W)


def conv_backward(dH: Array, cache: tuple[Array, Array]) -> tuple[Array, Array]:
    """Every output sends its gradient back along the products that it is the sum of: to its window and to W."""
    X, W = cache
    rows, columns = W.shape
    dX, dW = np.zeros(X.shape), np.zeros(W.shape)
    for h, w in np.ndindex(dH.shape):
        window = np.s_[h : h + rows, w : w + columns]
        dX[window] += dH[h, w] * W  # += because windows overlap; [h, w] where the article calls: dH(h,w)
        dW += dH[h, w] * X[window]
    return dX, dW


def equation(name: str, terms: Iterable[incidence.Term], arrays: dict[str, Array]) -> str:
    """One element as the sum of its products: by name, in numbers, and what they come to."""
    words, numbers, total = [], [], 0.0
    for term in terms:
        indices = {
            "W": term.weight[2:],
            "X": term.input[2:],
            "dH": term.output[2:],
        }  # without batch and channel
        words.append(
            "*".join(f"{letter}{indices[letter][0] + 1}{indices[letter][1] + 1}" for letter in arrays)
        )
        values = [array[indices[letter]] for letter, array in arrays.items()]
        numbers.append("*".join(f"{value:g}" if value >= 0 else f"({value:g})" for value in values))
        total += values[0] * values[1]
    return f"  {name} = {' + '.join(words)} = {' + '.join(numbers)} = {total:g}"


def both(forward: Callable[..., Any], backward: Callable[..., Any], X: Array, W: Array) -> None:
    """One forward pass, and the backward pass of what it gives."""
    H, cache = forward(X, W)
    backward(H, cache)


def main() -> None:
    X = np.arange(1.0, 10.0).reshape(3, 3)
    W = np.array([[1.0, 2.0], [3.0, 4.0]])
    dH = np.array([[1.0, -1.0], [2.0, 3.0]])  # what the layers behind this one send back

    # No equation is written out here: backlit's one relation tells which products make up any element of the three.
    g = bl.ConvGeometry.from_shapes(X.shape, W.shape)
    print("Forward: an output is a window of X times W")
    for h, w in np.ndindex(2, 2):
        print(equation(f"H{h + 1}{w + 1}", incidence.terms_of_output(g, (0, 0, h, w)), {"W": W, "X": X}))
    print("\nBackward to the weights: all that a weight was multiplied with, times what comes back")
    for h, w in np.ndindex(2, 2):
        print(equation(f"dW{h + 1}{w + 1}", incidence.terms_of_weight(g, (0, 0, h, w)), {"X": X, "dH": dH}))
    print("\nBackward to the input: the weights that an input was multiplied with, times what comes back")
    for h, w in np.ndindex(3, 3):
        print(equation(f"dX{h + 1}{w + 1}", incidence.terms_of_input(g, (0, 0, h, w)), {"W": W, "dH": dH}))

    H, article_cache = conv_forward(X, W)
    dX, dW = conv_backward(dH, article_cache)
    y, cache = bl.conv_forward(X, W)
    dx, dw = bl.conv_backward(dH, cache)
    print("\nThe article's loops, mended, against bl.conv_forward and bl.conv_backward")
    for name, loops, pair in (("H", H, y), ("dX", dX, dx), ("dW", dW, dw)):
        print(f"  {name}: {'equal' if np.array_equal(loops, pair) else 'DIFFERENT'}")

    print("\nMicroseconds for a forward and a backward pass")
    for size, kernel, calls in ((3, 2, 200), (64, 5, 1)):
        X, W = np.ones((size, size)), np.ones((kernel, kernel))
        passes = ((conv_forward, conv_backward), (bl.conv_forward, bl.conv_backward))
        times = [
            min(repeat(partial(both, *pair, X, W), number=calls, repeat=5)) / calls * 1e6 for pair in passes
        ]
        print(f"  {size}x{size} under {kernel}x{kernel}: the loops {times[0]:,.0f}, backlit {times[1]:,.0f}")


if __name__ == "__main__":
    main()
