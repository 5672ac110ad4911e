"""One self-contained HTML file from reports: works offline, asks nobody for anything, and runs no text of a trace.

Names in traces are untrusted. Text is escaped, chart data is JSON that cannot end its element, Vega evaluates its
expressions with an interpreter, and the page's policy allows its own two scripts and no request.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib import metadata, resources
from pathlib import Path
from string import Template

import vl_convert

from profiler.files import write_atomically
from reports.errors import ReportError
from reports.report import Figure, Report, Section, TableView

_LONG_WORD = 30

# Draws the charts one after another, so that a reader sees the first early. A chart that fails says so in its place.
_DRAWING = """
(async () => {
  for (const holder of document.querySelectorAll(".chart")) {
    try {
      const spec = JSON.parse(document.getElementById(holder.dataset.spec).textContent);
      await vegaEmbed(holder, spec, {
        renderer: "svg",
        ast: true,
        actions: { export: true, source: false, compiled: false, editor: false },
      });
      holder.dataset.drawn = "yes";
    } catch (error) {
      holder.textContent = "This chart could not be drawn: " + error;
      console.error(error);
    }
  }
  document.body.dataset.drawn = "all";
})();
"""


def write_report(reports: Sequence[Report], path: Path, title: str) -> Path:
    """Write reports as one HTML file; a failure leaves no partial file.

    Args:
        reports: pages, in order.
        path: of the file; its folder is made where it is not there.
        title: of the whole document.

    Returns:
        The path written.

    Raises:
        ReportError: there is no page, or the file cannot be written.
    """
    if not reports:
        raise ReportError("a report needs at least one page, got none")
    document = render(reports, title)
    try:
        write_atomically(path, lambda temporary: temporary.write_text(document, encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"cannot write report {path}: {error.strerror or error}") from None
    return path


def render(reports: Sequence[Report], title: str) -> str:
    """The document as text."""
    specs: list[str] = []
    pages = "\n".join(_page(report, specs) for report in reports)
    bundle = _bundle()
    navigation = "\n".join(f'<a href="#{_anchor(report.title)}">{escape(report.title)}</a>' for report in reports)
    return _template("report.html").substitute(
        title=escape(title),
        version=escape(metadata.version("roofscape")),
        policy=escape(_policy(bundle, _DRAWING)),
        style=_template("report.css").template,
        navigation=navigation,
        pages=pages,
        specs="\n".join(specs),
        bundle=bundle,
        drawing=_DRAWING,
    )


def _page(report: Report, specs: list[str]) -> str:
    findings = "".join(f"<li>{_unbroken(finding)}</li>\n" for finding in report.findings)
    sections = "\n".join(_section(section, specs) for section in report.sections)
    listed = f'<ul class="findings">\n{findings}</ul>' if findings else ""
    heading = f"<h2>{escape(report.title)}</h2>"
    return f'<section class="page" id="{_anchor(report.title)}">\n{heading}\n{listed}\n{sections}\n</section>'


def _section(section: Section, specs: list[str]) -> str:
    parts = [f"<h3>{escape(section.title)}</h3>"]
    if section.text:
        parts.append(f"<p>{_unbroken(section.text)}</p>")
    parts += [_figure(figure, section.title, specs) for figure in section.figures]
    parts += [_table(table) for table in section.tables]
    return "\n".join(parts)


def _figure(figure: Figure, name: str, specs: list[str]) -> str:
    """A place for the chart; its specification goes to `specs`."""
    identifier = f"spec-{len(specs)}"
    text = safe_json(figure.chart.to_dict(validate=False))
    specs.append(f'<script type="application/json" id="{identifier}">{text}</script>')
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    return f'<figure aria-label="{escape(name)}"><div class="chart" data-spec="{identifier}"></div>{caption}</figure>'


def _table(view: TableView) -> str:
    classes = [' class="number"' if column.is_number else "" for column in view.columns]
    head = "".join(
        f"<th{kind}>{escape(column.header)}</th>" for kind, column in zip(classes, view.columns, strict=True)
    )
    rows = []
    for texts in view.texts():
        cells = "".join(_cell(kind, text) for kind, text in zip(classes, texts, strict=True))
        rows.append(f"<tr>{cells}</tr>")
    caption = f"<caption>{escape(view.title)}</caption>" if view.title else ""
    note = f'<p class="note">{escape(view.note)}</p>' if view.note else ""
    body = "\n".join(rows)
    return (
        f'<div class="table"><table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>{note}'
    )


def _cell(kind: str, text: str) -> str:
    """A cell; words that would not fit, such as a kernel's name, may break anywhere."""
    if not kind and max((len(word) for word in text.split()), default=0) > _LONG_WORD:
        kind = ' class="long"'
    return f"<td{kind}>{escape(text)}</td>"


def _unbroken(text: str) -> str:
    """Escaped text in which no line ends between a figure and its unit."""
    return re.sub(r"(?<=\d) (?=(%|[a-zA-Zµ]?(s|B|J|FLOP)\b))", "\u00a0", escape(text))


def safe_json(value: object) -> str:
    """JSON that may stand inside a script element: no `<`, `>` or `&`, and so no end tag and no comment.

    >>> safe_json({"name": "</script>"})
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and vega-embed in the version that the charts' specifications are written for."""
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub lacks the default
    # No end tag inside: in JavaScript `<\\/` is `</`, in strings and in regular expressions alike.
    return re.sub(r"</(script)", r"<\\/\1", bundle, flags=re.IGNORECASE)


def _policy(*scripts: str) -> str:
    """Content security policy: these scripts by their hashes, styles, pictures made here; no request at all."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _template(name: str) -> Template:
    return Template((resources.files("reports") / name).read_text(encoding="utf-8"))


def _anchor(title: str) -> str:
    return "page-" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
