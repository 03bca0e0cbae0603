"""How soon the page of a running server is there: ``python -m benchmarks.page --url http://127.0.0.1:8000``."""

from __future__ import annotations

import argparse
import shutil
from statistics import median

from playwright.sync_api import Browser, sync_playwright

_PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
    const first = list.getEntriesByName("first-contentful-paint")[0];
    if (first) done(first.startTime);
}).observe({ type: "paint", buffered: true }))"""


def visit(browser: Browser, url: str) -> tuple[float, float, int]:
    """One visit with an empty cache.

    Returns:
        Milliseconds to the first contentful paint and until Run can be pressed; bytes of the page's own files.
    """
    context = browser.new_context()
    page = context.new_page()
    sizes: list[int] = []
    page.on("response", lambda answer: sizes.append(len(answer.body())) if own(answer.url, url) else None)
    page.goto(url)
    page.wait_for_selector("button.run:enabled")
    usable = float(page.evaluate("performance.now()"))
    painted = float(page.evaluate(_PAINT))
    context.close()
    return painted, usable, sum(sizes)


def own(address: str, url: str) -> bool:
    """Whether an address is one of the page's own files."""
    return "/playground/" in address or address.rstrip("/") == url.rstrip("/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of a running server")
    parser.add_argument("--visits", type=int, default=5)
    a = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        visits = [visit(browser, a.url) for _ in range(a.visits)]
        browser.close()
    for name, values in zip(("first paint, ms", "usable, ms", "bytes"), zip(*visits, strict=True), strict=True):
        print(f"{name:16} median {median(values):.0f}, worst {max(values):.0f}")


if __name__ == "__main__":
    main()
