"""A kernel played alone by the event engine's own processes: what closed forms of its time are held against."""

import simpy

from roofline.chip import Chip
from simulator.kernel_process import Device, KernelWork, play_kernel


def isolated_ps(work: KernelWork, chip: Chip) -> int:
    """Picoseconds of one kernel that has the device to itself, played."""
    env = simpy.Environment()
    env.process(play_kernel(Device(env, chip), work))
    env.run()
    return int(env.now)
