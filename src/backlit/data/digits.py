"""The bundled data set: 1797 handwritten digits of 8x8 pixels, real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from backlit.data.npz import read_arrays
from backlit.data.split import Parts, split

DIGIT_NAMES = tuple("0123456789")
"""The names of the classes of `load_digits`, by label."""

_FILE = Path(__file__).with_name("digits.npz")
_WHITE = 16  # the largest pixel value in the file


def load_digits() -> Parts:
    """The bundled handwritten digits, split into training and test part.

    The test part is every fifth image of each class, in file order; so it is the same everywhere, and no
    class is missing. Both parts come from the same 13 writers: the test accuracy says how well other digits
    by these hands are read, and not how well a stranger's are.

    Returns:
        (x_train, y_train), (x_test, y_test): x float32 (N, 1, 8, 8) from 0 (paper) to 1 (ink), y int64 (N,)
        from 0 to 9; 1442 images to train on and 355 to test with.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998, https://doi.org/10.24432/C50P49, its test set; licence CC BY 4.0.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = load_digits()
        >>> x_train.shape, y_train[:5]
        ((1442, 1, 8, 8), array([0, 1, 2, 3, 4]))
    """
    arrays = read_arrays(_FILE, {"images": np.dtype(np.float32), "labels": np.dtype(np.int64)})
    x = arrays["images"][:, None].astype(np.float32) / _WHITE  # (1797, 1, 8, 8)
    return split(x, arrays["labels"].astype(np.int64))
