#!/usr/bin/env python3
"""docker/compose.cluster.yaml with HAProxy, and with NGINX: three nodes behind one address, one of them stopped and back.

    python3 tests/docker/cluster.py --bin target/release/nightjar --target target [--only WORD]

No image is pulled: the balancers are Debian's packages on the base image. The files of etc/ and docker/ are used as they
are; only host ports, image names and the network are variables of the compose file.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "outside"))
sys.path.insert(0, str(HERE))

from blocking import Client, Failed, check, trusting, until, wire  # noqa: E402
from broker import free_port  # noqa: E402
from engine import DockerError, Engine, Missing, binary_context  # noqa: E402
from results import Results  # noqa: E402
from sensors import recover  # noqa: E402

NODES = ("nightjar-1", "nightjar-2", "nightjar-3")
PORTS = {1883: "MQTT_PORT", 8883: "MQTTS_PORT", 8083: "WS_PORT", 8084: "WSS_PORT", 18083: "DASHBOARD_PORT"}
# A balancer as its official image has it: the same paths and the same command.
BALANCERS = {
    "haproxy": ("haproxy", "haproxy", '["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]'),
    "nginx": ("nginx libnginx-mod-stream", "nginx", '["nginx", "-g", "daemon off;"]'),
}
WEEK = {"session_expiry": 7 * 86400}

CASES = []


def case(fn, kinds=tuple(BALANCERS)):
    CASES.append((fn, kinds))
    return fn


def with_nginx(fn):
    return case(fn, ("nginx",))


class Cluster:
    """The compose file's services under one balancer."""

    def __init__(self, engine, images, kind):
        self.engine, self.kind, self.ids = engine, kind, {}
        self.ports = {port: free_port() for port in PORTS}
        self.project = f"nightjartest{os.getpid()}{kind}"
        self.mqttsn = free_port()
        self.env = {**engine.env, "NIGHTJAR_COOKIE": os.urandom(16).hex(), "NIGHTJAR_IMAGE": images["nightjar"],
                    "HAPROXY_IMAGE": images["haproxy"], "NGINX_IMAGE": images["nginx"], "NIGHTJAR_NET": "172.28.84",
                    "MQTTSN_PORT": f"127.0.0.1:{self.mqttsn}",
                    **{name: f"127.0.0.1:{self.ports[port]}" for port, name in PORTS.items()}}
        self.files = ["-f", ROOT / "docker" / "compose.cluster.yaml"]
        if kind == "nginx":
            self.files += ["-f", ROOT / "docker" / "compose.nginx.yaml"]
        self.folder = tempfile.TemporaryDirectory()

    def compose(self, *words, check_code=True, timeout=180):
        done = subprocess.run(["docker-compose", "-p", self.project, *map(str, self.files), *words], capture_output=True,
                              text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL, env=self.env)
        if check_code and done.returncode != 0:
            raise DockerError(f"docker-compose {' '.join(words)}: {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
        return done.stdout

    def container(self, service):
        # docker-compose takes a second for an answer that stays the same.
        if service not in self.ids:
            self.ids[service] = self.compose("ps", "-q", service).strip()
        return self.ids[service]

    def __enter__(self):
        try:
            self.compose("up", "-d")
            for node in NODES:
                self.healthy(node)
            until(self.serves, "a client is served through the balancer", 60, 0.5)
            self.engine.run("cp", f"{self.container('nightjar-1')}:/etc/hostname", f"{self.folder.name}/hostname")
            self.engine.run("cp", f"{self.container('certs')}:/var/lib/nightjar/ca.crt", f"{self.folder.name}/ca.crt")
        except BaseException:
            print(self.compose("logs", "--tail", "15", check_code=False)[-6000:])
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.compose("down", "-v", "-t", "5", check_code=False)
        self.folder.cleanup()

    def healthy(self, node, timeout=90):
        name = self.container(node)
        until(lambda: self.engine.run("exec", name, "nightjar", "healthcheck", check=False).returncode == 0,
              f"{node} is healthy", timeout, 0.5)

    def serves(self):
        try:
            with Client(self.ports[1883], "probe", timeout=5) as client:
                client.ping()
                return True
        except (Failed, OSError):
            return False

    def client(self, cid, port=1883, **options):
        if port in (8883, 8084):
            options["tls"] = trusting(f"{self.folder.name}/ca.crt")
        return Client(self.ports[port], cid, websocket=port in (8083, 8084), **options)

    def back(self, cid, port=1883, timeout=40, **options):
        """A client that tries until it is served, as clients do."""
        def attempt():
            try:
                return self.client(cid, port, **options)
            except (Failed, OSError):
                return None

        return until(attempt, f"{cid} is served again", timeout, 0.3)

    def connections(self):
        """Clients connected, by node."""
        counts = {}
        for node in NODES:
            done = self.engine.run("exec", self.container(node), "nightjar", "ctl", "status", "--output", "json")
            counts[node] = json.loads(done.stdout)["connections"]
        return counts

    def placed(self, cid, **options):
        """A client and the node that has it."""
        # Clients that have just gone are gone for the nodes too.
        time.sleep(1)
        before = self.connections()
        client = self.client(cid, **options)
        client.ping()

        def grown():
            after = self.connections()
            return [node for node in NODES if after[node] > before[node]]

        (home,) = until(grown, "a node has one more client", 30)
        return client, home


@case
def clients_on_all_ports_reach_each_other(cluster):
    """Whatever node each of them is on."""
    clients = [cluster.client(f"all-{port}-{number}", port) for port in (1883, 8883, 8083, 8084) for number in range(3)]
    for client in clients:
        check(client.subscribe("all/#") in (0, 1), "subscribe")
    # Other nodes know the filter soon, not at once.
    until(lambda: all(client.publish("all/warm") == 0 for client in clients[:3]), "interest", 10)
    time.sleep(1)
    for client in clients:
        client.stash.clear()
    clients[0].publish("all/end", b"last")
    for client in clients:
        while client.message().payload != b"last":
            pass
        client.end()


@case
def a_stopped_node_takes_nothing_along(cluster):
    """Session, queue, will and retained message of a node that is killed are there on the others; it comes back."""
    watcher, watched = cluster.placed("watcher", properties=WEEK, clean=False)
    watcher.subscribe("will/#")
    owner = cluster.client("owner", properties=WEEK, clean=False)
    owner.subscribe("to/owner")
    owner.end()
    with cluster.client("sender") as sender:
        check(sender.publish("kept/1", b"retained", retain=True) in (0, 0x10), "retained")
        check(sender.publish("to/owner", b"waits") == 0, "queued")
    mortal, home = cluster.placed("mortal", will=("will/mortal", b"gone", 1, False), keep_alive=60)
    if watched == home:
        # It comes back on another node.
        watcher.drop()
    cluster.engine.run("kill", cluster.container(home))
    watcher = cluster.back("watcher", properties=WEEK, clean=False)
    check(watcher.connack.session_present, "the watcher's session is lost")
    check(watcher.message(timeout=60).payload == b"gone", "another message than the will")
    mortal.drop()
    owner = cluster.back("owner", properties=WEEK, clean=False)
    check(owner.connack.session_present, "the owner's session is lost")
    check(owner.message().payload == b"waits", "the queued message is lost")
    with cluster.back("reader") as reader:
        reader.subscribe("kept/#")
        check(reader.message().payload == b"retained", "the retained message is lost")
    cluster.compose("start", home)
    cluster.healthy(home)
    for client in (watcher, owner):
        client.end()
    with cluster.back("after") as after:
        after.ping()


@with_nginx
def a_thousand_sensors_survive_a_node(cluster):
    """MQTT-SN through NGINX without stickiness, all from one address: a node is killed, and each reports again in 30 s."""
    try:
        recover(cluster.mqttsn, lambda: cluster.engine.run("kill", cluster.container("nightjar-2")), 30)
    finally:
        cluster.compose("start", "nightjar-2")
        cluster.healthy("nightjar-2")


def build_images(engine, binary, target):
    base = engine.base(target)
    images = {"nightjar": f"nightjar-test/cluster:{os.getpid()}"}
    with binary_context(binary) as context:
        engine.build(context, images["nightjar"], "-f", context / "docker" / "Dockerfile.binary", "--build-arg", f"BASE_IMAGE={base}")
    for kind, (packages, _, command) in BALANCERS.items():
        images[kind] = f"nightjar-test/{kind}:bookworm"
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "Dockerfile").write_text(
                f"FROM {base}\nRUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "
                f"--no-install-recommends {packages} && rm -rf /var/lib/apt/lists/*\nCMD {command}\n")
            try:
                engine.build(folder, images[kind])
            except DockerError as error:
                raise Missing(f"Debian's packages cannot be installed in a container: {str(error)[-300:]}") from error
    return images


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    results = Results(ci=os.environ.get("CI") == "true")
    try:
        with Engine() as engine:
            images = build_images(engine, pathlib.Path(args.bin).resolve(), args.target)
            for kind in BALANCERS:
                chosen = [(f"docker/cluster/{kind}/{fn.__name__}", fn) for fn, kinds in CASES if kind in kinds]
                chosen = [(name, fn) for name, fn in chosen if args.only in name]
                if not chosen:
                    continue
                begin = time.monotonic()
                try:
                    with Cluster(engine, images, kind) as cluster:
                        print(f"      {kind}: from nothing to a serving cluster {time.monotonic() - begin:.1f} s", flush=True)
                        for name, fn in chosen:
                            begin = time.monotonic()
                            try:
                                fn(cluster)
                                results.ok(name, time.monotonic() - begin)
                            except (Failed, DockerError, OSError, wire.WireError) as error:
                                results.fail(name, str(error) or repr(error), time.monotonic() - begin)
                except (Failed, DockerError, subprocess.SubprocessError) as error:
                    results.fail(f"docker/cluster/{kind}", str(error))
    except Missing as why:
        results.skip("docker/cluster", str(why))
    except (DockerError, subprocess.SubprocessError) as error:
        results.fail("docker/cluster", str(error))
    return results.close("docker cluster")


if __name__ == "__main__":
    sys.exit(main())
