#!/usr/bin/env python3
"""What three nodes tell each other while nothing happens, and what a route of another node costs in memory.

    python3 benches/cluster_quiet.py --bin target/release/nightjar [--filters 200000]
"""

import argparse
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

from run import Cluster, until, wire  # noqa: E402

SECONDS, PACKET = 30, 500


def sent(pid):
    """Bytes that this process has sent on its TCP connections, by connection."""
    lines = subprocess.run(["ss", "-tinpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = {}
    for head, rest in zip(lines, lines[1:]):
        if f"pid={pid}," in head and (bytes_sent := re.search(r"bytes_sent:(\d+)", rest)):
            found[tuple(head.split()[3:5])] = int(bytes_sent.group(1))
    return found


def resident(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024


def quiet(cluster):
    nodes = list(cluster.nodes.values())
    leader = cluster.leader()
    before = [sent(node.process.pid) for node in nodes]
    time.sleep(SECONDS)
    for node, was in zip(nodes, before):
        now = sent(node.process.pid)
        rates = sorted((now[link] - was[link]) / SECONDS for link in now if link in was and now[link] > was[link])
        what = "leader" if node is leader else "other"
        print(f"quiet, {what}: sends {sum(rates):.0f} bytes/s on {len(rates)} connections: {[round(rate) for rate in rates]}")


def routes(cluster, filters):
    one, *others = cluster.nodes.values()
    own = next(it["number"] for it in one.status()["nodes"] if it["name"] == "node1")
    before = [resident(node.process.pid) for node in others]
    client = one.client("many")
    for first in range(0, filters, PACKET):
        client.pid += 1
        topics = [(f"site/{n % 1000}/device/{n}/state", 0) for n in range(first, min(filters, first + PACKET))]
        client.send(wire.subscribe(client.pid, topics, client.v))
        client.answer(wire.SUBACK)

    def known(node):
        return any(it["node"] == own and it["filters"] >= filters for it in node.status()["routes"])
    for node in others:
        until(lambda node=node: known(node), "routes known", 120, pause=0.5)
    for node, was in zip(others, before):
        print(f"{filters} routes of another node: {(resident(node.process.pid) - was) / filters:.0f} bytes resident each")
    client.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--filters", type=int, default=200_000)
    args = parser.parse_args()
    cluster = Cluster(args.bin.resolve())
    try:
        cluster.start()
        time.sleep(10)
        quiet(cluster)
        routes(cluster, args.filters)
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
