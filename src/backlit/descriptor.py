"""One line that describes a convolution: test id, benchmark case and bug report at once; read and written here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from backlit.sizes import shown

_NUMBERS = r"\d{1,19}(?:x\d{1,19}){0,2}"
_PARTS = {
    "n": r"\d{1,19}",
    "c": r"\d{1,19}-\d{1,19}",
    "g": r"\d{1,19}",
    "p": r"-?\d{1,19}(?::-?\d{1,19})?(?:x-?\d{1,19}(?::-?\d{1,19})?){0,2}",
    **dict.fromkeys("iksod", _NUMBERS),
}


def read(text: str) -> dict[str, Any]:
    """The arguments of a ConvGeometry that a descriptor such as `conv2d:n8,c16-32,i28x28,k3x3,s2,p1` stands for.

    Raises:
        TypeError, ValueError: the text is no descriptor; the message shows it and the part that is wrong.
    """
    if not isinstance(text, str):
        raise TypeError(
            f"descriptor is {shown(text)}, and a text such as 'conv2d:n8,c16-32,i28x28,k3x3' is needed."
        )
    head = re.fullmatch(r"\s*conv(T?)([123])d:(.*?)\s*", text)
    if head is None:
        raise ValueError(
            f"descriptor {shown(text)} has to begin with conv1d:, conv2d:, conv3d:, convT1d: ..."
        )
    transposed, axes = bool(head[1]), int(head[2])
    parts = _split(text, head[3])
    if "o" in parts and not transposed:
        raise ValueError(
            f"descriptor {shown(text)} has output padding o, which only convT1d to convT3d have."
        )

    def values(letter: str, default: str) -> list[str]:
        found = parts.get(letter, default).split("x")
        if len(found) == 1 and letter not in "ik":
            return found * axes
        if len(found) != axes:
            raise ValueError(
                f"descriptor {shown(text)} has {len(found)} values in {letter}{parts[letter]}, and "
                f"{axes} {'is' if axes == 1 else 'are'} needed, with x between axes."
            )
        return found

    def sizes(letter: str, default: str = "1") -> tuple[int, ...]:
        return tuple(map(int, values(letter, default)))

    pads = (tuple(map(int, pair.split(":"))) for pair in values("p", "0"))
    in_channels, out_channels = map(int, parts["c"].split("-"))
    return {
        "batch": int(parts["n"]),
        "in_channels": in_channels,
        "out_channels": out_channels,
        "input_size": sizes("i"),
        "kernel_size": sizes("k"),
        "stride": sizes("s"),
        "padding": tuple((pair[0], pair[-1]) for pair in pads),
        "dilation": sizes("d"),
        "groups": int(parts.get("g", "1")),
        "transposed": transposed,
        "output_padding": sizes("o", "0"),
    }


def write(arguments: Mapping[str, Any]) -> str:
    """The descriptor of a ConvGeometry's normalised arguments, without g, o and d where they change nothing."""
    size, transposed = arguments["input_size"], "T" if arguments["transposed"] else ""
    pads = tuple(str(low) if low == high else f"{low}:{high}" for low, high in arguments["padding"])
    parts = [f"n{arguments['batch']}", f"c{arguments['in_channels']}-{arguments['out_channels']}"]
    parts += [f"g{arguments['groups']}"] * (arguments["groups"] != 1)
    parts += ["i" + "x".join(map(str, size)), "k" + "x".join(map(str, arguments["kernel_size"]))]
    parts += ["s" + _brief(arguments["stride"]), "p" + _brief(pads)]
    parts += ["o" + _brief(arguments["output_padding"])] * any(arguments["output_padding"])
    parts += ["d" + _brief(arguments["dilation"])] * any(d != 1 for d in arguments["dilation"])
    return f"conv{transposed}{len(size)}d:{','.join(parts)}"


def _split(text: str, body: str) -> dict[str, str]:
    """The parts of a descriptor by their letter."""
    parts: dict[str, str] = {}
    for part in body.split(","):
        letter, value = part.strip()[:1], part.strip()[1:]
        pattern = _PARTS.get(letter)
        if pattern is None or letter in parts or not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(
                f"descriptor {shown(text)} has the part {shown(part)}, and each part is written once, as in "
                f"n8 c16-32 g4 i28x28 k3x3 s2 p1:2x0:-1 o1 d1."
            )
        parts[letter] = value
    for letter in "ncik":
        if letter not in parts:
            raise ValueError(
                f"descriptor {shown(text)} lacks its part {letter}: n, c, i and k are always needed."
            )
    return parts


def _brief(values: tuple[Any, ...]) -> str:
    """Values of the axes, or one where all are equal."""
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))
