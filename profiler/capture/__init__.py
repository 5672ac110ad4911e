"""Capture of running PyTorch programs: `capture`, and the markers `phase` and `mark_role`.

The names are exported here, against the habit of bare packages, because `from profiler.capture import capture, phase`
is the one line that people type into their own code.
"""

from profiler.capture.energy.meter import EnergyMeter
from profiler.capture.session import Recording, capture
from workloads.markers import mark_role, phase

__all__ = ["EnergyMeter", "Recording", "capture", "mark_role", "phase"]
