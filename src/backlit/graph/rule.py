"""What a row of the table of rules holds, all of it plain data, and how the backward in it is called."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import compress
from typing import Any, NamedTuple

from backlit.ops.arrays import Array

Gradients = tuple[Array | None, ...]
Needs = tuple[bool, ...]


class Rule(NamedTuple):
    """One row: an operation, its pair, and its mathematics as text, for the default attributes.

    Attributes:
        name: what `apply` is called with.
        inputs: the names of the inputs in the texts; y is the output, and the gradient of x is dx.
        forward: (*arrays, **attributes) -> (out, cache).
        backward: the pair's own, (dy, cache) -> the gradient, or a tuple of one per input; `gradients` calls it.
        formula: the output.
        local: for each input its gradient, given dy.
        partial: for each input one element of the local gradient, the Jacobian.
        views: whether a gradient may be dout itself or share its memory.
        broadcasts: whether inputs are broadcast, and their gradients summed where they were repeated.
        selects: the gradients' names, where backward can leave some out by its keyword `needs`.
    """

    name: str
    inputs: tuple[str, ...]
    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Any]
    formula: str
    local: tuple[str, ...]
    partial: tuple[str, ...]
    views: bool = False
    broadcasts: bool = False
    selects: tuple[str, ...] = ()

    def gradients(self, dy: Array, cache: Any, needs: Needs) -> Gradients:
        """Call the pair's backward: a gradient for each input, which may be None where not needed.

        Args:
            dy: the upstream gradient, of the output's shape. cache: what `forward` returned beside the output.
            needs: for each input whether its gradient is needed.
        """
        if self.selects:
            selected: Gradients = self.backward(dy, cache, needs=tuple(compress(self.selects, needs)))
            return selected
        result = self.backward(dy, cache)
        return (result,) if len(self.inputs) == 1 else result


def rename(text: str, names: Mapping[str, str | None]) -> str:
    """A rule's text with its letters replaced by names; dx becomes d followed by the name of x.

    An input that was left out, whose name is None, takes the term or factor that it stood in along.

    Example:
        >>> rename("da = dy * b", {"y": "loss", "a": "x", "b": "w"})
        'dx = dloss * w'
        >>> rename("y = x @ w.T + b", {"b": None})
        'y = x @ w.T'
    """
    words: dict[str, str] = {}
    for letter, name in names.items():
        if name is None:
            text = text.replace(f" + {letter}", "").replace(f"{letter} * ", "")
        else:
            words |= {letter: name, f"d{letter}": f"d{name}"}
    return re.sub(r"[^\W\d_]\w*", lambda found: words.get(found[0], found[0]), text)
