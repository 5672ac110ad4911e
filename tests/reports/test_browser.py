"""The report in a real headless Chromium, without a network."""

from collections.abc import Iterator

import pytest
from browser_visit import WIDTH, Visit

from reports.html import write_report
from reports.pages.registry import build_reports
from reports.report import Report
from reports.tables import Tables

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# A4 landscape less 12 mm margins, at 96 CSS pixels an inch.
_PRINT_WIDTH = 1031


@pytest.fixture(scope="module")
def reports(tables: Tables) -> tuple[Report, ...]:
    return build_reports(tables)


@pytest.fixture(scope="module")
def visit(browser, reports, tmp_path_factory) -> Iterator[Visit]:
    path = write_report(reports, tmp_path_factory.mktemp("report") / "report.html", "Toy report")
    opened = Visit(browser, path)
    yield opened
    opened.context.close()


def test_console_is_silent_and_nothing_is_asked_for(visit: Visit):
    assert visit.messages == []
    assert visit.requests == [visit.address]
    assert visit.dialogs == []


def test_every_chart_is_drawn_with_marks(visit: Visit, reports):
    charts = visit.page.query_selector_all(".chart")
    assert len(charts) == sum(len(section.figures) for report in reports for section in report.sections)
    for chart in charts:
        assert chart.get_attribute("data-drawn") == "yes"
        marks = chart.query_selector_all("svg.marks .mark-symbol path, svg.marks .mark-rect path")
        boxes = [box for box in (mark.bounding_box() for mark in marks) if box]
        assert any(box["width"] > 0 and box["height"] > 0 for box in boxes)


def test_findings_and_hostile_names_are_shown_as_text(visit: Visit, reports):
    text = visit.page.inner_text("body").replace("\u00a0", " ")
    for report in reports:
        for finding in report.findings:
            assert finding in text
    assert "custom::<script>alert(1)</script>" in text
    assert "</script><img src=x onerror=alert(2)>" in text
    assert visit.page.query_selector("main img") is None


def test_tooltip_appears_over_a_point(visit: Visit):
    chart = visit.page.query_selector("#page-roofline .chart")
    chart.scroll_into_view_if_needed()
    point = chart.query_selector("svg.marks .mark-symbol.role-mark path")
    box = point.bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.page.wait_for_selector("#vg-tooltip-element.visible")
    tooltip = visit.page.inner_text("#vg-tooltip-element")
    assert "intensity" in tooltip
    assert "FLOP/byte" in tooltip
    visit.page.mouse.move(0, 0)


def test_wheel_scrolls_the_page_over_a_timeline(visit: Visit):
    chart = visit.page.query_selector_all("#page-simulated-timeline .chart")[-1]
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    visit.page.mouse.move(box["x"] + 200, box["y"] + 60)
    before = visit.page.evaluate("window.scrollY")
    visit.page.mouse.wheel(0, -300)
    visit.page.wait_for_function("before => window.scrollY < before", arg=before)


def test_page_fits_a_laptop(visit: Visit):
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    scrolling = (
        """[...document.querySelectorAll(".table, figure")].filter(box => box.scrollWidth > box.clientWidth).length"""
    )
    assert visit.page.evaluate(scrolling) == 0


def test_nothing_is_cut_off_in_print(browser, reports, tmp_path):
    printed = Visit(browser, write_report(reports, tmp_path / "report.html", "Toy report"), width=_PRINT_WIDTH)
    printed.page.emulate_media(media="print")
    too_wide = printed.page.evaluate(
        f"""[...document.querySelectorAll("table, .chart svg.marks")]
            .filter(part => part.getBoundingClientRect().right > {_PRINT_WIDTH} + 1).length"""
    )
    assert too_wide == 0
    assert not printed.page.is_visible("nav")
    assert printed.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    printed.context.close()
