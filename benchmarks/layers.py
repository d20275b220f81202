"""The table of the documents: layers of well-known networks, our three passes beside PyTorch's, as Markdown.

    python benchmarks/layers.py [--suite layers] [--family TEXT] [--threads 4]

It is `backlit bench --suite layers --against torch --markdown`, without PyTorch where that is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys

from backlit.bench import report_bench


def main() -> int:
    """Measure and print; 1 where a result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="layers")
    parser.add_argument("--family", default=None)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    against = "torch" if importlib.util.find_spec("torch") else None
    rows = report_bench(
        suites=[options.suite], family=options.family, threads=options.threads, against=against, markdown=True
    )
    return int(any(row.trouble for row in rows))


if __name__ == "__main__":
    sys.exit(main())
