import re
import subprocess
import sys

import pytest

from reports.errors import ReportError
from reports.findings import bound_text
from reports.frames import MAX_ROWS
from reports.pages.registry import build_page, build_reports, page_names
from reports.report import Report
from reports.tables import Tables, build_tables


def test_pages_are_found_in_reading_order():
    assert page_names() == ("overview", "roofline", "breakdown", "timeline", "memory", "provenance")


def test_listing_pages_imports_none_of_them():
    code = "import sys, reports.pages.registry as r; r.page_names(); print('reports.pages.overview' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize("name", page_names())
def test_page_meets_the_contract(name, tables: Tables):
    report = build_page(name, tables)
    assert isinstance(report, Report)
    assert report.title
    assert report.findings
    for finding in report.findings:
        assert finding.endswith(".")
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b", finding)
    for section in report.sections:
        assert section.title
        assert section.text or section.figures or section.tables
        for figure in section.figures:
            for rows in figure.chart.to_dict()["datasets"].values():
                assert len(rows) <= MAX_ROWS
        for view in section.tables:
            for texts in view.texts():
                assert len(texts) == len(view.columns)
                assert not {"nan", "None", "inf", "<NA>"} & set(texts)


@pytest.mark.parametrize("name", page_names())
def test_page_can_be_built_from_one_plain_capture(name, hostile):
    assert build_page(name, build_tables([hostile])).findings


def test_unknown_page_lists_the_known():
    with pytest.raises(ReportError, match="unknown page 'front'; known: overview, roofline"):
        build_page("front", None)  # type: ignore[arg-type]


def test_only_the_pages_asked_for_are_built(tables):
    assert [report.title for report in build_reports(tables, ["provenance"])] == ["Provenance"]


def test_overview_says_what_a_step_is_bound_by_and_what_its_bytes_are(tables):
    findings = "\n".join(build_page("overview", tables).findings)
    # (1024 + 100) FLOPs over 1,648 bytes; 256 bytes of them are weights, 400 KV cache.
    assert (
        "One decode step of Toy decoding has 0.682 FLOP/byte on toy: memory-bound (dram); weights are 16 % of its "
        in (findings)
    )
    assert "1.65 kB, the KV cache 24 %." in findings


def test_overview_compares_the_paradigms(tables):
    row = {r["subject"]: r for r in tables.summary.to_dict("records")}
    factor = (row["Toy denoising"]["simulated_s"] / 8) / (row["Toy decoding"]["simulated_s"] / 3)
    (finding,) = [text for text in build_page("overview", tables).findings if text.startswith("Per generated token")]
    assert f"(diffusion over autoregressive: {factor:.3f}x)" in finding


def test_overview_names_what_is_unknown(tables, hostile):
    findings = build_page("overview", tables).findings
    assert any(hostile.label in text and "have unknown FLOPs or bytes" in text for text in findings)
    assert any(": simulated " in text and ", between " in text for text in findings)


def test_measured_beside_the_bound(tables):
    findings = build_page("overview", tables).findings
    # 494.4 ns of 18 us
    assert any(
        "Toy decoding was measured at 18.0 µs on toy device, where the roofline of toy needs 2.7 %" in t
        for t in findings
    )
    # Each kind takes 6 us; bound at 10 GB/s are 3 x 40 ns (copy), 3 x 44.8 ns (gemm) and 3 x 80 ns (pointwise).
    assert any("Of the 17.5 µs above the roofline: copy 34 %, gemm 34 %, pointwise 33 %." in text for text in findings)
    assert any("which is not toy, the chip that it is held against here" in text for text in findings)


def test_imported_trace_claims_nothing_about_weights(decoding):
    from dataclasses import replace

    provenance = replace(decoding.trace.provenance, source="import kineto")
    imported = replace(decoding, trace=replace(decoding.trace, provenance=provenance))
    findings = build_page("overview", build_tables([imported])).findings
    assert any("does not record which bytes are weights" in text for text in findings)
    assert not any("weights are" in text for text in findings)


@pytest.mark.parametrize(
    ("resource", "text"), [("vector", "compute-bound (vector units)"), ("unknown", "its bound is unknown")]
)
def test_bound_texts(resource, text):
    assert bound_text(resource) == text
