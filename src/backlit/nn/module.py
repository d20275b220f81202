"""The module: parameters, buffers and submodules registered by attribute, walked, hooked and printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, Self

import numpy as np

from backlit.graph import Tensor
from backlit.nn.state import collect, restore
from backlit.ops.arguments import as_flag
from backlit.ops.arrays import Array, as_array, empty
from backlit.sizes import shown

Hook = Callable[["Module", tuple[Any, ...], Any], Any]


class Parameter(Tensor):
    """A Tensor that a module owns and an optimiser changes.

    Args:
        data: float32 or float64 values, of any shape; copied, so that updates in place touch nothing else.
        requires_grad: False keeps it out of the gradients (a frozen layer).
        name: as a Tensor's.

    Example:
        >>> Parameter(np.zeros((2, 3), np.float32)).requires_grad
        True
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, *, name: str | None = None) -> None:
        array = as_array("data", data.data if isinstance(data, Tensor) else data)
        own = empty(array.shape, array.dtype)
        own[...] = array
        super().__init__(own, requires_grad=as_flag("requires_grad", requires_grad), name=name)


class HookHandle:
    """What `register_forward_hook` returns: `remove()` takes the hook away again."""

    def __init__(self, hooks: dict[int, Hook], key: int) -> None:
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        self._hooks.pop(self._key, None)


def precision(dtype: Any) -> np.dtype[Any]:
    """The dtype, once it is known to be float32 or float64.

    Raises:
        TypeError: it is anything else.
    """
    try:
        wanted: np.dtype[Any] | None = None if dtype is None else np.dtype(dtype)
    except TypeError:
        wanted = None
    if wanted is None or wanted not in (np.dtype(np.float32), np.dtype(np.float64)):
        given = shown(dtype) if wanted is None else wanted
        raise TypeError(f"dtype is {given}, and modules compute in np.float32 or np.float64.")
    return wanted


