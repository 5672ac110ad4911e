"""What a captured program generated: network evaluations, tokens and rows, in words and for scripts."""

from typing import Any

from reports.formatting import format_count, format_number


def generation_json(made: object) -> dict[str, Any] | None:
    """Figures of what a sampler returned, None where the program was no sampler.

    Args:
        made: a `Generation` of text or an `ImageGeneration`; anything else is no generation.
    """
    rows = getattr(made, "rows_per_forward", None)
    if not isinstance(rows, tuple) or not rows:
        return None
    figures: dict[str, Any] = {"forwards": len(rows), "rows": sum(rows)}
    committed = getattr(made, "committed_per_forward", None)
    if isinstance(committed, tuple):
        sequences = made.tokens.shape[0]  # type: ignore[attr-defined]  # only `workloads` knows the types
        figures |= {
            "sequences": sequences,
            "tokens": sum(committed),
            "tokens_per_forward": sum(committed) / (sequences * len(rows)),
        }
    drafted = getattr(made, "draft_rows_per_forward", None)
    if isinstance(drafted, tuple):
        figures |= {
            "draft_forwards": len(drafted),
            "draft_rows": sum(drafted),
            "drafts": max(0, len(drafted) - 1),  # the first of them reads the prompt
            "drafts_accepted": sum(tokens // figures["sequences"] - 1 for tokens in committed[1:]) if committed else 0,
        }
    return figures


def generation_line(made: object) -> str:
    """The same as one sentence, empty where the program was no sampler."""
    figures = generation_json(made)
    if figures is None:
        return ""
    rows = f"{format_count(figures['rows'])} rows through the network"
    forwards = f"{format_count(figures['forwards'])} forward{'s' if figures['forwards'] > 1 else ''}"
    if "tokens" not in figures:
        return f"generated in {forwards}, {rows}"
    line = (
        f"{format_count(figures['tokens'])} tokens in {forwards} ({format_number(figures['tokens_per_forward'])} a "
        f"forward and sequence), {rows}"
    )
    if "draft_forwards" in figures:
        taken = "taken to be accepted" if made.tokens.device.type == "meta" else "accepted"  # type: ignore[attr-defined]
        line += f"; {format_count(figures['drafts_accepted'])} of {format_count(figures['drafts'])} drafts {taken}"
    return line
