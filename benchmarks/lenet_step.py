"""A training step of LeNet-5 on 64 images of 28x28, beside PyTorch's. Where PyTorch is not installed: ours alone.

    python benchmarks/lenet_step.py [--threads 4] [--rounds 20] [--batch 64] [--optimizer sgd]

Each library runs in a process of its own, with the same number of threads, weights and images, on one float32 step:
forget the gradients, forward, cross-entropy, backward, update. Before anything is timed, the loss and all gradients of
the first step must agree. Then the two take turns, and the medians of all steps are compared. PyTorch is timed as most
people call it: eager, its default memory format.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np

LIMIT = 4.0  # times PyTorch's step, at most
WARM_UP, STEPS = 3, 10  # steps in a turn that are not timed, and that are
PAUSE = 0.1  # seconds between turns, in which the other library's idle threads stop spinning
TOLERANCE = 1e-4  # of the largest gradient of a parameter: float32, sums of some thousand terms

Arrays = dict[str, np.ndarray[Any, Any]]


def problem(batch: int) -> tuple[Arrays, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weights by name, images (N, 1, 28, 28) and labels (N,): the same for both."""
    import backlit as bl

    bl.manual_seed(0)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, 1, 28, 28)).astype(np.float32)
    return bl.models.LeNet5().state_dict(), images, rng.integers(0, 10, batch)


def ours(weights: Arrays, images: Any, labels: Any, threads: int, optimizer: str) -> tuple[Any, Any, Any]:
    """A step, the model's gradients by name, and what this is."""
    import backlit as bl

    bl.set_num_threads(threads)
    model = bl.models.LeNet5()
    model.load_state_dict(weights)
    criterion, x = bl.nn.CrossEntropyLoss(), bl.Tensor(images)
    kinds = {
        "sgd": lambda p: bl.optim.SGD(p, lr=0.01, momentum=0.9),
        "adam": lambda p: bl.optim.Adam(p, lr=0.001),
    }
    updates = kinds[optimizer](model.parameters())

    def step() -> float:
        updates.zero_grad()
        loss = criterion(model(x), labels)
        loss.backward()
        updates.step()
        return float(loss.item())

    return step, lambda: {n: p.grad.copy() for n, p in model.named_parameters()}, f"backlit {bl.__version__}"


def theirs(weights: Arrays, images: Any, labels: Any, threads: int, optimizer: str) -> tuple[Any, Any, Any]:
    """The same from PyTorch; the layers have the names that they have in backlit.models.LeNet5."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    layers = {
        "conv1": nn.Conv2d(1, 6, 5, padding=2),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(6, 16, 5),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "linear1": nn.Linear(400, 120),
        "relu3": nn.ReLU(),
        "linear2": nn.Linear(120, 84),
        "relu4": nn.ReLU(),
        "classifier": nn.Linear(84, 10),
    }
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    criterion, x, y = nn.CrossEntropyLoss(), torch.from_numpy(images), torch.from_numpy(labels)
    kinds = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=0.001),
    }
    updates = kinds[optimizer](model.parameters())

    def step() -> float:
        updates.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        updates.step()
        return float(loss.item())

    return (
        step,
        lambda: {n: p.grad.numpy().copy() for n, p in model.named_parameters()},
        f"PyTorch {torch.__version__}",
    )


def work(pipe: Connection, library: str, batch: int, threads: int, optimizer: str) -> None:
    """A process of its own: say what the first step gave, then time a turn whenever asked."""
    build = {"ours": ours, "theirs": theirs}[library]
    step, gradients, name = build(*problem(batch), threads, optimizer)
    loss = step()
    pipe.send((name, loss, gradients()))
    while pipe.recv():
        times = []
        for number in range(WARM_UP + STEPS):
            start = time.perf_counter()
            step()
            if number >= WARM_UP:
                times.append(time.perf_counter() - start)
        pipe.send(times)


def disagreement(first: tuple[str, float, Arrays], second: tuple[str, float, Arrays]) -> list[str]:
    """What differs between the losses and gradients of two first steps by more than rounding."""
    wrong = (
        []
        if abs(first[1] - second[1]) <= TOLERANCE * abs(second[1])
        else [f"loss: {first[1]} and {second[1]}"]
    )
    for name, gradient in second[2].items():
        error = float(np.max(np.abs(first[2][name] - gradient)) / np.max(np.abs(gradient)))
        if not error <= TOLERANCE:
            wrong.append(f"gradient of {name}: they differ by {error:.1e} of the largest")
    return wrong


def main() -> int:
    """Compare, time, print one table; 1 where the libraries disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    options = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL", "BACKLIT"):
        os.environ[f"{library}_NUM_THREADS"] = str(
            options.threads
        )  # inherited by the processes that start now

    context = multiprocessing.get_context("spawn")
    libraries = ["ours", *(["theirs"] if importlib.util.find_spec("torch") else [])]
    pipes, processes = [], []
    for library in libraries:
        here, there = context.Pipe()
        arguments = (there, library, options.batch, options.threads, options.optimizer)
        processes.append(context.Process(target=work, args=arguments, daemon=True))
        processes[-1].start()
        there.close()  # so that a worker that dies ends the wait for it
        pipes.append(here)
    firsts = [pipe.recv() for pipe in pipes]
    if wrong := disagreement(firsts[0], firsts[-1]):
        print("The first steps disagree:", *wrong, sep="\n  ", file=sys.stderr)
        return 1

    times: list[list[float]] = [[] for _ in pipes]
    for _ in range(options.rounds):
        for pipe, taken in zip(pipes, times, strict=True):
            pipe.send(True)
            taken += pipe.recv()
            time.sleep(PAUSE)
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(False)
        process.join()

    print(
        f"LeNet-5, {options.batch} images of 28x28, float32, {options.optimizer}, threads: {options.threads}"
    )
    print(f"{'ms per step':<20}{'median':>10}{'fastest':>10}{'slowest':>10}")
    for (name, *_), taken in zip(firsts, times, strict=True):
        print(
            f"{name:<20}"
            + "".join(f"{1e3 * value:>10.2f}" for value in (median(taken), min(taken), max(taken)))
        )
    if len(times) == 2:
        ratio = median(times[0]) / median(times[1])
        print(
            f"{'ratio of medians':<20}{ratio:>10.2f}   (at most {LIMIT:g} is asked for; loss and gradients agree)"
        )
    else:
        print("PyTorch is not installed: nothing to compare with.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
