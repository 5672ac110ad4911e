"""Small files of every format that is imported, written by hand, from which the tests and the fuzzer start."""

import json
import sqlite3
from pathlib import Path
from typing import Any

KERNEL_EVENT: dict[str, Any] = {
    "ph": "X",
    "cat": "kernel",
    "name": "void ns::good<int>(int*)",
    "pid": 0,
    "tid": 7,
    "ts": 40.5,
    "dur": 2.5,
    "args": {"device": 0, "stream": 7, "correlation": 1, "grid": [1, 1, 1], "block": [32, 1, 1]},
}
KINETO_EVENTS: list[dict[str, Any]] = [
    {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#3", "pid": 1, "tid": 1, "ts": 1, "dur": 90, "args": {}},
    {
        "ph": "X",
        "cat": "cpu_op",
        "name": "aten::mm",
        "pid": 1,
        "tid": 1,
        "ts": 10,
        "dur": 20,
        "args": {
            "External id": 7,
            "Input Dims": [[64, 128], [128, 32]],
            "Input Strides": [[128, 1], [1, 128]],
            "Input type": ["c10::BFloat16", "c10::BFloat16"],
            "Concrete Inputs": ["", ""],
        },
    },
    {
        "ph": "X",
        "cat": "cuda_runtime",
        "name": "cudaLaunchKernel",
        "pid": 1,
        "tid": 1,
        "ts": 20,
        "dur": 5,
        "args": {"correlation": 1},
    },
    KERNEL_EVENT,
    {**KERNEL_EVENT, "cat": "gpu_memcpy", "name": "Memcpy HtoD", "ts": 50, "args": {"bytes": 64, "stream": 7}},
]
KINETO_HEADER: dict[str, Any] = {
    "schemaVersion": 1,
    "deviceProperties": [{"id": 0, "name": "Sample GPU"}],
    "distributedInfo": {"backend": "nccl", "rank": 0, "world_size": 2},
    "baseTimeNanoseconds": 1_700_000_000_000_000_000,
}
NCU_HEADER = (
    '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device",'
    '"CC","Section Name","Metric Name","Metric Unit","Metric Value"\n'
)
NCU_METRICS = (
    ("dram__bytes_read.sum", "Kbyte", "1,000.5"),
    ("dram__bytes_write.sum", "byte", "500"),
    ("lts__t_bytes.sum", "Mbyte", "2.5"),
    ("l1tex__t_bytes.sum", "byte", "4,000,000"),
    ("l1tex__t_bytes_pipe_lsu_mem_local_op_ld.sum", "byte", "0"),
    ("l1tex__t_bytes_pipe_lsu_mem_local_op_st.sum", "byte", "1,000,000"),
    ("sm__inst_executed_pipe_tensor.sum", "inst", "1,024"),
)
ROCPROF_V3_HEADER = (
    '"Correlation_Id","Dispatch_Id","Agent_Id","Queue_Id","Process_Id","Thread_Id","Grid_Size","Kernel_Id",'
    '"Kernel_Name","Workgroup_Size","LDS_Block_Size","Scratch_Size","VGPR_Count","SGPR_Count","Counter_Name",'
    '"Counter_Value","Start_Timestamp","End_Timestamp"\n'
)
NSYS_TABLES = """
CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
    streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, demangledName INTEGER, shortName INTEGER,
    gridX INTEGER, gridY INTEGER, gridZ INTEGER, blockX INTEGER, blockY INTEGER, blockZ INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER, end INTEGER, deviceId INTEGER, streamId INTEGER,
    correlationId INTEGER, globalPid INTEGER, bytes INTEGER, copyKind INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, globalTid INTEGER, correlationId INTEGER,
    nameId INTEGER);
CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, eventType INTEGER, text TEXT, textId INTEGER, globalTid INTEGER);
"""
PROCESS = 1 << 24
THREAD = PROCESS + 5


def kineto_bytes(*events: Any, **header: Any) -> bytes:
    """A Kineto file of these events, by default one op with its kernel and a copy."""
    return json.dumps({**KINETO_HEADER, **header, "traceEvents": list(events) or KINETO_EVENTS}).encode()


def ncu_bytes(*kernels: str, metrics: tuple[tuple[str, str, str], ...] = NCU_METRICS) -> bytes:
    """What `ncu --csv` prints for these kernels, one launch each."""
    text = "==PROF== Connected to process 43201\nepoch 1, loss 0.5\n==PROF== Disconnected\n" + NCU_HEADER
    for number, kernel in enumerate(kernels or ("void ns::good<(int)4>(int *)",)):
        quoted = kernel.replace('"', '""')
        for name, unit, value in metrics:
            text += (
                f'"{number}","43201","python","127.0.0.1","{quoted}","1","7","(32, 1, 1)","(1, 1, 1)","0","9.0",'
                f'"Command line profiler metrics","{name}","{unit}","{value}"\n'
            )
    return text.encode()


def rocprof_v3_bytes(*rows: tuple[int, str, str, str]) -> bytes:
    """rocprofv3's counter collection: (dispatch, kernel, counter, value) per row."""
    text = ROCPROF_V3_HEADER
    for dispatch, kernel, counter, value in rows or (
        (1, "good", "FETCH_SIZE", "2048.0"),
        (1, "good", "WRITE_SIZE", "1"),
    ):
        text += (
            f'{dispatch},{dispatch},"Agent 4",1,225049,225049,1048576,10,"{kernel}",64,0,0,8,16,"{counter}",{value},'
            f"{1000 * dispatch},{1000 * dispatch + 250}\n"
        )
    return text.encode()


def rocprof_wide_bytes() -> bytes:
    """rocprof's wide form with the channels of two dies."""
    return (
        b"Index,KernelName,gpu-id,queue-id,BeginNs,EndNs,TCC_REQ[0],TCC_REQ[1],TCC_EA_RDREQ_sum,TCC_EA_RDREQ_32B_sum,"
        b"TCC_EA_WRREQ_sum,TCC_EA_WRREQ_64B_sum\n"
        b'0,"good(int*) [clone .kd]",1,2,1000,3500,10,20,100,40,50,20\n'
    )


def write_nsys(path: Path, *, name: str = "void ns::good<int>(int*)") -> sqlite3.Connection:
    """An export with one op, its kernel and a copy; the open database, for whoever wants to change it."""
    database = sqlite3.connect(path)
    database.executescript(NSYS_TABLES)
    database.executemany(
        "INSERT INTO StringIds VALUES (?, ?)", [(1, name), (2, "good"), (3, "cudaLaunchKernel_v7000"), (4, "forward")]
    )
    database.execute(
        "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (4000, 6500, 0, 7, 11, ?, 1, 2, 1, 1, 1, 32, 1, 1)", (PROCESS,)
    )
    database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (7000, 8000, 0, 7, NULL, ?, 64, 1)", (PROCESS,))
    database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (2000, 2500, ?, 11, 3)", (THREAD,))
    database.executemany(
        "INSERT INTO NVTX_EVENTS VALUES (?, ?, ?, ?, ?, ?)",
        [
            (500, 9000, 59, None, 4, THREAD),
            (1000, 3000, 59, "aten::mm, seq = 3, op_id = 8", None, THREAD),
            (1000, None, 34, "a mark", None, THREAD),
        ],
    )
    database.commit()
    return database


def samples(folder: Path) -> list[tuple[str, str, bytes]]:
    """(importer, file name, contents) of a good small file of every form."""
    path = folder / "sample.sqlite"
    path.unlink(missing_ok=True)
    write_nsys(path).close()
    wide = (
        b'"ID","Process ID","Kernel Name","Device","dram__bytes.sum","gpu__time_duration.sum"\n'
        b'"","","","","Kbyte","usecond"\n"0","7","good","0","1.5","2"\n'
    )
    ranges = {**KERNEL_EVENT, "cat": "cuda_profiler_range", "args": {"dram__bytes.sum": 5, "lts__t_sectors.sum": 2.0}}
    return [
        ("kineto", "sample.json", kineto_bytes()),
        ("kineto", "ranges.json", kineto_bytes(*KINETO_EVENTS[:3], ranges)),
        ("ncu", "sample.csv", ncu_bytes()),
        ("ncu", "wide.csv", wide),
        ("nsys", "sample.sqlite", path.read_bytes()),
        ("rocprof", "v3.csv", rocprof_v3_bytes()),
        ("rocprof", "wide.csv", rocprof_wide_bytes()),
    ]
