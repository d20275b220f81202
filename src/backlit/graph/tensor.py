"""Tensor, an array that remembers how it was computed, and apply, which every operation goes through."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Self, TypeAlias, cast

import numpy as np

from backlit.graph.in_place import InPlace
from backlit.graph.literals import PLAIN, as_numbers, as_sizes, from_python
from backlit.graph.mode import is_grad_enabled
from backlit.graph.node import Node, defaults
from backlit.graph.reductions import Axis
from backlit.graph.rule import Rule
from backlit.graph.rules import RULES
from backlit.graph.sweep import accumulate, sweep, upstream_of
from backlit.ops.arguments import as_flag
from backlit.ops.arrays import Array, as_array


class Tensor(InPlace):
    """A float32 or float64 array with the operators of one, and with a gradient.

    Operations on tensors are recorded when one of them requires a gradient; `backward` then applies the chain
    rule, d loss / d input = d loss / d output * d output / d input, from the loss back to every leaf.

    Indices follow NumPy, also where its result has another shape than PyTorch's: in x[0, :, [1, 1]] the integer
    counts as an array that the slice separates from the other, so that the axis of the two comes first.

    Attributes:
        data: the array. It is shared with the array that the tensor was made from.
        grad: what the backward passes so far have added up, an array of the same shape and dtype, or None.
        requires_grad: whether operations on this tensor are recorded.
        node: the operation that computed it, or None for a leaf.
        name: how `backlit.explain.chain_rule` labels it, or None.

    Args:
        data: a NumPy array of float32 or float64, anything that exports one, lists of floats, or a float.
        requires_grad: whether the tensor is an input that gradients are wanted for.
        name: see above.

    Raises:
        TypeError: the data is not float32 or float64.

    Example:
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> loss = (x ** 2).sum()
        >>> loss.backward()
        >>> x.grad
        array([2., 4.])
    """

    __slots__ = ("__weakref__", "data", "grad", "name", "node", "requires_grad")

    __array_ufunc__ = None  # array + tensor asks the tensor, whose answer is a tensor
    __array_priority__ = 1000.0

    data: Array
    grad: Array | None
    requires_grad: bool
    node: Node | None
    name: str | None

    def __init__(self, data: Any, requires_grad: bool = False, *, name: str | None = None) -> None:
        if not hasattr(data, "dtype") and not isinstance(data, Tensor):
            data = from_python(data)
        self.data = as_array("data", data)
        self.grad = None
        self.requires_grad = as_flag("requires_grad", requires_grad)
        self.node = None
        self.name = name

    # --- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.data.size

    @property
    def T(self) -> Tensor:  # noqa: N802  (NumPy's name)
        """The tensor with its axes in reverse order."""
        return apply("transpose", self)

    def numpy(self) -> Array:
        """The array itself, not a copy."""
        return self.data

    def item(self) -> float:
        """The one element as a Python float.

        Raises:
            ValueError: there are more or none.
        """
        if self.data.size != 1:
            raise ValueError(
                f"item() needs a single element, and this tensor has shape {self.shape}: index it."
            )
        return float(self.data.reshape(()))

    def detach(self) -> Tensor:
        """A leaf over the same array that requires no gradient."""
        return _constant(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.requires_grad:
            raise TypeError("as an array it would lose its gradient: write t.numpy() to say so")
        return np.array(self.data, dtype, copy=copy)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A leaf with arrays of its own; with an operation its whole graph would have to follow."""
        if self.node is not None:
            raise ValueError("a computed tensor has no deep copy: copy its values, deepcopy(t.detach()).")
        clone = memo[id(self)] = type(self).__new__(type(self))
        for state in cast("tuple[dict[str, Any] | None, ...]", self.__getstate__()):  # __dict__, slots
            for name, value in (state or {}).items():
                setattr(clone, name, deepcopy(value, memo))
        return clone

    def __len__(self) -> int:
        if not self.data.ndim:
            raise TypeError("len() of a tensor without axes: a single number has no length.")
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.data.ndim:
            raise TypeError("a tensor without axes is a single number, with nothing to iterate over.")
        return (self[i] for i in range(len(self.data)))

    def __float__(self) -> float:
        return self.item()

    def __bool__(self) -> bool:
        return bool(self.data)

    def __repr__(self) -> str:
        body = np.array2string(self.data, separator=", ", prefix="Tensor(", threshold=100)
        extras = [
            *([] if self.data.dtype == np.float64 else [f"dtype={self.data.dtype}"]),
            *([] if self.data.size else [f"shape={self.data.shape}"]),
            *([f"name={self.name!r}"] if self.name is not None else []),
            *([f"rule={self.node.rule.name}"] if self.node is not None else []),
            *(["requires_grad=True"] if self.requires_grad and self.node is None else []),
        ]
        return f"Tensor({', '.join([body, *extras])})"

    # --- gradients

    def backward(self, gradient: Any = None, *, retain: bool = False) -> None:
        """Add to .grad of every leaf the gradient of this tensor with respect to it.

        The walk goes through the operations in reverse order of their creation, and lets each go once it is
        done. Arrays changed in place between an operation and its backward give wrong gradients: the pairs'
        caches refer to them.

        Args:
            gradient: the upstream gradient, of this tensor's shape and dtype; may be left out for a single
                number, whose own gradient is 1.
            retain: keep the graph, so that the backward can be repeated and explained, and add to .grad of
                every intermediate tensor as well.

        Raises:
            ValueError: nothing behind this tensor requires a gradient, the graph was freed by an earlier
                backward, or a gradient is needed or has another shape.

        Example:
            >>> x = Tensor([3.0, 4.0], requires_grad=True)
            >>> y = x * x
            >>> y.backward([1.0, 10.0], retain=True)
            >>> x.grad, y.grad
            (array([ 6., 80.]), array([ 1., 10.]))
        """
        retain = as_flag("retain", retain)
        accumulate(self, upstream_of(self, _bare(gradient)), retain=retain)

    def zero_grad(self) -> None:
        """Forget the gradient: .grad is None again."""
        self.grad = None

    # --- operators

    def __add__(self, other: Operand) -> Tensor:
        return apply("add", self, other)

    def __radd__(self, other: Operand) -> Tensor:
        return apply("add", other, self)

    def __sub__(self, other: Operand) -> Tensor:
        return apply("sub", self, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return apply("sub", other, self)

    def __mul__(self, other: Operand) -> Tensor:
        return apply("mul", self, other)

    def __rmul__(self, other: Operand) -> Tensor:
        return apply("mul", other, self)

    def __truediv__(self, other: Operand) -> Tensor:
        return apply("div", self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return apply("div", other, self)

    def __pow__(self, other: Operand) -> Tensor:
        return apply("pow", self, other)

    def __rpow__(self, other: Operand) -> Tensor:
        return apply("pow", other, self)

    def __matmul__(self, other: Operand) -> Tensor:
        return apply("matmul", self, other)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return apply("matmul", other, self)

    def __neg__(self) -> Tensor:
        return apply("neg", self)

    def __pos__(self) -> Tensor:
        return self

    def __getitem__(self, index: Any) -> Tensor:
        return apply("getitem", self, index=index)

    # --- comparisons give plain arrays; tensors are told apart by identity in sets and dicts

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return self.data == _bare(other)

    def __ne__(self, other: object) -> Any:
        return self.data != _bare(other)

    def __lt__(self, other: Any) -> Any:
        return self.data < _bare(other)

    def __le__(self, other: Any) -> Any:
        return self.data <= _bare(other)

    def __gt__(self, other: Any) -> Any:
        return self.data > _bare(other)

    def __ge__(self, other: Any) -> Any:
        return self.data >= _bare(other)

    # --- methods

    def reshape(self, *shape: int | tuple[int, ...]) -> Tensor:
        """The same elements in row-major order in another shape; one size may be -1."""
        return apply("reshape", self, shape=as_sizes(shape))

    def transpose(self, *axes: int | tuple[int, ...]) -> Tensor:
        """The axes in the order given, reversed without one."""
        return apply("transpose", self, axes=as_sizes(axes)) if axes else apply("transpose", self)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The sum over one axis, several, or all."""
        return apply("sum", self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The mean over one axis, several, or all."""
        return apply("mean", self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The largest element over one axis, several, or all; of equal ones the first gets the gradient."""
        return apply("max", self, axis=axis, keepdims=keepdims)

    def exp(self) -> Tensor:
        """The exponential of every element."""
        return apply("exp", self)

    def log(self) -> Tensor:
        """The natural logarithm of every element."""
        return apply("log", self)


Operand: TypeAlias = Tensor | Array | float


def apply(rule_name: str, *inputs: Any, **attributes: Any) -> Tensor:
    """The result of an operation, recorded if an input requires a gradient and the thread is in no `no_grad`.

    Args:
        rule_name: a name in `RULES`.
        *inputs: tensors, arrays, Python numbers or lists of them (which take the dtype of the others), or
            None for an optional input.
        **attributes: the keywords of the rule's forward.

    Raises:
        ValueError: there is no such rule, or what the rule itself raises.
        TypeError: an input is no array of float32 or float64, or the inputs mix the two.

    Example:
        >>> apply("mul", Tensor([1.0, 2.0]), 3)
        Tensor([3., 6.])
    """
    rule = RULES.get(rule_name)
    if rule is None:
        raise ValueError(f"rule_name is {rule_name!r}, and the rules are {', '.join(RULES)}.")
    dtype = None
    for value in inputs:
        if not isinstance(value, Tensor) or (dtype is not None and value.data.dtype != dtype):
            inputs = _operands(rule, inputs)
            break
        dtype = value.data.dtype
    with np.errstate(all="ignore"):
        out, cache = rule.forward(*[None if t is None else t.data for t in inputs], **attributes)
    result = _constant(out)
    if is_grad_enabled():
        needs = tuple([t is not None and t.requires_grad for t in inputs])
        if True in needs:
            result.node = Node(rule, inputs, attributes, cache, needs, out)
            result.requires_grad = True
    return result


def gradients(root: Tensor, upstream: Any = None) -> dict[Tensor, Array]:
    """The gradient of root with respect to every tensor behind it that requires one, and root itself.

    It frees nothing and touches no .grad.

    Args:
        root: the tensor to start from.
        upstream: as `Tensor.backward` takes it.

    Example:
        >>> x = Tensor(3.0, requires_grad=True)
        >>> y = x * x
        >>> float(gradients(y)[x])
        6.0
    """
    with np.errstate(all="ignore"):
        return sweep(root, upstream_of(root, _bare(upstream)), retain=True)


def _constant(array: Array) -> Tensor:
    """A tensor over an array that is known to be valid."""
    tensor = Tensor.__new__(Tensor)
    tensor.data = array
    tensor.grad = None
    tensor.requires_grad = False
    tensor.node = None
    tensor.name = None
    return tensor


def _operands(rule: Rule, inputs: tuple[Any, ...]) -> tuple[Tensor | None, ...]:
    """The inputs as tensors of one dtype: that of the first that has one."""
    if len(inputs) > len(rule.inputs):
        raise TypeError(
            f"{rule.name} was given {len(inputs)} inputs, and {rule.formula} has {len(rule.inputs)}: "
            f"{', '.join(rule.inputs)}. Pass the rest as keywords."
        )
    dtype: np.dtype[Any] | None = None
    operands = list(inputs)
    try:
        for i, value in enumerate(inputs):  # first whatever has a dtype of its own
            if isinstance(value, Tensor):
                if dtype is not None and value.data.dtype != dtype:
                    raise TypeError(
                        f"{rule.inputs[i]} is a tensor of {value.dtype} where the other operands have "
                        f"{dtype}: make all from arrays of one precision, with .astype(np.{dtype})."
                    )
                dtype = value.data.dtype
            elif value is None:
                if defaults(rule.forward)[rule.inputs[i]] is not None:
                    raise TypeError(f"{rule.inputs[i]} is None, and a tensor, array or number is needed.")
            elif not isinstance(value, PLAIN):
                operands[i] = _constant(as_array(rule.inputs[i], value, dtype=dtype))
                dtype = operands[i].data.dtype
        for i, value in enumerate(operands):
            if isinstance(value, PLAIN):
                operands[i] = _constant(as_numbers(rule.inputs[i], value, dtype or np.dtype(np.float64)))
    except (TypeError, ValueError, OverflowError) as error:
        raise type(error)(f"in {rule.name}, {rule.formula}: {error}") from error
    return tuple(operands)


def _bare(other: object) -> Any:
    return other.data if isinstance(other, Tensor) else other
