"""Which chip would you build for parallel denoising? Works the question through: space, workloads, results, report.

python studies/denoising-chip/study.py [-o FOLDER] [--designs N]
"""

import argparse
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import answers
import evidence
import pages

from explorer.evaluator import Evaluator, constants_of
from explorer.jobs import build_jobs
from explorer.mixes import design_table
from explorer.parallel import evaluator as workers
from explorer.result import join
from explorer.space_file import load_space
from explorer.technology import load_technology
from profiler.files import write_atomically
from reports.html import write_report

HERE = Path(__file__).parent
BLOCK = 1_024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/denoising-chip"))
    parser.add_argument("--designs", type=int, help="Only so many, spread evenly, for a quick look [default: all].")
    parser.add_argument("--markdown", type=Path, help="Also write the findings as Markdown.")
    arguments = parser.parse_args()
    asked = load_space(HERE / "space.toml")
    traces = arguments.output / "traces"
    jobs = []
    for what, job in build_jobs(asked.workloads, traces):
        print(f"workload {what}", flush=True)
        jobs += [job] if job is not None else []
    evaluate = Evaluator(
        template=asked.template,
        technology=load_technology(),
        jobs=tuple(jobs),
        goals=asked.goals,
        fixed=asked.fixed,
        calibration=constants_of(asked.template),
    )
    index = asked.space.sobol(arguments.designs or asked.space.size, seed=0)
    parts = []
    with workers(evaluate) as shared:
        for start in range(0, len(index), BLOCK):
            parts.append(shared(asked.space.decode(index[start : start + BLOCK])))
            print(f"{min(start + BLOCK, len(index)):,} of {len(index):,} designs", flush=True)
    paradigms = {request.name: request.paradigm for request in asked.workloads}
    table = design_table(asked.space, index, join(parts), paradigms)
    found = answers.answer(table, evaluate, designs=len(index))
    print("steps over batch, context and experts", flush=True)
    with ExitStack() as stack:
        steps = evidence.step_rows(table, evaluate, lambda steps: stack.enter_context(workers(steps)))
    played = []
    for row in evidence.played_rows(asked, table, evaluate, answers.finalists(found), traces):
        print(f"event engine: {row['job']} on the best chip for {row['chip for']}", flush=True)
        played.append(row)
    found = replace(found, steps=steps, played=played, trust=answers.trust(played))
    text = json.dumps(found.as_json(), indent=1) + "\n"
    write_atomically(arguments.output / "results.json", lambda path: path.write_text(text, encoding="utf-8"))
    page = arguments.output / "report.html"
    write_report((pages.build(found, table),), page, title=asked.title)
    if arguments.markdown is not None:
        sentences = "".join(f"- {sentence}\n" for sentence in pages.findings(found))
        findings = f"# Findings\n\nWritten by `make study`; the report has the figures behind them.\n\n{sentences}"
        write_atomically(arguments.markdown, lambda path: path.write_text(findings, encoding="utf-8"))
    print(f"wrote {arguments.output / 'results.json'} and {page}")


if __name__ == "__main__":
    main()
