"""A headless Chromium of this machine, and a page opened in it without a network."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_ARGUMENTS = (
    "--no-sandbox --headless --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run"
).split()
WIDTH = 1280
_PATIENCE_S = 300.0  # until something that does not come counts as missing; a busy machine takes its time


@contextmanager
def running_browser() -> Iterator[object]:
    """Chromium; without it, or without Playwright, the test is skipped aloud."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    program = next((found for found in map(shutil.which, _NAMES) if found), None)
    if program is None:
        pytest.skip(f"the browser tests need one of {', '.join(_NAMES)} on PATH; none was found")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=_ARGUMENTS, timeout=1e3 * _PATIENCE_S)
        yield browser
        browser.close()


class Visit:
    """An open report and what the browser said and asked for."""

    def __init__(self, browser, path: Path, width: int = WIDTH) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        self.context.set_default_timeout(1e3 * _PATIENCE_S)
        self.page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("console", lambda message: self.messages.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.messages.append(f"error: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.address = path.resolve().as_uri()
        self.page.goto(self.address)
        self.page.wait_for_selector("body[data-drawn=all]")

    def eventually(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds: charts draw themselves again in their own time."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, "it does not come to hold"
            self.page.wait_for_timeout(50)


class Designs:
    """The chart of designs of an open page: its menus, its points and its brush."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.chart = visit.page.query_selector(".chart:has(select[name=chosen_workload])")
        self.chart.scroll_into_view_if_needed()

    def menus(self) -> dict[str, list[str]]:
        """What can be chosen, by name of the menu."""
        found = {}
        for menu in self.chart.query_selector_all("select"):
            options = [option.get_attribute("value") for option in menu.query_selector_all("option")]
            found[menu.get_attribute("name").removeprefix("chosen_")] = options
        return found

    def choose(self, **values: str) -> None:
        for name, value in values.items():
            self.chart.query_selector(f"select[name=chosen_{name}]").select_option(value)

    def points(self, view: int = 0) -> list[dict[str, str]]:
        """Points of one of the charts side by side: what their labels say, their color and where they are."""
        group = self.chart.query_selector_all("svg.marks g.mark-symbol.role-mark")[view]
        rows = group.evaluate(
            """group => [...group.querySelectorAll("path")].map(point => {
                const box = point.getBoundingClientRect();
                return [point.getAttribute("aria-label"), point.getAttribute("fill"),
                        box.x + box.width / 2, box.y + box.height / 2];
            })"""
        )
        return [
            {**dict(part.split(": ", 1) for part in label.split("; ")), "fill": fill, "x": x, "y": y}
            for label, fill, x, y in rows
        ]

    def tooltip(self, point: dict) -> list[str]:
        """Words that hovering over a point shows, once they are of its design."""
        self.visit.page.mouse.move(0, 0)  # or what is shown of another point may lie over this one
        self.visit.page.mouse.move(point["x"], point["y"])
        words = []

        def is_its() -> bool:
            shown = self.visit.page.query_selector("#vg-tooltip-element.visible")
            words[:] = shown.inner_text().split() if shown else []
            return "design" in words and words[words.index("design") + 1] == point["design"]

        self.visit.eventually(is_its)
        return words

    def brush(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.visit.page.mouse
        mouse.move(*begin)
        mouse.down()
        mouse.move(*end, steps=5)
        mouse.up()
