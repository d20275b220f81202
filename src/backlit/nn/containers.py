"""Modules that hold modules in order: Sequential calls them in a row, ModuleList only registers them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, overload

from backlit.nn.module import Module
from backlit.sizes import shown


class _Ordered(Module):
    """Submodules by position: len, iteration, indices and slices."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(list(self.children()))

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Module | Self:
        if isinstance(index, slice):
            part = type(self)()
            for name, module in list(self.named_children())[index]:
                part.add_module(name if isinstance(self, Sequential) else str(len(part)), module)
            return part
        return self._item(index)[1]

    def __setitem__(self, index: int, module: Module) -> None:
        """Put another module at a position; it takes over the name."""
        self.add_module(self._item(index)[0], module)

    def __delitem__(self, index: int | slice) -> None:
        """Take modules out; those that stay are named by their positions, as PyTorch does."""
        items = list(self.named_children())
        gone = items[index] if isinstance(index, slice) else [self._item(index)]
        names = {name for name, _ in gone}
        stay = [module for name, module in items if name not in names]
        self._modules.clear()
        self.extend(stay)

    def _item(self, index: int) -> tuple[str, Module]:
        """The module at a position, with its name."""
        items = list(self.named_children())
        try:
            return items[index]
        except IndexError:
            raise IndexError(
                f"index is {index}, and {type(self).__name__} has {len(items)} modules."
            ) from None
        except TypeError:
            raise TypeError(f"index is {shown(index)}, and an int or a slice is needed.") from None

    def append(self, module: Module) -> Self:
        """Add a module at the end, named by its position."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end, in order."""
        for module in modules:
            self.append(module)
        return self


class Sequential(_Ordered):
    """Modules called one after another, each on the output of the one before.

    Args:
        modules: the modules, named "0", "1", ...; or one dict of name -> module.

    Example:
        >>> from backlit import nn
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> len(net), net[0], list(net.state_dict())
        (3, Linear(in_features=4, out_features=8, bias=True), ['0.weight', '0.bias', '2.weight', '2.bias'])
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        first = modules[0] if len(modules) == 1 else None
        if isinstance(first, Mapping):
            for name, module in first.items():
                self.add_module(name, module)
            return
        for position, item in enumerate(modules):
            if not isinstance(item, Module):
                raise TypeError(
                    f"argument {position} of Sequential is {shown(item)}, and modules are needed: a function "
                    f"has its module (nn.ReLU() for nn.functional.relu), a list is unpacked (*modules)."
                )
            self.append(item)

    def forward(self, x: Any) -> Any:
        """The output of the last module; x itself where there is none."""
        for module in self._modules.values():
            if module is not None:
                x = module(x)
        return x


class ModuleList(_Ordered):
    """Modules in a list that registers them; calling them is the owner's part.

    Args:
        modules: an iterable of modules; None for an empty list.

    Example:
        >>> from backlit import nn
        >>> class Stack(nn.Module):
        ...     def __init__(self):
        ...         self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        ...
        ...     def forward(self, x):
        ...         for layer in self.layers:
        ...             x = layer(x)
        ...         return x
        >>> list(Stack().state_dict())
        ['layers.0.weight', 'layers.0.bias', 'layers.1.weight', 'layers.1.bias']
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(() if modules is None else modules)


class Identity(Module):
    """The function that returns its input, y = x, in the place of another module.

    Args:
        arguments, options: anything, and ignored, so that it can stand where another module was made.

    Source: PyTorch's class of the same name.

    Example:
        >>> Identity(64, bias=False)([1.0, 2.0])
        [1.0, 2.0]
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        """The input itself."""
        return x
