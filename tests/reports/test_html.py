import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from reports.errors import ReportError
from reports.html import render, safe_json, write_report
from reports.pages.registry import build_reports

HOSTILE_OP = "<script>alert(1)</script>"
HOSTILE_KERNEL = "</script><img src=x onerror=alert(2)>"


class Collector(HTMLParser):
    """Every tag with its attributes, and the text of each script and of the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)
        elif "style" not in self._open:
            self.text.append(data)


@pytest.fixture(scope="module")
def document(tables) -> str:
    return render(build_reports(tables), "Toys & <friends>")


@pytest.fixture(scope="module")
def parsed(document) -> Collector:
    collector = Collector()
    collector.feed(document)
    return collector


def test_names_from_traces_are_text(parsed: Collector):
    text = "".join(parsed.text)
    assert HOSTILE_OP in text
    assert HOSTILE_KERNEL in text
    assert "<i>phase</i>" in text
    assert "Toys & <friends>" in text
    assert not [tag for tag, _ in parsed.tags if tag in ("img", "b", "i", "friends")]


def test_only_two_scripts_can_run_and_the_policy_names_them(parsed: Collector):
    runnable = [text for attrs, text in parsed.scripts if attrs.get("type") != "application/json"]
    (policy,) = [attrs["content"] for tag, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    allowed = re.search(r"script-src ([^;]*);", policy).group(1).split()
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in runnable]
    assert allowed == [f"'sha256-{digest}'" for digest in digests]
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy


def test_no_element_asks_for_anything(parsed: Collector):
    for tag, attrs in parsed.tags:
        assert not set(attrs) & {"src", "srcset", "action", "data", "poster"}, tag
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        if "href" in attrs:
            assert attrs["href"].startswith("#")


def test_every_chart_has_its_specification(parsed: Collector):
    wanted = [attrs["data-spec"] for _, attrs in parsed.tags if "data-spec" in attrs]
    specs = {attrs["id"]: json.loads(text) for attrs, text in parsed.scripts if attrs.get("type") == "application/json"}
    assert wanted
    assert sorted(wanted) == sorted(specs)
    assert all("$schema" in spec for spec in specs.values())


def test_navigation_reaches_every_page(parsed: Collector):
    identifiers = {attrs["id"] for tag, attrs in parsed.tags if tag == "section"}
    links = {attrs["href"].removeprefix("#") for tag, attrs in parsed.tags if tag == "a"}
    assert links == identifiers
    assert len(links) == 6


def test_json_cannot_end_its_element():
    value = {"name": "</script><!--<script>&", "other": "\u2028"}
    text = safe_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_json_without_a_meaning_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        safe_json({"x": float("nan")})


def test_file_is_self_contained_and_small(tables, tmp_path):
    path = write_report(build_reports(tables), tmp_path / "new" / "report.html", "Toys")
    content = path.read_bytes()
    assert content.startswith(b"<!DOCTYPE html>")
    assert 800_000 < len(content) < 8_000_000
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_failed_write_leaves_no_partial_file(tables, tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(ReportError, match=r"cannot write report .*report\.html: No space left on device"):
        write_report(build_reports(tables, ["provenance"]), target, "Toys")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    assert target.read_text() == "old"


def test_report_over_a_folder_is_one_clear_error(tables, tmp_path):
    with pytest.raises(ReportError, match="cannot write report"):
        write_report(build_reports(tables, ["provenance"]), tmp_path, "Toys")


def test_no_page_is_refused(tmp_path):
    with pytest.raises(ReportError, match="at least one page"):
        write_report([], tmp_path / "report.html", "Toys")


def test_same_tables_give_the_same_bytes(tables, document):
    assert render(build_reports(tables), "Toys & <friends>") == document
