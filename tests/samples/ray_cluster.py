"""A search on a Ray cluster of two local nodes, of which one is killed while it works; run as a program by a test."""

import logging
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import ray
from explorer_samples import CHIPS, chips
from ray.cluster_utils import Cluster

from explorer.archive import Archive
from explorer.parallel import evaluator
from explorer.search import explore, propose

DESIGNS, BLOCK, PAUSE_S = 256, 64, 0.5


class Logged:
    """The chips, slowly; the start and the end of each part go into the node's file."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, designs):
        log = self.folder / ray.get_runtime_context().get_node_id()
        with log.open("a") as lines:
            lines.write("start\n")
        time.sleep(PAUSE_S)
        with log.open("a") as lines:
            lines.write("end\n")
        return chips(designs)


def run(evaluate):
    archive = Archive()
    for batch in explore(CHIPS, evaluate, propose("sobol", CHIPS, designs=DESIGNS, block=BLOCK)):
        archive.add(batch.index, batch.result)
    return archive


def kill_when_busy(cluster, node, log, killed):
    while not log.exists() or log.read_text().count("start") < 2:
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)
    text = log.read_text()
    killed.append(text.count("start") > text.count("end"))


def main(folder):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    killed = []
    watcher = threading.Thread(target=kill_when_busy, args=(cluster, node, folder / node.node_id, killed), daemon=True)
    watcher.start()
    with evaluator(Logged(folder), engine="ray") as evaluate:
        archive = run(evaluate)
    watcher.join(timeout=30)
    nodes = len(list(folder.iterdir()))
    expected = run(chips)
    same = archive.index.tolist() == expected.index.tolist() and (archive.costs == expected.costs).all()
    print(f"{nodes} nodes worked; same front: {same}; killed while it worked: {killed == [True]}", flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
    sys.stdout.flush()
    os._exit(0)  # what is left of the killed node must not hold up the end
