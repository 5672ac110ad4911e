"""`roofscape recovery`: hidden residues of an antibody filled in by a real masked network, quality against steps."""

from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson

if TYPE_CHECKING:
    from workloads.antibodies.recovery import Recovery


def recovery(
    chain: Annotated[
        list[str] | None, typer.Option(help="trastuzumab or adalimumab; may be repeated (default: trastuzumab).")
    ] = None,
    hidden: Annotated[int, typer.Option(min=1, help="Residues to hide, of about 120.")] = 36,
    steps: Annotated[
        list[int] | None, typer.Option(help="Denoising steps; may be repeated (default: 1, 4, 12).")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="How often residues are hidden, as one batch.")] = 2,
    sampler: Annotated[str, typer.Option(help="A sampler of masked diffusion with steps, by name or file.")] = "llada",
    seed: Annotated[int, typer.Option(help="Seed of what is hidden, and of sampling.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fill in hidden residues of antibodies with AntiBERTy, real weights of others, and count what comes out right.

    Needs `pip install 'roofscape[weights]'`. Residues are hidden at random; guessing finds one in twenty.

      roofscape recovery --chain adalimumab --steps 1 --steps 36
    """
    from dataclasses import asdict

    from reports.console import print_json, print_line, print_table, progress, remark
    from workloads.antibodies.chains import find_chain
    from workloads.antibodies.network import load_antibody_model
    from workloads.antibodies.recovery import Puzzle, measure_recovery
    from workloads.packaged import ANTIBERTY
    from workloads.samplers.registry import load_sampler

    chains, filler = [find_chain(name) for name in chain or ["trastuzumab"]], load_sampler(sampler)
    counts = steps or [each for each in (1, 4, 12) if each <= hidden]
    for each in counts:  # refuse before anything is loaded
        filler.build_options({"gen_length": hidden, "steps": each, "seed": seed})
    puzzles = [Puzzle.draw(found, hidden, draws=draws, seed=seed) for found in chains]
    with progress("loading antiberty"):
        model = load_antibody_model(ANTIBERTY.find("recovery"))
    found_rows = []
    for puzzle in puzzles:
        for each in counts:
            with progress(f"filling in {puzzle.chain.name} in {each} steps"):
                found_rows.append(measure_recovery(model, puzzle, filler, {"steps": each, "seed": seed}))
    if as_json:
        print_json(
            {"sampler": filler.name, "seed": seed, "left_out": model.left_out, "rows": list(map(asdict, found_rows))}
        )
        return
    columns = ("antibody", "forwards", "residues/forward", "framework right", "loops right", "log p/residue", "time")
    title = f"{draws} x {hidden} hidden residues filled in by {filler.name}; all measured"
    print_table(title, columns, [_row(row) for row in found_rows])
    for found in chains:
        print_line(f"{found.name}: {found.source}")
    remark(f"note: antiberty runs as BertForMaskedLM; left out: {', '.join(model.left_out)}")


def _row(row: "Recovery") -> tuple[str, ...]:
    from reports import formatting

    return (
        row.chain,
        str(row.forwards),
        f"{row.hidden / row.forwards:.1f}",
        f"{row.framework_right}/{row.framework}",
        f"{row.loops_right}/{row.loops}",
        f"{row.log_likelihood:.3f}",
        formatting.format_seconds(row.duration_s),
    )
