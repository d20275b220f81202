"""A fuzz of hostile calls in worker processes: `python tests/fuzz.py --calls 100000 --seed 0 --workers 2`.

Every call follows from the seed and its number alone; `--only NUMBER` makes one again, in this process. A call fails
when it ends in a wrong result or an undocumented error, when its process dies, or when it takes longer than a minute.
The exit status is 1 where any has.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np

import backlit as bl
import hostile_calls
from backlit import engines
from backlit.engines import module
from hostile import Finding
from ways import forced

PATIENCE = 60  # seconds that one call may take; some make a dozen others, and the machine may be busy
CHUNK = 200  # calls that a worker takes at a time
SCENARIOS = (
    (hostile_calls.conv,) * 5
    + (hostile_calls.sliding_pool,) * 3
    + (hostile_calls.adaptive_pool, hostile_calls.settings)
)


def make(seed: int, number: int) -> str:
    """Make one call; what came of it, or a Finding."""
    random = Random(f"{seed}/{number}")
    kind = random.random()
    if kind < 0.004:
        return _in_a_child(random)
    if kind < 0.02:
        return _in_threads(random)
    return _alone(random, random.choice(SCENARIOS))


def _alone(random: Random, scenario: Any) -> str:
    """A scenario by an engine, an algorithm, an instruction set and a number of threads that chance forces."""
    isas, kind = module.isas(), random.random()
    with ExitStack() as stack:
        if isas and kind < 0.6:
            count = random.choice((1, 2, 3, 4, 9, 1000, 2**62))
            stack.enter_context(forced(random.choice(isas), random.choice((None, "direct")), count))
        elif kind < 0.7:
            stack.enter_context(engines.use("gemm"))
        elif kind < 0.72:
            stack.enter_context(engines.use("loops"))
        return str(scenario(random))


def _in_threads(random: Random) -> str:
    """Scenarios in several threads at once, all of which have to go well."""
    seeds = [random.getrandbits(64) for _ in range(random.randint(2, 8))]
    outcomes: list[Any] = []

    def run(seed: int) -> None:
        mine = Random(seed)
        try:
            outcomes.extend(str(mine.choice(SCENARIOS[:-1])(mine)) for _ in range(3))
        except BaseException as error:
            outcomes.append(error)

    with forced(None, None, random.choice((1, 2, 4))):
        workers = [threading.Thread(target=run, args=(seed,)) for seed in seeds]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise Finding(f"in a thread: {outcome}") from outcome
    return f"{len(seeds)} threads at once"


def _in_a_child(random: Random) -> str:
    """A parallel call, then scenarios in a forked child."""
    with forced(None, None, 4):
        bl.conv_forward(np.ones((2, 8, 20, 20), np.float32), np.ones((8, 8, 3, 3), np.float32), padding=1)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # a process of threads forks: that is the point
            child = os.fork()
        if child == 0:
            status = 1
            try:
                for _ in range(3):
                    random.choice(SCENARIOS)(random)
                status = 0
            except BaseException as error:
                sys.stderr.write(f"in a forked child: {error}\n")
            finally:
                os._exit(status)
        end = time.monotonic() + PATIENCE / 2
        while not (done := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise Finding("a forked child hangs")
            time.sleep(0.001)
    if done[1]:
        raise Finding(f"a forked child ended with status {done[1]}")
    return "a forked child"


def _prepare() -> None:
    """Make this process one in which a call may go wrong."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (hostile_calls.MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")


def work(seed: int, first: int, last: int, place: str) -> None:
    """Make calls one after another; before each its number goes to `place`, a file that outlives this process."""
    _prepare()
    with Path(place).open("r+b") as file, mmap.mmap(file.fileno(), 16) as shared:
        for number in range(first, last):
            shared[:16] = struct.pack("qd", number, time.monotonic())
            try:
                outcome, problem = make(seed, number), ""
            except Finding as finding:
                outcome, problem = "finding", str(finding)
            except BaseException as error:
                outcome, problem = "finding", f"{type(error).__name__}: {error}"
            sys.stdout.write(json.dumps([number, outcome, problem]) + "\n")
            sys.stdout.flush()


class Worker:
    """A process that makes a chunk of calls, and what is known of it.

    Args:
        command: the process, which gets the number of the first call, the one after the last, and the file in which it
            notes what it makes. patience: seconds that one call may take.
    """

    def __init__(
        self, command: Sequence[str], first: int, last: int, folder: str, patience: float = PATIENCE
    ) -> None:
        self.last, self._patience, self._hung = last, patience, False
        self._place = Path(folder) / f"place-{first}"
        self._place.write_bytes(struct.pack("qd", first, time.monotonic()))
        self._output = (Path(folder) / f"output-{first}").open("w+b")
        self._errors = (Path(folder) / f"errors-{first}").open("w+b")
        self._process = subprocess.Popen(
            (*command, str(first), str(last), str(self._place)), stdout=self._output, stderr=self._errors
        )

    def ended(self) -> bool:
        """Whether it has; if its call takes too long, it is made to."""
        if self._process.poll() is not None:
            return True
        _, began = struct.unpack("qd", self._place.read_bytes())
        if time.monotonic() - began <= self._patience:
            return False
        self._hung = True
        self._process.send_signal(signal.SIGABRT)  # faulthandler shows where it is
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return True

    def results(self) -> tuple[list[tuple[int, str, str]], int]:
        """What came of every call, and the number from which on there is more to do."""
        with self._output as output, self._errors as errors:
            output.seek(0)
            errors.seek(0)
            found = [tuple(json.loads(line)) for line in output.read().splitlines()]
            trace = errors.read().decode(errors="replace")
        if self._process.returncode == 0:
            return found, self.last
        number, _ = struct.unpack("qd", self._place.read_bytes())
        status = self._process.returncode
        how = f"no end after {self._patience} s" if self._hung else f"its process ended with status {status}"
        return [
            *(f for f in found if f[0] < number),
            (number, "finding", f"{how}\n{trace[-3000:]}"),
        ], number + 1


def main() -> int:
    """Spread the calls over workers, count what came of them, and tell of every finding."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=module.usable_threads())
    parser.add_argument("--only", type=int, help="make this call alone, here")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.seed, int(options.work[0]), int(options.work[1]), options.work[2])
        return 0
    if options.only is not None:
        _prepare()
        print(make(options.seed, options.only))
        return 0
    command = (sys.executable, __file__, "--seed", str(options.seed), "--work")
    counts: collections.Counter[str] = collections.Counter()
    pending = collections.deque((n, min(n + CHUNK, options.calls)) for n in range(0, options.calls, CHUNK))
    running: list[Worker] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while pending or running:
            while pending and len(running) < options.workers:
                running.append(Worker(command, *pending.popleft(), folder))
            time.sleep(0.02)
            for worker in [w for w in running if w.ended()]:
                running.remove(worker)
                results, there = worker.results()
                if there < worker.last:
                    pending.appendleft((there, worker.last))
                for number, outcome, problem in results:
                    counts[outcome] += 1
                    if outcome == "finding":
                        print(f"call {number}: {problem}")
                        print(
                            f"  again: python {sys.argv[0]} --seed {options.seed} --only {number}", flush=True
                        )
    seconds = time.monotonic() - began
    print(f"{counts.total()} calls in {seconds:.0f} s, seed {options.seed}, {options.workers} workers")
    for outcome, count in counts.most_common():
        print(f"{count:>8}  {outcome}")
    print(f"instruction sets: {', '.join(module.isas()) or 'none'}; findings: {counts['finding']}")
    return 1 if counts["finding"] else 0


if __name__ == "__main__":
    sys.exit(main())
