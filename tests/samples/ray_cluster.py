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

DESIGNS, BLOCK = 256, 64


class Logged:
    """The chips; the start and the end of each part go into the node's file.

    The node that shall die never ends its second part, and the other waits in its second until that one is dead.
    """

    def __init__(self, folder):
        self.logs, self.doomed, self.dead = folder / "logs", folder / "doomed", folder / "dead"

    def __call__(self, designs):
        name = ray.get_runtime_context().get_node_id()
        log = self.logs / name
        with log.open("a") as lines:
            lines.write("start\n")
        if count(log, "start") > 1:
            is_doomed = self.doomed.read_text() == name
            while is_doomed or not self.dead.exists():
                time.sleep(0.02)
        with log.open("a") as lines:
            lines.write("end\n")
        return chips(designs)


def count(log, word):
    return log.read_text().split().count(word) if log.exists() else 0


def run(evaluate):
    archive = Archive()
    for batch in explore(CHIPS, evaluate, propose("sobol", CHIPS, designs=DESIGNS, block=BLOCK)):
        archive.add(batch.index, batch.result)
    return archive


def kill_when_busy(cluster, node, evaluate):
    log = evaluate.logs / node.node_id
    while count(log, "start") < 2:
        time.sleep(0.02)
    try:
        cluster.remove_node(node, allow_graceful=False)
    finally:
        evaluate.dead.touch()


def main(folder):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    logged = Logged(folder)
    logged.logs.mkdir()
    logged.doomed.write_text(node.node_id)
    watcher = threading.Thread(target=kill_when_busy, args=(cluster, node, logged), daemon=True)
    watcher.start()
    with evaluator(logged, engine="ray") as evaluate:
        archive = run(evaluate)
    watcher.join()
    parts = [(count(log, "start"), count(log, "end")) for log in logged.logs.iterdir() if log.name != node.node_id]
    lost = count(logged.logs / node.node_id, "start") - count(logged.logs / node.node_id, "end")
    expected = run(chips)
    same = archive.index.tolist() == expected.index.tolist() and (archive.costs == expected.costs).all()
    print(f"nodes that live: {len(parts)}; parts lost with the other: {lost}; same front: {same}", flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
    sys.stdout.flush()
    os._exit(0)  # what is left of the killed node must not hold up the end
