"""Every test, and what it starts, computes with one thread.

The networks of tests are tiny: where other programs run, two threads wait for each other most of the time, and a test
takes four times as long. What is about threads sets their number itself.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
