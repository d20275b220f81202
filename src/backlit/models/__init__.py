"""Standard networks by name, made new or read from a file that says which it holds."""

from backlit.models.digitsnet import DigitsNet
from backlit.models.lenet import LeNet5
from backlit.models.registry import create, load_model, names

__all__ = ["DigitsNet", "LeNet5", "create", "load_model", "names"]
