"""NVTX ranges of Nsight Systems' exports as phases."""

from foreign_samples import THREAD, write_nsys

from profiler.importers.nsys import import_nsys


def test_ids_of_ranges_are_no_part_of_a_phase(tmp_path):
    """PyTorch numbers its ranges; FSDP's are phases, and two of one module are the same phase."""
    path = tmp_path / "run.sqlite"
    database = write_nsys(path)
    database.execute(
        "INSERT INTO NVTX_EVENTS VALUES (?, ?, ?, ?, ?, ?)",
        (600, 8900, 59, "FSDP::pre_forward (encoder.block.1), op_id = 314311", None, THREAD),
    )
    database.commit()
    database.close()
    phases = set(import_nsys(path).phases)
    assert any(phase.endswith("FSDP::pre_forward (encoder.block.1)") for phase in phases), phases
