"""What is measured: convolutions given by their descriptors, or all of a suite that ships with the package."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backlit.geometry import ConvGeometry
from backlit.sizes import shown

_FOLDER = Path(__file__).parent / "suites"
_ALL = "all"


@dataclass(frozen=True)
class Case:
    """One problem of a benchmark.

    Args:
        geometry: the convolution.
        family: the network it is from; "" for none.
    """

    geometry: ConvGeometry
    family: str = ""


def suite_names() -> tuple[str, ...]:
    """The suites that there are; "all" is every layer of every one of them, once.

    Example:
        >>> suite_names()
        ('all', 'layers', 'quick', 'transposed')
    """
    return (_ALL, *sorted(path.stem for path in _FOLDER.glob("*.txt")))


@cache
def suite(name: str) -> tuple[Case, ...]:
    """The cases of a suite, in its order.

    Args:
        name: one of `suite_names()`.

    Raises:
        ValueError: there is no such suite.

    Example:
        >>> len(suite("quick")) < len(suite("layers")) < len(suite("all"))
        True
    """
    names = suite_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"suite is {shown(name)}, and the suites are {', '.join(names)}{hint}.")
    if name == _ALL:
        return tuple({case.geometry: case for other in names[1:] for case in suite(other)}.values())
    lines = (_FOLDER / f"{name}.txt").read_text("utf-8").splitlines()
    return tuple(_case(line) for line in lines if line.strip() and not line.startswith("#"))


def cases(
    descriptors: Iterable[str] = (), suites: Iterable[str] = (), family: str | None = None
) -> tuple[Case, ...]:
    """The cases that descriptors and suites come to, each once.

    Args:
        descriptors: such as "conv2d:n8,c16-32,i28x28,k3x3,s1,p1"; those that a suite holds get its family.
        suites: names of suites.
        family: only those whose family contains this text, in capital letters or small ones.

    Raises:
        ValueError: there are none; a descriptor is wrong, or has a batch of 0; there is no such suite.

    Example:
        >>> [case.family for case in cases(["conv2d:n1,c1-1,i3x3,k2x2"], ["quick"], family="resnet-20")]
        ['CIFAR ResNet-20 N=128']
    """
    known = {case.geometry: case for case in suite(_ALL)}
    found: dict[ConvGeometry, Case] = {}
    for text in descriptors:
        geometry = ConvGeometry.parse(text)
        if not geometry.batch:
            raise ValueError(
                f"descriptor {shown(text)} has a batch of 0, which takes no time: use n1 or more."
            )
        found[geometry] = known.get(geometry, Case(geometry))
    for name in suites:
        found |= {case.geometry: case for case in suite(name)}
    if not found:
        raise ValueError(
            f"there is nothing to measure: give descriptors such as conv2d:n16,c64-64,i56x56,k3x3,p1, or a suite of "
            f"{', '.join(suite_names())}."
        )
    wanted = family or ""
    kept = tuple(case for case in found.values() if wanted.lower() in case.family.lower())
    if not kept:
        families = sorted({case.family for case in found.values()} - {""})
        if not families:
            raise ValueError(
                f"family is {shown(wanted)}, and only the layers of a suite have one: name a suite too."
            )
        raise ValueError(f"family is {shown(wanted)}, and the families are {', '.join(families)}.")
    return kept


def _case(line: str) -> Case:
    """A line of a suite: a descriptor, and after # its family."""
    text, _, family = line.partition("#")
    return Case(ConvGeometry.parse(text), family.strip())
