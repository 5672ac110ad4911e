"""Builds the stub of NVIDIA's management library and hands it to the real pynvml."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("nvml_stub.c")


@pytest.fixture(scope="session")
def stub_library(tmp_path_factory):
    """`libnvidia-ml.so.1`, compiled now; the test is skipped aloud where there is no C compiler."""
    folder = tmp_path_factory.mktemp("nvml")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler (cc or gcc) to build the stub of libnvidia-ml.so.1")
    flags = ["-shared", "-fPIC", "-O1", "-Wall"]
    headers = "#include <stdint.h>\n#include <stdio.h>\n"
    trial = [compiler, *flags, "-x", "c", "-", "-o", folder / "trial.so"]
    if subprocess.run(trial, input=headers, text=True, check=False).returncode:
        pytest.skip(f"{compiler} finds no headers of the C library to build the stub of libnvidia-ml.so.1 with")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, *flags, "-Wl,-soname,libnvidia-ml.so.1", "-o", library, SOURCE], check=True)
    return library


class Stub:
    """Controls of the stub, and a clock that both it and the sampler follow."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.now_s = 0.0
        library.stub_set_clock.argtypes = [ctypes.c_double]
        library.stub_set_counter.argtypes = [ctypes.c_double, ctypes.c_int]

    def reset(self, devices: int = 1) -> None:
        self.library.stub_reset(devices)
        self.move_to(0.0)

    def move_to(self, now_s: float) -> None:
        self.now_s = now_s
        self.library.stub_set_clock(now_s)

    def clock(self) -> float:
        return self.now_s

    def curve(self, *knots: tuple[float, float]) -> None:
        times_s, powers_w = zip(*knots, strict=True)
        array = ctypes.c_double * len(knots)
        self.library.stub_set_curve(len(knots), array(*times_s), array(*powers_w))

    def features(self, *, counter: bool = True, instant: bool = True, mig: bool = False) -> None:
        self.library.stub_set_features(counter, instant, mig)

    def counter(self, start_j: float, bits: int = 64) -> None:
        self.library.stub_set_counter(start_j, bits)

    def fail(self, function: str, code: int, *, after: int = 0, until: int = -1, device: int = -1) -> None:
        self.library.stub_fail(function.encode(), code, after, until, device)

    @property
    def open_count(self) -> int:
        """How often the library was initialized and not yet shut down."""
        return int(self.library.stub_initialized())


@pytest.fixture
def stub(stub_library, monkeypatch):
    """The stub in the place of the library that pynvml would load."""
    pynvml = pytest.importorskip("pynvml")
    stub = Stub(ctypes.CDLL(str(stub_library)))
    stub.reset()
    monkeypatch.setattr(pynvml, "nvmlLib", stub.library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return stub
