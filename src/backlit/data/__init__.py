"""Data sets as arrays: the bundled digits, files of standard formats, and the split for a test."""

from backlit.data.digits import DIGIT_NAMES, load_digits
from backlit.data.npz import load_npz
from backlit.data.split import Parts, split

__all__ = ["DIGIT_NAMES", "Parts", "load_digits", "load_npz", "split"]
