"""A Ray cluster of several nodes on this machine: prints its address, and kills a node for each line that it reads."""

import sys

from ray.cluster_utils import Cluster

small = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
workers = [cluster.add_node(num_cpus=1, **small) for _ in range(int(sys.argv[1]))]
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for _ in sys.stdin:
    cluster.remove_node(workers.pop(), allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
