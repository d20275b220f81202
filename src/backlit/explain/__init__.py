"""Explanations: the numbers of a computation laid out so that one can follow them."""

from backlit.explain.chain_rule import ChainRule, chain_rule

__all__ = ["ChainRule", "chain_rule"]
