"""Ray nodes on loopback, each with its labels and its own cores, for as long as standard input is open.

Run as a script with a JSON list of {name, labels, cores}; it prints one line of JSON: the address, and every node's process ids by name.
"""

import json
import os
import sys

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # what keeps Ray on 127.0.0.1
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def main():
    from ray.cluster_utils import Cluster

    wanted = json.loads(sys.argv[1])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    pids = {}
    every = os.sched_getaffinity(0)
    for one in wanted:
        os.sched_setaffinity(0, one["cores"])
        node = cluster.add_node(num_cpus=len(one["cores"]), labels=one["labels"], node_name=one["name"], wait=True)
        pids[one["name"]] = [process.process.pid for processes in node.all_processes.values() for process in processes]
        os.sched_setaffinity(0, every)
    sys.stdout.write(json.dumps({"address": cluster.address, "pids": pids}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
