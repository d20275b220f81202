"""Scenarios of hostile calls of the pairs and of what configures them; each judges what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from random import Random
from typing import Any

import numpy as np

import backlit as bl
from backlit import engines
from backlit.engines import threads
from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.sizes import LAYOUTS
from definition import avg_pool_passes, max_pool_passes
from hostile import (
    Finding,
    called,
    check_made,
    check_reach,
    check_values,
    refused,
    remade,
    strange,
    strange_array,
    values,
)
from tolerance import assert_close, assert_close_to_winograd
from ways import conv_expected

RIGHT = "right"
TOO_MUCH = "not made, as it would take too long"
REFUSED = "has to be refused"
WORK = 300_000  # multiplications of a call that is made
MEMORY = 3 << 30  # bytes of address space that a worker has: what needs twice as many has to be refused
_NEEDS: list[Any] = [("dx",), ("dw",), ("db",), (), {"dx", "dw"}, ["dx"], "dx", None, ("dz",), ("dx", 1), 3]


def conv(random: Random) -> str:
    """A convolution or a transposed one, forward and backward."""
    name = random.choice(("conv", "conv", "conv_transpose"))
    forward, backward = getattr(bl, f"{name}_forward"), getattr(bl, f"{name}_backward")
    x, w, b, keywords, spoil = _conv_arguments(random, name)
    sound = random.random() < 0.55
    if sound:
        x, w, b = remade(random, x), remade(random, w), None if b is None else remade(random, b)
    else:
        x, w, b = _conv_made_hostile(random, x, w, b, keywords)
    g = _quietly(lambda: _conv_geometry(name, x, w, keywords))
    fate = _fate(g, g.shapes(LAYOUTS[0]) if g else ())
    if fate == TOO_MUCH:
        return TOO_MUCH
    try:
        y, cache = called(forward, x, w, b, **keywords)
    except Exception as error:
        return refused(error, sound and g is not None)
    if fate != RIGHT:
        raise Finding(f"{name}_forward gave y of shape {y.shape} where there can be none")
    layout, bare, dtype = keywords["layout"], np.ndim(x) <= 2, y.dtype
    check_made("y", y, g.output_size if bare else g.shapes(layout)[2], dtype)
    found = {"y": y.copy()}
    dy = given = values(random, y.shape, dtype, spoil)
    if bad := random.random() < 0.12:
        given = strange_array(random, dy)
    elif random.random() < 0.5:
        dy = given = remade(random, dy)
    y.fill(np.nan)  # an output that its owner overwrites
    other = random.random() < 0.03
    options: dict[str, Any] = {"needs": random.choice(_NEEDS)} if random.random() < 0.15 else {}
    outcome = RIGHT
    try:
        twice = [called(backward, given, _foreign(name) if other else cache, **options) for _ in range(2)]
    except Exception as error:
        outcome = refused(error, not (bad or other or options))
    else:
        if other or len(twice[0]) != (2 if b is None else 3):
            raise Finding(f"{name}_backward gave {len(twice[0])} gradients")
        dy = np.asarray(given, dtype)
        for which, like, gradient, again in zip(("dx", "dw", "db"), (x, w, b), *twice, strict=False):
            if gradient is not None:
                check_made(which, gradient, np.shape(like), dtype)
                if gradient.tobytes() != again.tobytes():
                    raise Finding(f"{which} differs when the cache is used again")
                found[which] = gradient
    _judge_conv(g, layout, [x, w, b, dy], found, spoil)
    return outcome


def sliding_pool(random: Random) -> str:
    """A max or average pool, forward and backward."""
    name = random.choice(("max_pool", "avg_pool"))
    forward, backward = getattr(bl, f"{name}_forward"), getattr(bl, f"{name}_backward")
    x, axes, layout = _pool_input(random, spoil=name == "max_pool" and random.random() < 0.4)
    keywords: dict[str, Any] = {"kernel_size": _sizes(random, axes, 1, 4), "layout": layout}
    if random.random() < 0.6:
        keywords["stride"] = _sizes(random, axes, 1, 4)
    if random.random() < 0.5:
        keywords["padding"] = _pads(random, axes, 0)
    if random.random() < 0.4:
        keywords["ceil_mode"] = random.random() < 0.7
    if random.random() < 0.3 and name == "max_pool":
        keywords["dilation"] = _sizes(random, axes, 1, 3)
    if random.random() < 0.4 and name == "avg_pool":
        keywords[random.choice(("count_include_pad", "divisor_override"))] = random.random() < 0.5 or 2
    kind = random.random()
    if kind < 0.2:
        keywords[random.choice(sorted(keywords))] = strange(random)
    elif kind < 0.4:
        x = strange_array(random, x)
    else:
        x = remade(random, x)
    g = _quietly(lambda: _pool_geometry(x, keywords))
    shapes = [g.windows.shapes(LAYOUTS[0])[n] for n in (0, 2, 2)] if g else []
    fate = _fate(g and g.windows, shapes)
    if fate == TOO_MUCH:
        return TOO_MUCH
    try:
        y, cache = called(forward, x, **keywords)
    except Exception as error:
        return refused(error)
    if fate != RIGHT:
        raise Finding(f"{name}_forward gave y of shape {y.shape} where there can be none")
    layout, dtype = keywords["layout"], y.dtype
    check_made("y", y, g.windows.shapes(layout)[2], dtype)
    dy = given = values(random, y.shape, dtype, False)
    divisors = None if name == "max_pool" else np.asarray(cache.divisors)
    if divisors is not None:  # so that every quotient is an integer
        np.multiply(_first(dy, layout), divisors, out=_first(dy, layout), casting="same_kind")
    if random.random() < 0.15:
        given = strange_array(random, dy)
    outcome, dx = RIGHT, None
    try:
        dx = called(backward, given, cache)
    except Exception as error:
        outcome = refused(error, given is dy)
    else:
        dy = np.asarray(given, dtype)
        check_made("dx", dx, np.shape(x), dtype)
    arrays = [_first(np.asarray(a, np.float64), layout) for a in (x, dy)]
    right = max_pool_passes(g, *arrays) if divisors is None else avg_pool_passes(g, *arrays, divisors)
    check_values("y", _first(y, layout), right[0])
    if dx is not None and given is dy:
        check_values("dx", _first(dx, layout), right[1])
    return outcome


def adaptive_pool(random: Random) -> str:
    """An adaptive or global average pool, forward and backward."""
    x, axes, layout = _pool_input(random, spoil=False)
    keywords: dict[str, Any] = {"layout": layout}
    name = random.choice(("adaptive_avg_pool", "global_avg_pool"))
    if name == "adaptive_avg_pool":
        wanted = strange(random) if random.random() < 0.3 else _sizes(random, axes, 1, 12)
        each = _quietly(
            lambda: tuple(map(int, wanted)) if isinstance(wanted, (tuple, list)) else (int(wanted),) * 3
        )
        if each and 2000 < prod(each) < 2**36:
            return TOO_MUCH
        keywords["output_size"] = wanted
    x = strange_array(random, x) if random.random() < 0.25 else remade(random, x)
    if isinstance(x, np.ndarray) and x.size > WORK:
        return TOO_MUCH
    try:
        y, cache = called(getattr(bl, f"{name}_forward"), x, **keywords)
        dy = values(random, y.shape, y.dtype, False)
        dx = called(getattr(bl, f"{name}_backward"), dy, cache)
    except Exception as error:
        return refused(error)
    check_made("dx", dx, np.shape(x), y.dtype)
    mean, share = (_first(np.asarray(a, np.float64), layout) for a in (x, dy))
    pairs = list(zip(mean.shape[2:], share.shape[2:], strict=True))
    for axis, (inputs, outputs) in enumerate(pairs, start=2):
        matrix = np.zeros((outputs, inputs))
        for o in range(outputs):
            window = slice(o * inputs // outputs, -(-(o + 1) * inputs // outputs))
            matrix[o, window] = 1 / (window.stop - window.start)
        mean = np.moveaxis(np.moveaxis(mean, axis, -1) @ matrix.T, -1, axis)
        share = np.moveaxis(np.moveaxis(share, axis, -1) @ matrix, -1, axis)
    _near("y", lambda: assert_close(_first(y, layout), mean, terms=1000, scale=4))
    _near("dx", lambda: assert_close(_first(dx, layout), share, terms=1000, scale=4 * 12**3))
    return RIGHT


def settings(random: Random) -> str:
    """What is not a pair: geometries, descriptors, the choice of an engine, the number of threads."""
    kind = random.randrange(6)
    try:
        if kind == 0:
            arguments = [random.choice((strange(random), random.randint(0, 5))) for _ in range(9)]
            g = ConvGeometry(*arguments, random.random() < 0.3)
            if ConvGeometry.parse(str(g)) != g:
                raise Finding(f"{g} is another problem when it is read again")
        elif kind == 1:
            text = list("conv2d:n8,c16-32,g4,i28x28,k3x3,s2,p1:2x0:-1,d1")
            for _ in range(random.randint(1, 4)):
                text[random.randrange(len(text))] = random.choice(
                    ["", "9" * 18, "-", ":", "x", "0", ",", "n", "\0", "\u0663"]
                )
            engines.explain_choice(
                "".join(text), random.choice(("float32", "float64")), random.choice(LAYOUTS)
            )
        elif kind == 2:
            sound = ["conv2d:n1,c1-1,i3x3,k2x2", "float32", "channels_first"]
            sound[random.randrange(3)] = strange(random)
            engines.explain_choice(*sound)
        elif kind == 3:
            arguments = [
                random.choice((*engines.names(), "direct", "winograd", "avx2", "", strange(random)))
                for _ in range(3)
            ]
            with engines.use(*arguments):
                engines.explain_choice("conv2d:n1,c1-1,i3x3,k2x2")
        elif kind == 4:
            before = threads._chosen
            try:
                bl.set_num_threads(strange(random))
            finally:
                threads._chosen = before
        else:
            g = PoolGeometry(*(random.choice((strange(random), random.randint(1, 5))) for _ in range(7)))
            assert min(g.output_size) >= 1
    except Exception as error:
        return refused(error)
    return RIGHT


def _conv_arguments(random: Random, name: str) -> tuple[Any, Any, Any, dict[str, Any], bool]:
    """x, w, b or None, the keywords, and whether there are infinities and NaN; mostly a problem that has a result."""
    transposed, axes = name == "conv_transpose", random.choice((1, 2, 2, 2, 3))
    bare = axes < 3 and random.random() < 0.06
    groups = 1 if bare else random.choice((1, 1, 1, 2, 3))
    most = 36 if random.random() < 0.2 else 5
    c, k = (1 if bare else groups * random.randint(1, max(1, most // groups)) for _ in range(2))
    size = tuple(random.randint(1, 9 if axes < 3 else 4) for _ in range(axes))
    kernel = tuple(random.randint(1, 4) for _ in range(axes)) if random.random() < 0.7 else (3,) * axes
    layout, dtype = random.choice(LAYOUTS), random.choice(("float32", "float64"))
    major, minor = (c, k // groups) if transposed else (k, c // groups)
    x_shape, w_shape = (random.choice((0, 1, 1, 2, 3)), c, *size), (major, minor, *kernel)
    if bare:
        x_shape, w_shape = size, kernel
    elif layout != LAYOUTS[0]:
        x_shape, w_shape = (x_shape[0], *size, c), (*kernel, minor, major)
    spoil = random.random() < 0.2
    keywords: dict[str, Any] = {"layout": layout}
    if groups > 1 or random.random() < 0.2:
        keywords["groups"] = groups
    if random.random() < 0.5:
        keywords["stride"] = _sizes(random, axes, 1, 3 if random.random() < 0.9 else 20)
    if random.random() < 0.7:
        keywords["padding"] = _sizes(random, axes, -1, 2) if transposed else _pads(random, axes, -1)
    if random.random() < 0.3:
        keywords["dilation"] = _sizes(random, axes, 1, 3)
    if transposed and random.random() < 0.3:
        keywords["output_padding"] = _sizes(random, axes, 0, 2)
    b = values(random, () if bare else (k,), dtype, spoil) if random.random() < 0.5 else None
    return values(random, x_shape, dtype, spoil), values(random, w_shape, dtype, spoil), b, keywords, spoil


def _conv_made_hostile(
    random: Random, x: Any, w: Any, b: Any, keywords: dict[str, Any]
) -> tuple[Any, Any, Any]:
    """The arrays, one of which may be strange now; else some of the keywords are."""
    if random.random() < 0.5:
        for _ in range(random.choice((1, 1, 2))):
            names = ["stride", "padding", "dilation", "groups", "layout"]
            keywords[random.choice(names + ["output_padding"] * ("output_padding" in keywords))] = strange(
                random
            )
        return x, w, b
    which = random.choice("xwb")
    if which == "b":
        return x, w, strange_array(random, x if b is None else b)
    return (strange_array(random, x), w, b) if which == "x" else (x, strange_array(random, w), b)


def _pool_input(random: Random, spoil: bool) -> tuple[Any, int, str]:
    axes, layout = random.randint(1, 3), random.choice(LAYOUTS)
    size = tuple(random.randint(1, 9 if axes < 3 else 4) for _ in range(axes))
    batch, channels = random.choice((0, 1, 2)), random.randint(1, 20)
    shape = (batch, channels, *size) if layout == LAYOUTS[0] else (batch, *size, channels)
    return values(random, shape, random.choice(("float32", "float64")), spoil), axes, layout


def _sizes(random: Random, axes: int, low: int, high: int) -> Any:
    """One for each axis, or one for all."""
    found = tuple(random.randint(low, high) for _ in range(axes))
    return random.choice((found, list(found), found[0], np.array(found)))


def _pads(random: Random, axes: int, low: int) -> Any:
    kind = random.random()
    if kind < 0.15:
        return random.choice(("same", "valid"))
    if kind < 0.5:
        return _sizes(random, axes, low, 2)
    return tuple((random.randint(low, 3), random.randint(low, 3)) for _ in range(axes))


def _foreign(name: str) -> Any:
    """What is no cache of an operation."""
    other = bl.conv_forward if name == "conv_transpose" else bl.conv_transpose_forward
    return other(np.ones((2, 2)), np.ones((1, 1)))[1]


def _quietly(make: Callable[[], Any]) -> Any:
    """What `make` makes, or None."""
    try:
        return make()
    except Exception:
        return None


def _conv_geometry(name: str, x: Any, w: Any, keywords: dict[str, Any]) -> ConvGeometry:
    return ConvGeometry.from_shapes(np.shape(x), np.shape(w), transposed=name == "conv_transpose", **keywords)


def _pool_geometry(x: Any, keywords: dict[str, Any]) -> PoolGeometry:
    ignored = ("count_include_pad", "divisor_override")
    return PoolGeometry.from_shape(np.shape(x), **{k: v for k, v in keywords.items() if k not in ignored})


def _fate(g: ConvGeometry | None, shapes: Any) -> str:
    """Whether a problem has a result, has to be refused, or takes more time or memory than a call is to have."""
    if g is None:
        return REFUSED
    memory = 4 * sum(map(prod, shapes))
    if memory > 2 * MEMORY:
        return REFUSED
    plain = g.convolution
    work = prod((g.batch, *plain.output_size, *g.kernel_size, g.in_channels, g.out_channels // g.groups))
    return TOO_MUCH if work > WORK or memory > 16 * WORK or prod(g.kernel_size) > 1000 else RIGHT


def _first(a: Any, layout: str) -> Any:
    """A channels-first view."""
    return a if layout == LAYOUTS[0] else np.moveaxis(a, -1, 1)


def _judge_conv(g: ConvGeometry, layout: str, arrays: list[Any], found: dict[str, Any], spoil: bool) -> None:
    """Compare what was found with the equation: bit for bit, but where Winograd or zeros for padding computed."""
    if arrays[2] is None:
        arrays[2] = np.zeros(g.out_channels)
    x_shape, w_shape, y_shape = g.shapes(layout)
    shapes = (x_shape, w_shape, (g.out_channels,), y_shape)

    def plain(a: Any, number: int) -> Any:
        a = np.asarray(a).reshape(shapes[number])
        return np.moveaxis(a, (-1, -2), (0, 1)) if number == 1 and layout != LAYOUTS[0] else _first(a, layout)

    first = [plain(a, n) if n != 2 else np.reshape(a, -1) for n, a in enumerate(arrays)]
    right = dict(zip(("y", "dx", "dw", "db"), conv_expected(g, first), strict=True))
    numbers = {"y": 3, "dx": 0, "dw": 1, "db": 2}
    choice = engines.explain_choice(g, found["y"].dtype, layout)
    passes = {"y": "conv_forward", "dx": "conv_grad_input", "dw": "conv_grad_weight"}
    for which, value in found.items():
        result = plain(value, numbers[which]) if which != "db" else value.reshape(-1)
        plan = choice[passes[which]] if which in passes else None
        approximate = plan is not None and "winograd" in plan.algorithm.lower()
        if plan is not None and spoil and (approximate or plan.engine == "gemm"):
            check_reach(which, result, right[which])
        elif approximate:
            terms = {
                "y": 9 * g.in_channels,
                "dx": 9 * g.out_channels,
                "dw": y_shape[0] * prod(g.output_size),
            }[which]
            one, other = {"y": (0, 1), "dx": (1, 3), "dw": (0, 3)}[which]
            size = np.sqrt(terms * np.mean(first[one] ** 2.0) * np.mean(first[other] ** 2.0))
            scale = float(size) * g.groups
            _near(
                which,
                lambda r=result, w=which, t=terms, s=scale: assert_close_to_winograd(r, right[w], w, t, s),
            )
        else:
            check_values(which, result, right[which])


def _near(which: str, check: Callable[[], None]) -> None:
    try:
        check()
    except AssertionError as error:
        raise Finding(f"{which}: {error}") from error
