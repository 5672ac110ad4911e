"""What a chip file says beside its ceilings, as rows for people, and its sources with moved constants on one line."""

from reports import formatting
from roofline.chip import Chip
from roofline.chip_families import FOREIGN_PREFIX, constants_from, own_scopes

_DTYPES = 3  # ridge points that are shown: of the first types that the matrix units list


def figure_rows(chip: Chip) -> list[tuple[str, str]]:
    """(figure, value) of everything that sets times, energy and cost and is no ceiling; what is missing says so."""
    rows, columns = chip.matrix_array
    load = dict(chip.calibration).get("array_load_clocks", rows)
    array = [("systolic arrays", f"{rows} x {columns}, their next weights within {load:g} clocks")]
    return [
        ("cores", f"{chip.cores:,} at {formatting.format_hertz(chip.clock_hz)}"),
        *(array if rows * columns > 1 else []),
        *(
            (f"{dtype} ridge point", formatting.format_intensity(chip.ridge_flops_per_byte(dtype)))
            for dtype in _few(chip)
        ),
        *(
            (
                memory.name,
                f"{formatting.format_bytes(memory.capacity_bytes)}{' in parts of a core' if memory.per_core else ''}, "
                f"{formatting.format_seconds(memory.latency_s)} away",
            )
            for memory in chip.memories
        ),
        *(
            (f"link {link.name}", f"{formatting.format_bytes_per_s(link.bandwidth_bytes_per_s)} each way")
            for link in chip.links
        ),
        ("launch", formatting.format_seconds(chip.launch_s)),
        ("power limit", formatting.format_watts(chip.tdp_w)),
        ("die", _die(chip)),
        ("energy", _energy(chip)),
        ("kernel constants", _kernel_constants(chip)),
    ]


def source_lines(chip: Chip) -> list[str]:
    """Where the figures come from; constants that were moved from another chip stand on one line for each of these."""
    given = constants_from(chip)
    own = [
        f"{where}: {source}"
        for where, source in chip.sources
        if not (where.partition(".")[0] == "calibration" and source.startswith(FOREIGN_PREFIX))
    ]
    return own + [
        f"calibration ({', '.join(scope or 'all kernels' for scope in scopes)}): {FOREIGN_PREFIX} {donor}, "
        "not fitted to this chip"
        for donor, scopes in given.items()
    ]


def _kernel_constants(chip: Chip) -> str:
    """Whose constants the kernel models take on this chip."""
    if not chip.calibration:
        return "none: kernels run at peak rates"
    own, given = own_scopes(chip), constants_from(chip)
    parts = [("its own", own)] if own else []
    counted = [
        f"{len(scopes)} section{'s' * (len(scopes) > 1)} of {whose}" for whose, scopes in (*parts, *given.items())
    ]
    return ", ".join(counted)


def _few(chip: Chip) -> list[str]:
    return [dtype for dtype, _ in chip.matrix_macs][:_DTYPES] or ["float32"]


def _die(chip: Chip) -> str:
    parts = [f"{chip.die_area_mm2:,.0f} mm2" if chip.die_area_mm2 else "", chip.process_node]
    return ", ".join(filter(None, parts)) or formatting.UNKNOWN


def _energy(chip: Chip) -> str:
    if chip.energy is None:
        return f"{formatting.UNKNOWN}: no [energy] section, so no joules are simulated"
    products = dict(chip.energy.matrix_j_per_flop)
    dtype = "bfloat16" if "bfloat16" in products else next(iter(products), "")
    joules = products.get(dtype)
    memory, per_byte = chip.energy.memory_j_per_byte[-1] if chip.energy.memory_j_per_byte else ("", None)
    parts = [f"static {formatting.format_watts(chip.energy.static_w)}"]
    if joules is not None:
        parts.append(f"{1e12 * joules:.3g} pJ a {dtype} FLOP")
    if per_byte is not None:
        parts.append(f"{1e12 * per_byte:.3g} pJ a byte of {memory}")
    return ", ".join(parts)
