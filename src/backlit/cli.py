"""The command line: each command is its arguments and one call into the library."""

from __future__ import annotations

import argparse
import difflib
import importlib.metadata
import io
import os
import platform
import re
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import backlit

_ERROR, _INTERRUPTED, _PIPE = 2, 130, 141  # exit codes; the last two are 128 + the number of the signal
_FORCING = ("BACKLIT_ENGINE", "BACKLIT_ALGORITHM", "BACKLIT_ISA")
_TYPICAL = "conv2d:n1,c16-16,i8x8,k3x3"  # a problem that every engine and algorithm serves
_EXTRAS = {
    "report": "matplotlib",
    "data": "Pillow",
    "onnx": "onnx",
    "sklearn": "scikit-learn",
    "torch": "torch",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 right, 1 a check failed, 2 a usage error, 130 Ctrl-C.

    Args:
        arguments: the words after `backlit`; None takes those of the process.
    """
    try:
        for stream in (
            sys.stdout,
            sys.stderr,
        ):  # a name that the terminal's encoding lacks is shown by its numbers
            if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
                stream.reconfigure(errors="backslashreplace")
        words = list(sys.argv[1:] if arguments is None else arguments)
        return _run(_parsed(words), words)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    finally:
        if arguments is None:  # the process is about to end, and has nothing left that Ctrl-C could stop
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(options: argparse.Namespace, words: list[str]) -> int:
    """The exit code of a command, once its errors have been said in a line."""
    try:
        code: int = options.run(options, words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has gone: nothing more can be said on stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE
    except (ArithmeticError, ImportError, MemoryError, OSError, TypeError, ValueError) as error:
        if options.debug:
            traceback.print_exc()
            return _ERROR
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"backlit {options.command}: error: {message}", file=sys.stderr)
        return _ERROR


def _parsed(words: list[str]) -> argparse.Namespace:
    """The options that the words name; the process ends with a usage error where they are wrong."""
    parser, commands = _parser()
    options, left = parser.parse_known_args(words)
    if left:
        _refuse(left, commands[options.command])
    return options


def _refuse(left: list[str], command: argparse.ArgumentParser) -> NoReturn:
    """End with a usage error about the words that a command has no place for."""
    unknown = [word.partition("=")[0] for word in left if word.startswith("-") and word != "--"]
    if not unknown:
        command.error(f"too many words: {shlex.join(left)}")
    known = re.findall(r"--[a-z][a-z-]*", command.format_usage())
    near = difflib.get_close_matches(unknown[0], known, 1)
    hint = f"did you mean {near[0]}?" if near else f"`{command.prog} --help` lists those there are"
    command.error(f"unknown option {unknown[0]}: {hint}")


def _train(options: argparse.Namespace, words: list[str]) -> int:
    """`backlit train`."""
    from backlit.experiment import run_experiment

    checkpoint = os.path.join(options.out, "checkpoint.safetensors")  # noqa: PTH118  # as the user wrote it
    try:
        outcome = run_experiment(
            options.data,
            model=options.model,
            epochs=options.epochs,
            batch_size=options.batch_size,
            lr=options.lr,
            optimizer=options.optimizer,
            seed=options.seed,
            out=options.out,
            resume=options.resume,
            report=not options.no_report,
            progress=not options.quiet,
            say=(lambda line: None) if options.quiet else lambda line: print(line, flush=True),
            warn=lambda line: print(f"backlit train: warning: {line}", file=sys.stderr, flush=True),
        )
    except KeyboardInterrupt:
        outcome = None
    if outcome is None or outcome.accuracy is None:
        print(_how_to_resume(checkpoint, words), file=sys.stderr)
        return _INTERRUPTED
    print(f"test accuracy {outcome.accuracy:.4f}")
    print(f"model    {outcome.model}")
    print(f"history  {outcome.csv}")
    print(f"report   {outcome.report}" if outcome.report else f"report   none, as {outcome.without_report}")
    return 0


def _how_to_resume(checkpoint: str, words: list[str]) -> str:
    from backlit.experiment import done

    state = done(checkpoint)
    if state is None:
        return "interrupted before there was a checkpoint"
    command = shlex.join([*_program(), *(word for word in words if word != "--resume"), "--resume"])
    return f"interrupted after {state[0]} of {state[1]} epochs; the run is kept in {checkpoint}: go on with `{command}`"


def _program() -> list[str]:
    """The words that this command was called by."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return ["python", "-m", "backlit"]
    return ["backlit" if shutil.which("backlit") == called else called]


def _bench(options: argparse.Namespace, words: list[str]) -> int:
    """`backlit bench`."""
    from backlit.bench import report_bench

    rows = report_bench(
        options.descriptors,
        suites=options.suite,
        family=options.family,
        against=options.against,
        threads=options.threads,
        layout=options.layout,
        passes=options.passes.split(","),
        seconds=options.seconds,
        markdown=options.markdown,
        json=options.json,
        csv=options.csv,
    )
    return int(any(row.trouble for row in rows))


def _engines(options: argparse.Namespace, words: list[str]) -> int:
    """`backlit engines`."""
    from backlit import engines

    if options.descriptor is None:
        print(engines.offers())
    else:
        print(engines.explain_choice(options.descriptor, options.dtype, options.layout))
    return 0


def _info(options: argparse.Namespace, words: list[str]) -> int:
    """`backlit info`."""
    import numpy as np

    from backlit import engines
    from backlit.engines import module

    machine = engines.processor().facts()
    facts = {
        "backlit": backlit.__version__,
        "Python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "NumPy": np.__version__,
        "engines": ", ".join(engines.names()),
        "native": "available" if module.available() else module.why_unavailable(),
        "forced": _forced(),
        **machine,
        "threads": f"{engines.get_num_threads()} in use, {machine['threads']}",
        **{f"[{extra}]": _version(package) for extra, package in _EXTRAS.items()},
    }
    for name, fact in facts.items():
        print(f"{name:10}{fact}")
    return 0


def _forced() -> str:
    """What the environment forces, once it is known that the engines have it."""
    from backlit import engines

    engines.explain_choice(_TYPICAL)  # an error where they have not
    forced = [f"{name}={os.environ[name]}" for name in _FORCING if os.environ.get(name)]
    return ", ".join(forced) or f"nothing; {', '.join(_FORCING)} can force a choice"


def _version(package: str) -> str:
    """The version of an extra's package, or that there is none."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} is not installed"


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of all commands, and that of each by its name."""
    from backlit import models

    parser = argparse.ArgumentParser(
        prog="backlit",
        description="Convolutional backpropagation you can see through.",
        epilog="example:\n  backlit train\n\n`backlit COMMAND --help` describes a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # an abbreviation would mean something else once another option begins like it
    )
    parser.add_argument("--version", action="version", version=f"backlit {backlit.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    train = _command(
        commands,
        "train",
        _train,
        "train a network on images, test it, and write model, history and report",
        "backlit train                                   the bundled handwritten digits\n"
        "  backlit train images.npz --model lenet5 --out run\n"
        "  backlit train --resume                          go on after Ctrl-C or a crash",
    )
    train.add_argument(
        "data", nargs="?", default="digits", metavar="DATA",
        help="'digits', which are bundled (default), or an .npz file with the arrays x and y, or x_train, y_train, "
        "x_test and y_test",
    )  # fmt: skip
    train.add_argument(
        "--model", default="digits", choices=models.names(), help="the network (default digits)"
    )
    train.add_argument(
        "--epochs", type=int, default=20, metavar="N", help="times through the data (default 20)"
    )
    train.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="images in a step (default 64)"
    )
    train.add_argument(
        "--lr", type=float, default=3e-3, metavar="LR", help="the learning rate (default 0.003)"
    )
    train.add_argument("--optimizer", default="adam", choices=["adam", "adamw", "sgd"], help="(default adam)")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="of all random numbers (default 0)")
    train.add_argument(
        "--out", default="backlit-run", metavar="FOLDER", help="for the files (default backlit-run)"
    )
    train.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint in FOLDER, to the same bits"
    )
    train.add_argument("--no-report", action="store_true", help="write no report.html")
    train.add_argument("--quiet", action="store_true", help="print the result alone")
    bench = _command(
        commands,
        "bench",
        _bench,
        "time the three passes of convolutions, beside PyTorch's",
        "backlit bench conv2d:n16,c64-64,i56x56,k3x3,p1\n"
        "  backlit bench --suite quick --against torch\n"
        "  backlit bench --suite layers --family resnet --against torch --csv rows.csv\n"
        "  BACKLIT_ISA=avx2 backlit bench --suite quick",
    )
    bench.add_argument("descriptors", nargs="*", metavar="DESCRIPTOR", help="such as the first example's")
    bench.add_argument(
        "--suite", action="append", default=[], metavar="NAME",
        help="layers of well-known networks: quick, layers, transposed or all; may be given more than once",
    )  # fmt: skip
    bench.add_argument(
        "--family", metavar="TEXT", help="of these, only layers of networks whose names contain it"
    )
    bench.add_argument(
        "--against", metavar="FRAMEWORK",
        help="torch: time PyTorch beside, in processes of its own, and compare the results",
    )  # fmt: skip
    bench.add_argument(
        "--threads", type=int, metavar="N", help="of either side (default: all that are usable)"
    )
    bench.add_argument(
        "--layout", metavar="NAME", help="ours: channels_first or channels_last (default: the faster one)"
    )
    bench.add_argument(
        "--passes", default="forward,dx,dw", metavar="LIST", help="which to time (default forward,dx,dw)"
    )
    bench.add_argument(
        "--seconds", type=float, default=0.2, metavar="S",
        help="to measure each side in each layout, for each pass (default 0.2)",
    )  # fmt: skip
    bench.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    bench.add_argument("--json", metavar="FILE", help="keep the rows and the machine as JSON")
    bench.add_argument("--csv", metavar="FILE", help="keep the rows as CSV")
    choice = _command(
        commands,
        "engines",
        _engines,
        "list engines, algorithms and instruction sets, or tell which would compute a convolution, and why",
        "backlit engines\n  backlit engines conv2d:n16,c64-64,i56x56,k3x3,p1 --layout channels_last",
    )
    choice.add_argument("descriptor", nargs="?", metavar="DESCRIPTOR", help="such as the second example's")
    choice.add_argument("--dtype", default="float32", metavar="NAME", help="float32 (default) or float64")
    choice.add_argument(
        "--layout", default="channels_first", metavar="NAME", help="channels_first (default) or channels_last"
    )
    _command(commands, "info", _info, "show versions, engines and the machine", "backlit info")
    return parser, commands.choices


def _command(commands: Any, name: str, run: Callable[..., int], description: str, example: str) -> Any:
    """A command with what all have."""
    command = commands.add_parser(
        name,
        help=description,
        description=f"{description[0].upper()}{description[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # an abbreviation would mean something else once another option begins like it
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(run=run)
    return command
