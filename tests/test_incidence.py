"""Incidence: the relation by brute force from its one equation, and every lookup against it."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given

from backlit import incidence
from backlit.geometry import ConvGeometry
from backlit.incidence import Term
from configurations import conv_geometries


def _by_hand(g: ConvGeometry, padded: bool = False) -> set[Term]:
    """All terms, by trying every pair of a position and a tap; a transposed one exchanges input and output."""
    c, k = g.in_channels // g.groups, g.out_channels // g.groups
    fixed, moved = (g.output_size, g.input_size) if not g.transposed else (g.input_size, g.output_size)
    found = set()
    for n, group, a, b in product(range(g.batch), range(g.groups), range(c), range(k)):
        for o in product(*map(range, fixed)):
            for u in product(*map(range, g.kernel_size)):
                i = tuple(
                    s * at + d * tap - low
                    for s, at, d, tap, (low, _) in zip(g.stride, o, g.dilation, u, g.padding, strict=True)
                )
                if padded or all(0 <= at < size for at, size in zip(i, moved, strict=True)):
                    x, y = (n, group * c + a), (n, group * k + b)
                    if g.transposed:
                        found.add(Term((*x, *o), (group * c + a, b, *u), (*y, *i)))
                    else:
                        found.add(Term((*x, *i), (group * k + b, a, *u), (*y, *o)))
    return found


@given(conv_geometries())
def test_terms_are_those_of_the_equation(g: ConvGeometry) -> None:
    terms = list(incidence.terms(g))
    assert len(terms) == len(set(terms)) == incidence.count(g)
    assert set(terms) == _by_hand(g)


@given(conv_geometries())
def test_padded_terms_are_those_of_the_equation(g: ConvGeometry) -> None:
    assert set(incidence.terms(g, padded=True)) == _by_hand(g, padded=True)


@pytest.mark.parametrize("part", ["input", "weight", "output"])
@given(g=conv_geometries())
def test_terms_of_one_element_are_those_that_hold_it(part: str, g: ConvGeometry) -> None:
    x, w, y = g.shapes("channels_first")
    lookup = getattr(incidence, f"terms_of_{part}")
    every = _by_hand(g)
    for index in product(*map(range, {"input": x, "weight": w, "output": y}[part])):
        found = list(lookup(g, index))
        assert len(found) == len(set(found))
        assert set(found) == {term for term in every if getattr(term, part) == index}


def test_article_input_x22_meets_all_four_outputs() -> None:
    g = ConvGeometry.parse("conv2d:n1,c1-1,i3x3,k2x2")
    met = {(t.weight[2:], t.output[2:]) for t in incidence.terms_of_input(g, (0, 0, 1, 1))}
    assert met == {((1, 1), (0, 0)), ((1, 0), (0, 1)), ((0, 1), (1, 0)), ((0, 0), (1, 1))}


def test_one_element_of_a_real_layer_does_not_enumerate_the_rest() -> None:
    g = ConvGeometry.parse("conv2d:n64,c512-512,i224x224,k3x3,p1")
    assert sum(1 for _ in incidence.terms_of_output(g, (3, 5, 100, 0))) == 512 * 6
    assert sum(1 for _ in incidence.terms_of_input(g, (3, 5, 0, 0))) == 512 * 4
    assert incidence.count(g) == 64 * 512 * 512 * (3 * 224 - 2) ** 2


def test_count_of_a_problem_beyond_all_enumeration_is_known_at_once() -> None:
    g = ConvGeometry.parse("conv1d:n1,c1-1,i1,k1000000000000,p1000000000000")
    assert incidence.count(g) == 10**12  # every tap reads the one input position once
    assert incidence.count(ConvGeometry.parse("conv1d:n0,c1-1,i1,k1,p1000000000000000")) == 0
