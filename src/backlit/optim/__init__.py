"""Optimisers, schedules of the learning rate, and gradient clipping."""

from backlit.optim.clipping import clip_grad_norm_
from backlit.optim.optimizers import SGD, Adam, AdamW, Optimizer
from backlit.optim.schedules import SCHEDULES, ConstantLR, CosineLR, Schedule, StepLR

__all__ = [
    "SCHEDULES",
    "SGD",
    "Adam",
    "AdamW",
    "ConstantLR",
    "CosineLR",
    "Optimizer",
    "Schedule",
    "StepLR",
    "clip_grad_norm_",
]
