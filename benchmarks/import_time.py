"""What `import backlit` costs beyond `import numpy`: medians over fresh interpreters.

python benchmarks/import_time.py [--runs 15]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median

LIMIT = 0.2  # seconds over NumPy, at most
CODE = """
import time
start = time.perf_counter()
import numpy
loaded = time.perf_counter()
import backlit
print(loaded - start, time.perf_counter() - loaded)
"""


def main() -> None:
    """Import both in each of so many interpreters, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    runs = []
    for _ in range(parser.parse_args().runs + 1):
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
        runs.append([float(seconds) for seconds in done.stdout.split()])
    names = ("numpy", "backlit over numpy")
    print(f"{'seconds to import':<20}{'median':>10}{'fastest':>10}{'slowest':>10}")
    for name, values in zip(
        names, zip(*runs[1:], strict=True), strict=True
    ):  # the first run fills the disk's cache
        print(
            f"{name:<20}" + "".join(f"{value:>10.3f}" for value in (median(values), min(values), max(values)))
        )
    print(f"At most {LIMIT} over NumPy is asked for.")


if __name__ == "__main__":
    main()
