"""Runs a program a second time under Nsight Compute (`ncu`) and reads the bytes and instructions that it counted."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from profiler.capture.counted_run import FINISHED_FILE, CountedRun, write_request
from profiler.errors import TraceError
from profiler.importers.ncu import build_counted
from profiler.importers.ncu_rows import read_csv
from profiler.importers.nvidia_metrics import WANTED_METRICS
from profiler.traces import Trace

_LOG_FILE = "counters.csv"
_LARGEST_LOG_BYTES = 2**31
_SAID_LENGTH = 300
_NO_PERMISSION = "ERR_NVGPUCTRPERM"
_NO_KERNELS = "No kernels were profiled"
_ERROR = "==ERROR=="
_APPLICATION_FAILED = "The application returned an error code"


def find_ncu() -> str:
    """The path of `ncu`.

    Raises:
        TraceError: where it is not installed, with what to do instead.
    """
    path = shutil.which("ncu")
    if path is None:
        raise TraceError(
            "--counters: Nsight Compute (ncu) is not on PATH; it comes with the CUDA toolkit (often in "
            "/usr/local/cuda/bin) and from https://developer.nvidia.com/nsight-compute. Counters read elsewhere can be "
            "joined: roofscape import ncu counters.csv --onto trace.parquet, of a trace captured with --kernels"
        )
    return path


def ncu_command(ncu: str, log: Path, program: Sequence[str]) -> list[str]:
    """The command line that counts what a program does between its profiler marks.

    Caches are flushed before each pass over a kernel, ncu's default: without that, every pass but the first would find
    the kernel's own data in them.

    Args:
        ncu: path of the executable.
        log: where ncu writes its rows and remarks, apart from the program's output.
        program: the command to count.
    """
    return [
        ncu,
        "--csv",
        "--print-units",
        "base",
        "--log-file",
        str(log),
        "--metrics",
        ",".join(WANTED_METRICS),
        "--profile-from-start",
        "off",
        "--target-processes",
        "all",
        *program,
    ]


def count_kernels(request: CountedRun) -> Trace:
    """What Nsight Compute counted in one run of a program, a kernel a call, in launch order.

    The run is a process of its own, which holds a model of its own until it ends: build yours afterwards.

    Raises:
        TraceError: where ncu is missing, may not read the counters, or saw no kernel, and where the program failed.
    """
    ncu = find_ncu()
    with tempfile.TemporaryDirectory(prefix="roofscape-ncu-") as name:
        folder = Path(name)
        log = folder / _LOG_FILE
        write_request(request, folder)
        command = ncu_command(ncu, log, [sys.executable, "-m", "profiler.capture.counted_run", str(folder)])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
                check=False,
            )
        except OSError as error:
            raise TraceError(f"--counters: {ncu} cannot be run: {error.strerror or error}") from error
        text = _read_log(log)
        reason = _failure(
            done.returncode, text, done.stderr.decode(errors="replace"), (folder / FINISHED_FILE).exists()
        )
        if reason:
            raise TraceError(f"--counters: {reason}")
        return _counted(text)


def _read_log(log: Path) -> str:
    """What ncu wrote, empty where it wrote nothing."""
    try:
        if log.stat().st_size > _LARGEST_LOG_BYTES:
            raise TraceError(
                f"--counters: ncu wrote more than {_LARGEST_LOG_BYTES // 2**30} GiB of rows; run fewer steps"
            )
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _counted(text: str) -> Trace:
    try:
        trace = build_counted("Nsight Compute", *read_csv(Path("ncu"), text))
    except TraceError as error:
        raise TraceError(f"--counters: ncu's rows cannot be read: {error}") from None
    if not trace.is_counted:
        raise TraceError("--counters: ncu gave none of the metrics for bytes and instructions; is this GPU supported?")
    return trace


def _failure(code: int, log: str, stderr: str, finished: bool) -> str:
    """Why there are no counters to read, empty where there are.

    Args:
        code: what ncu ended with.
        log: its rows and remarks.
        stderr: what the program wrote there, and ncu where it could not open its log.
        finished: whether the program came to its end.
    """
    if _NO_PERMISSION in log or _NO_PERMISSION in stderr:
        return (
            f"no permission to read the GPU's counters ({_NO_PERMISSION}); run as root (in a container, with "
            "--cap-add=SYS_ADMIN), or let the administrator load the driver with "
            "`options nvidia NVreg_RestrictProfilingToAdminUsers=0` (a file in /etc/modprobe.d, then reboot)"
        )
    errors = "; ".join(
        line.removeprefix(_ERROR).strip()
        for line in log.splitlines()
        if line.startswith(_ERROR) and _APPLICATION_FAILED not in line
    )[:_SAID_LENGTH]
    if not finished:
        said = [line.strip() for line in stderr.splitlines() if line.strip()] or [f"it ended with {code}"]
        return f"ncu failed: {errors}" if errors else f"the program failed under ncu: {said[-1][:_SAID_LENGTH]}"
    if _NO_KERNELS in log or '"Kernel Name"' not in log:
        return f"ncu profiled no kernels: {errors or 'the program launched none after its warm-up'}"
    return ""