class Module:
    """The abstract module: a function of tensors with parameters; a subclass defines `forward`.

    Assigning a Parameter or a Module to an attribute registers it under that name; arrays that are state but
    not learned are registered with `register_buffer`. `super().__init__()` may be called and need not be.

    Attributes:
        training: True after `train()` (at first, too), False after `eval()`.

    Source: the interface is PyTorch's torch.nn.Module.

    Example:
        >>> from backlit import nn
        >>> class Twice(nn.Module):
        ...     def __init__(self):
        ...         self.linear = nn.Linear(4, 4)
        ...
        ...     def forward(self, x):
        ...         return self.linear(self.linear(x))
        >>> [name for name, _ in Twice().named_parameters()]
        ['linear.weight', 'linear.bias']
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Array | None]
    _modules: dict[str, Module | None]
    _hooks: dict[int, Hook]

    _hook_keys = count()

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Make the tables before any `__init__` runs, so that forgetting super().__init__() cannot hurt."""
        self = super().__new__(cls)
        for name in ("_parameters", "_buffers", "_modules", "_hooks"):
            object.__setattr__(self, name, {})
        object.__setattr__(self, "training", True)
        return self

    def forward(self, *inputs: Any, **options: Any) -> Any:  # a subclass's forward uses them
        """The function itself: a subclass defines it with the arguments it needs."""
        raise TypeError(f"{type(self).__name__} has no forward: define forward(self, x) in the class.")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Run `forward`, then the forward hooks in the order in which they were registered."""
        output = self.forward(*inputs, **options)
        for hook in tuple(self._hooks.values()) if self._hooks else ():
            replaced = hook(self, inputs, output)
            if replaced is not None:
                output = replaced
        return output

    # Registration

    def __setattr__(self, name: str, value: Any) -> None:
        """Register parameters and modules; everything else is an ordinary attribute."""
        if isinstance(value, Parameter):
            self._put(self._parameters, name, value)
        elif isinstance(value, Module):
            if any(part is self for part in value.modules()):
                raise ValueError(f"{name} of {type(self).__name__} would make the module a part of itself.")
            self._put(self._modules, name, value)
        elif name in self._buffers:
            if value is not None and not isinstance(value, np.ndarray):
                raise TypeError(
                    f"{name} is a buffer, and {shown(value)} is no array: assign an array or None."
                )
            self._buffers[name] = value
        elif name in self._parameters or name in self._modules:
            table: dict[str, Any] = self._parameters if name in self._parameters else self._modules
            kind = "Parameter" if table is self._parameters else "Module"
            if value is not None:
                raise TypeError(
                    f"{name} is registered as a {kind}: assign a {kind} or None, or `del` it first."
                )
            table[name] = None
        else:
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        """What was registered under `name`; called only where there is no ordinary attribute."""
        for table in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(table, {})
            if name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.", name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        """Unregister, or delete an ordinary attribute."""
        for table in (self._parameters, self._buffers, self._modules):
            if name in table:
                del table[name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        """Registered names too, for completion."""
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _put(self, table: dict[str, Any], name: str, value: Any) -> None:
        """Enter `value` under `name` into one of the three tables, and take the name out of the others."""
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(
                f"name is {shown(name)}, and a registered name is a text without dots, and not empty."
            )
        if name not in self.__dict__ and hasattr(type(self), name):
            raise ValueError(
                f"name {name!r} is already an attribute of {type(self).__name__}: choose another one."
            )
        self.__dict__.pop(name, None)
        for other in (self._parameters, self._buffers, self._modules):
            if other is not table:
                other.pop(name, None)
        table[name] = value

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Register a parameter, or None for one that is absent (a layer without bias)."""
        if parameter is not None and not isinstance(parameter, Parameter):
            raise TypeError(
                f"parameter {name!r} is a {type(parameter).__name__}: wrap it, nn.Parameter(array)."
            )
        self._put(self._parameters, name, parameter)

    def register_buffer(self, name: str, array: Any) -> None:
        """Register an array that is state but not learned, such as a running mean; None for an absent one.

        Args:
            name: the attribute and state_dict key.
            array: float32, float64 or integer values; copied.
        """
        if array is not None:
            array = np.array(array, order="C")
            if array.dtype.kind not in "iu":
                array = np.array(as_array(name, array))
        self._put(self._buffers, name, array)

    def add_module(self, name: str, module: Module | None) -> None:
        """Register a submodule under a name that need not be written as an attribute."""
        if module is None:
            self._put(self._modules, name, None)
        elif isinstance(module, Module):
            if any(part is self for part in module.modules()):
                raise ValueError(f"module {name!r} would make {type(self).__name__} a part of itself.")
            self._put(self._modules, name, module)
        else:
            raise TypeError(f"module {name!r} is {shown(module)}, and an nn.Module is needed.")

    def register_forward_hook(self, hook: Hook) -> HookHandle:
        """Call `hook(module, inputs, output)` after every forward; a result of its own replaces the output.

        Args:
            hook: the function; inputs is the tuple of positional arguments.

        Returns:
            A handle whose `remove()` takes the hook away.

        Example:
            >>> from backlit import nn
            >>> seen = []
            >>> layer = nn.Linear(2, 3)
            >>> handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
            >>> _ = layer(np.zeros((5, 2), np.float32))
            >>> handle.remove()
            >>> seen
            [(5, 3)]
        """
        if not callable(hook):
            raise TypeError(f"hook is {shown(hook)}, and a function of (module, inputs, output) is needed.")
        key = next(Module._hook_keys)
        self._hooks[key] = hook
        return HookHandle(self._hooks, key)

    # Walking

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """All modules from this one down, each once, as (dotted name, module), parents first."""
        seen: set[int] = set()
        pending: list[tuple[str, Module]] = [(prefix, self)]
        while pending:
            path, module = pending.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            dot = path + "." if path else ""
            pending += [(dot + name, child) for name, child in reversed(list(module.named_children()))]

    def modules(self) -> Iterator[Module]:
        """All modules from this one down, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below, as (name, module)."""
        return ((name, module) for name, module in self._modules.items() if module is not None)

    def children(self) -> Iterator[Module]:
        """The modules directly below."""
        return (module for _, module in self.named_children())

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """All parameters as (dotted name, parameter), a shared one once, under its first name."""
        return self._named("_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, a shared one once: what an optimiser is made with."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Array]]:
        """All buffers as (dotted name, array)."""
        return self._named("_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Array]:
        """All buffers."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named(self, table: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else ((prefix, self),):
            for name, value in getattr(module, table).items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    # State

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers by dotted name, with PyTorch's keys and shapes.

        Example:
            >>> from backlit import nn
            >>> {name: array.shape for name, array in nn.Linear(3, 2).state_dict().items()}
            {'weight': (2, 3), 'bias': (2,)}
        """
        return collect(self)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Copy values into the parameters and buffers, all of them or, if anything does not fit, none.

        Args:
            state_dict: name -> array of the same shape and dtype; arrays may be anything that NumPy reads,
                such as PyTorch tensors in main memory.
            strict: also insist that the names are the same. With strict=False names that only one side has
                are left alone.

        Returns:
            The keys that were missing, and those that were unexpected: two lists, empty when strict.

        Raises:
            TypeError: a value is no array, or of another dtype.
            ValueError: lists, in one message, all that does not fit; nothing was changed.
        """
        return restore(self, state_dict, strict=strict)

    def astype(self, dtype: Any) -> Self:
        """Convert all floating parameters and buffers to float32 or float64, in place; gradients are dropped.

        Example:
            >>> from backlit import nn
            >>> nn.Linear(3, 2).astype(np.float64).weight.dtype
            dtype('float64')
        """
        wanted = precision(dtype)
        for module in self.modules():
            for parameter in module.parameters(recurse=False):
                if parameter.dtype != wanted:
                    converted = empty(parameter.shape, wanted)
                    converted[...] = parameter.data
                    parameter.data, parameter.grad = converted, None
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.dtype.kind == "f":
                    module._buffers[name] = buffer.astype(wanted)
        return self

    def double(self) -> Self:
        """Convert to float64, in place: `astype(np.float64)`."""
        return self.astype(np.float64)

    # Modes

    def train(self, mode: bool = True) -> Self:
        """Set the training mode, in which dropout drops and batch normalisation uses and tracks the batch."""
        mode = as_flag("mode", mode)
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Leave the training mode: `train(False)`."""
        return self.train(mode=False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let all parameters take part in the gradients, or, with False, freeze them."""
        for parameter in self.parameters():
            parameter.requires_grad = as_flag("requires_grad", requires_grad)
        return self

    def zero_grad(self) -> None:
        """Drop the gradients of all parameters: `.grad` is None afterwards."""
        for parameter in self.parameters():
            parameter.grad = None

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call `function` with every module, those below first: for initialisations of one's own."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

    # Printing

    def extra_repr(self) -> str:
        """The settings that `repr` shows between the parentheses; a subclass says which."""
        return ""

    def __repr__(self) -> str:
        """The tree of modules with their settings, as PyTorch prints it."""
        lines = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        body = "\n  ".join([extra, *lines] if extra else lines)
        return f"{type(self).__name__}(\n  {body}\n)"
