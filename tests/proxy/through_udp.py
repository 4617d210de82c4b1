#!/usr/bin/env python3
"""A thousand MQTT-SN sensors of one address, through NGINX (udp, etc/nginx.conf) without stickiness, in front of a
cluster of three; one node is killed, and all report again.

    python3 tests/proxy/through_udp.py --bin target/debug/nightjar [--within 60]
"""

import argparse
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "outside"))

from blocking import Client, Failed, until  # noqa: E402
from broker import BrokerError, free_port  # noqa: E402
from results import Results  # noqa: E402
from sensors import recover  # noqa: E402

# tests/outside/raw has a run.py too.
sys.path.insert(0, str(HERE))
from run import Node, Stage  # noqa: E402

class Member(Node):
    """A node of a cluster of three."""

    links = {}

    def __init__(self, number, binary):
        super().__init__(number, binary)
        self.links[number] = free_port()

    def config(self):
        seeds = ", ".join(f'"127.0.0.1:{port}"' for port in self.links.values())
        text = super().config()
        (self.dir / "proxy.conf").write_text("{allow, all}.\n")
        return text + f"""
[cluster]
bind = "127.0.0.1:{self.links[self.number]}"
cookie = "a secret of this test"
discovery = "static"
seeds = [{seeds}]
expect = 3
"""

    def begin(self):
        config = self.dir / "nightjar.toml"
        config.write_text(self.config())
        self._spawn([str(self.binary), "serve", "--config", str(config)])

    def serves(self):
        try:
            Client(self.port("tcp"), f"probe-{self.number}").end()
            return True
        except (Failed, OSError):
            return False

    def port(self, transport):
        return self.ports[transport]


class Cluster(Stage):
    """Three members behind NGINX."""

    node = Member

    def __enter__(self):
        for node in self.nodes:
            node.begin()
        for node in self.nodes:
            until(node.serves, f"node {node.number} serves", 60, 0.3)
        self.proxy.start()
        return self


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--within", type=float, default=60.0, help="seconds; the goal on a machine that does nothing else is 30")
    args = parser.parse_args()
    results = Results(ci=os.environ.get("CI") == "true")
    name, begin = "proxy/nginx/a_thousand_sensors_survive_a_node", time.monotonic()
    try:
        with Cluster("nginx", args.bin) as cluster:
            recover(cluster.proxy.ports[1884], cluster.nodes[1].kill, args.within)
            results.ok(name, time.monotonic() - begin)
    except (Failed, BrokerError, OSError) as error:
        results.fail(name, str(error) or repr(error), time.monotonic() - begin)
    return results.close("sensors through a proxy")


if __name__ == "__main__":
    sys.exit(main())
