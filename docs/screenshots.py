"""The pictures of the documents, taken from a training report in headless Chromium.

    backlit train && python docs/screenshots.py backlit-run/report.html

Needs playwright (`pip install playwright`) and Chromium. The report is that of `backlit train` with its defaults.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent / "images"
MARGIN = 20  # px
# file -> width of the page in px, a place in it, the part of it that is to be seen
PICTURES = {
    "report.png": (1040, "", "#learning"),
    "backwards.png": (1040, "#step-16", ".stepper"),
    "convolution.png": (1200, "#step-15", "#step-15 .sum"),
}


def main() -> None:
    """Open the report once for each picture and take it."""
    report = Path(sys.argv[1]).resolve()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (width, place, part) in PICTURES.items():
            page = browser.new_page(
                viewport={"width": width, "height": 1000}, color_scheme="light", reduced_motion="reduce"
            )
            page.goto(report.as_uri() + place)
            page.wait_for_timeout(300)  # ms: until the step that the address names is shown
            top, bottom = page.locator(part).first.evaluate(
                "e => [e.getBoundingClientRect().top, e.getBoundingClientRect().bottom].map(y => y + scrollY)"
            )
            first = top - MARGIN if place else 0  # without a place: from the top of the page
            clip = {"x": 0, "y": first, "width": width, "height": bottom + MARGIN - first}
            page.screenshot(path=FOLDER / name, full_page=True, clip=clip)
            print(f"{name}: {(FOLDER / name).stat().st_size / 1024:.0f} KB")
        browser.close()


if __name__ == "__main__":
    main()
