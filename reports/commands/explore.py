"""`roofscape explore`: the designs of a space that are worth building, for a mix of workloads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson, writable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.search import Batch, Proposals
    from reports.exploration import Exploration

_SEARCH = "Search"
_SCALE = "Scale"


def explore(
    space: Annotated[Path, typer.Argument(help="Space file: parameters, workloads, objectives, constraints (TOML).")],
    sampling: Annotated[
        str, typer.Option(help="grid (all designs), sobol (spread evenly) or nsga2 (search).", rich_help_panel=_SEARCH)
    ] = "",
    designs: Annotated[
        int | None, typer.Option(help="How many designs to evaluate; a grid takes all.", rich_help_panel=_SEARCH)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.", rich_help_panel=_SEARCH)] = 0,
    store: Annotated[
        Path | None,
        typer.Option(
            callback=writable, help="SQLite file that keeps every design as it is found (default: beside the report)."
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="local or ray.", rich_help_panel=_SCALE)] = "local",
    processes: Annotated[int | None, typer.Option(help="Workers (default: all cores).", rich_help_panel=_SCALE)] = None,
    sensitivity: Annotated[
        int, typer.Option(help="Base samples of Sobol indices over the whole space, a power of two; 0 for none.")
    ] = 512,
    finalists: Annotated[bool, typer.Option(help="Play the best designs again by the event engine.")] = True,
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="The HTML page to write.")] = Path(
        "out/explore.html"
    ),
    csv: Annotated[Path | None, typer.Option(callback=writable, help="Also write the front as CSV.")] = None,
    as_json: AsJson = False,
) -> None:
    """Search a space of chips for the designs that no other beats, and say what each parameter is worth.

    Stopped at any time it goes on where it was: every design is kept in the store as it is found, and two runs of the
    same space may share a store.

      roofscape explore space.toml

      roofscape explore space.toml --sampling nsga2 --designs 5000 --json
    """
    from explorer.pareto import require_hypervolume
    from explorer.search import propose
    from explorer.sensitivity import check_samples
    from explorer.space_file import load_space
    from reports.console import print_json, print_line
    from reports.exploration import Exploration
    from reports.exploration_page import build_exploration_page, print_exploration
    from reports.html import write_report
    from reports.prepared import prepare_evaluator

    asked = load_space(space)
    require_hypervolume(len(asked.goals.objectives))
    if sensitivity:
        check_samples(sensitivity)
    strategy = sampling or ("grid" if designs is None and asked.space.size <= _GRID_DESIGNS else "sobol")
    count = designs if designs is not None or strategy == "grid" else _GRID_DESIGNS
    proposals = propose(strategy, asked.space, designs=count, seed=seed)
    folder = output.parent
    evaluate = prepare_evaluator(asked, folder / "traces")
    exploration = Exploration(asked=asked, evaluator=evaluate, strategy=strategy, seed=seed)
    path = store or output.with_suffix(".sqlite")
    total = asked.space.size if count is None else min(count, asked.space.size)
    _search(exploration, proposals, total, path, engine=engine, processes=processes)
    if sensitivity:
        _weigh_space(exploration, sensitivity, engine=engine, processes=processes)
    if finalists:
        _replay(exploration, folder / "traces")
    write_report((build_exploration_page(exploration),), output, title=asked.title)
    front = exploration.front_frame()
    if csv is not None:
        from profiler.files import write_atomically

        write_atomically(csv, lambda temporary: front.to_csv(temporary, index=False))
    if as_json:
        print_json(exploration.as_json())
        return
    print_exploration(exploration)
    print_line(f"wrote {output}; all designs are kept in {path}")


_GRID_DESIGNS = 100_000


def _search(
    exploration: "Exploration", proposals: "Proposals", total: int, path: Path, *, engine: str, processes: int | None
) -> None:
    """Evaluate what is proposed, each design kept in the store at `path` as it is found."""
    from explorer.parallel import evaluator as workers
    from explorer.run_key import code_version, run_key
    from explorer.search import explore as search
    from explorer.store import Store
    from reports.exploration import describe

    asked = exploration.asked
    key = run_key(asked.space, {"asked": describe(asked), "code": code_version()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with Store(path) as kept, workers(exploration.evaluator, engine=engine, processes=processes) as shared:
        run = kept.run(key, asked.space, description=asked.title)
        for batch in _watched(search(asked.space, shared, proposals, memory=run), total):
            exploration.add(batch)
        exploration.finish(kept=run)


def _watched(batches: "Iterator[Batch]", total: int) -> "Iterator[Batch]":
    """The same batches, behind a progress bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from reports.console import ERR

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=ERR, transient=True) as bar:
        task = bar.add_task("designs", total=total)
        for batch in batches:
            yield batch
            bar.update(task, completed=min(batch.evaluations, total))


def _weigh_space(exploration: "Exploration", samples: int, *, engine: str, processes: int | None) -> None:
    from explorer.evaluator import without_limits
    from explorer.parallel import evaluator as workers
    from reports.console import progress

    everywhere = without_limits(exploration.evaluator)
    with progress("sensitivity over the space"), workers(everywhere, engine=engine, processes=processes) as whole:
        exploration.weigh_space(whole, samples)


def _replay(exploration: "Exploration", folder: Path) -> None:
    from reports.console import progress

    for what, step in exploration.replays(folder):
        with progress(f"event engine: {what}"):
            step()
