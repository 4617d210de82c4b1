#!/usr/bin/env python3
"""Real HAProxy and NGINX with the files of etc/ in front of three brokers, all on free loopback ports.

The files are used as they are but for ports, names and folders, which `lay_out` replaces one by one: each must occur.

    python3 tests/proxy/run.py --bin target/debug/nightjar [--only WORD]
"""

import argparse
import contextlib
import http.client
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "outside"))

from blocking import Client, Failed, check, trusting, until, wire  # noqa: E402
from broker import Broker, BrokerError, clean_environment, free_port  # noqa: E402
from results import Results  # noqa: E402
import sn_client  # noqa: E402

NODES = (1, 2, 3)
# A client's own address, which no broker sees as a socket's peer.
AFAR = "127.0.0.7"
PORTS = (1883, 8883, 8083, 8084, 18083)

ACL = """{allow, all, publish, ["from/${peerhost}/#"]}.
{allow, {user, "device-7"}, all, ["only/device-7/#"]}.
{allow, all, all, ["where/#", "open/#"]}.
"""


class Node(Broker):
    """A broker whose listeners trust a proxy on loopback, on ports that stay the same over a restart."""

    def __init__(self, number, binary):
        super().__init__("nightjar", binary)
        self.number = number
        self.ports = {kind: free_port() for kind in ("tcp", "tls", "ws", "wss", "mqttsn", "api")}

    def config(self):
        (self.dir / "proxy.conf").write_text(ACL)
        bind = {kind: f'bind = "127.0.0.1:{port}"' for kind, port in self.ports.items()}
        return f"""
[node]
name = "node{self.number}@127.0.0.1"
data_dir = "{self.data_dir}"
[log]
level = "info"
[auth]
allow_anonymous = true
fallthrough_anonymous = true
[[acl.sources]]
kind = "file"
path = "{self.dir}/proxy.conf"
[listeners.tcp.default]
{bind["tcp"]}
proxy_protocol = "optional"
trusted_proxies = ["127.0.0.1"]
cert_as_username = "cn"
[listeners.tls.default]
{bind["tls"]}
[listeners.ws.default]
{bind["ws"]}
trusted_proxies = ["127.0.0.1"]
[listeners.wss.default]
{bind["wss"]}
[listeners.mqttsn.default]
{bind["mqttsn"]}
trusted_sources = ["127.0.0.1"]
[api]
{bind["api"]}
"""


def lay_out(text, replaced):
    """`text` with each key of `replaced` (a regular expression) put in place; one that is not there is an error."""
    for old, new in replaced.items():
        text, count = re.subn(old, new, text)
        if not count:
            raise Failed(f"{old} is not in the file any more")
    return text


class Proxy:
    """HAProxy or NGINX as a process, listening on `ports` (by the number that the file has)."""

    def __init__(self, kind, nodes, certs):
        self.kind, self.process = kind, None
        self.ports = {port: free_port() for port in (*PORTS, 1884)}
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"nightjar-test-{kind}-"))
        names = {f"nightjar-{node.number}:{old}": f"127.0.0.1:{node.ports[new]}"
                 for node in nodes for old, new in ((1883, "tcp"), (8083, "ws"), (18083, "api"))}
        if kind == "haproxy":
            source = ROOT / "etc" / "haproxy.cfg"
            replaced = {rf"bind \*:{port}\b": f"bind 127.0.0.1:{self.ports[port]}" for port in PORTS}
            replaced["/etc/haproxy/certs/"] = f"{certs}/"
        else:
            source = ROOT / "etc" / "nginx.conf"
            names.update({f"nightjar-{node.number}:1884": f"127.0.0.1:{node.ports['mqttsn']}" for node in nodes})
            replaced = {rf"(?m)^(\s*)listen {port}\b": rf"\g<1>listen 127.0.0.1:{self.ports[port]}"
                        for port in (*PORTS, 1884)}
            replaced["/etc/nginx/certs/"] = f"{certs}/"
        replaced.update({rf"{name}\b": address for name, address in names.items()})
        self.config = self.dir / source.name
        self.config.write_text(lay_out(source.read_text(), replaced))

    @classmethod
    def of_guide(cls, kind, name, names, certs, ports):
        """A proxy with the file of an older guide: `names` are its nodes by the address it has for them."""
        proxy = cls.__new__(cls)
        proxy.kind, proxy.process = kind, None
        proxy.ports = {port: free_port() for port in ports}
        proxy.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"nightjar-test-{name}-"))
        listen = r"bind \*:{}\b" if kind == "haproxy" else r"listen {}\b"
        word = "bind" if kind == "haproxy" else "listen"
        replaced = {listen.format(port): f"{word} 127.0.0.1:{proxy.ports[port]}" for port in ports}
        if 8883 in ports:
            replaced[r"/etc/ssl/emqx/|/root/ssl_emqx/"] = f"{certs}/"
        for address, node in names.items():
            replaced[rf"{re.escape(address)}:1883\b"] = f"127.0.0.1:{node.ports['tcp']}"
            if 8083 in ports:
                replaced[rf"{re.escape(address)}:8083\b"] = f"127.0.0.1:{node.ports['ws']}"
        proxy.config = proxy.dir / name
        proxy.config.write_text(lay_out((ROOT / "tests" / "proxy" / "guides" / name).read_text(), replaced))
        return proxy

    def command(self, *more):
        if self.kind == "haproxy":
            return [program("haproxy"), *more, "-f", str(self.config)]
        return [program("nginx"), *more, "-e", str(self.dir / "error.log"), "-c", str(self.config),
                "-g", f"daemon off; pid {self.dir}/nginx.pid;"]

    def start(self):
        more = ["-db"] if self.kind == "haproxy" else []
        with open(self.dir / "out.log", "ab") as out:
            self.process = subprocess.Popen(self.command(*more), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            env=clean_environment())

        def up():
            check(self.process.poll() is None, f"{self.kind} ended: {self.output()}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", next(iter(self.ports.values()))), 1).close()
                return True

        until(up, f"{self.kind} listens")
        return self

    def output(self):
        return "\n".join(path.read_text(errors="replace")[-800:] for path in self.dir.glob("*.log"))

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def program(name):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not found:
        raise Failed(f"{name} is not installed")
    return found


def certificates(binary, folder):
    """An authority, the proxy's certificate and a client's, made by the broker's own command."""
    for words in (["ca"], ["server", "localhost", "127.0.0.1"], ["client", "device-7"]):
        subprocess.run([binary, "certs", *words, "--out", str(folder)], check=True, capture_output=True,
                       env=clean_environment())
    shutil.copy(folder / "ca.crt", folder / "clients-ca.crt")


class Stage:
    """Three nodes and one proxy."""

    node = Node

    def __init__(self, kind, binary):
        self.kind = kind
        self.certs = pathlib.Path(tempfile.mkdtemp(prefix="nightjar-test-certs-"))
        certificates(binary, self.certs)
        self.nodes = [self.node(number, binary) for number in NODES]
        self.proxy = Proxy(kind, self.nodes, self.certs)

    def __enter__(self):
        for node in self.nodes:
            node.start()
        self.proxy.start()
        return self

    def __exit__(self, *_):
        self.proxy.stop()
        for node in self.nodes:
            node.remove()
        shutil.rmtree(self.certs, ignore_errors=True)

    def trust(self, client=None):
        pair = (self.certs / f"{client}.crt", self.certs / f"{client}.key") if client else (None, None)
        return trusting(self.certs / "ca.crt", *pair)

    def client(self, port, cid, source=AFAR, cert=None, **options):
        """A client by the proxy's port of this number."""
        if port in (8883, 8084):
            options.setdefault("tls", self.trust(cert))
        return Client(self.proxy.ports[port], cid, source=source, websocket=port in (8083, 8084), **options)

    def home(self, client, cid):
        """Number of the node that serves a client: what it publishes arrives there only."""
        topic = f"where/{cid}"
        watchers = [Client(node.port("tcp"), f"watch-{node.number}") for node in self.nodes if node.alive()]
        try:
            for watcher in watchers:
                check(watcher.subscribe(topic) == 1, "a watcher may not subscribe")
            check(client.publish(topic, b"here") in (0, 0x10), "the client may not publish")
            alive = [node.number for node in self.nodes if node.alive()]
            # Each watcher's own message tells that nothing else is on its way.
            for number, watcher in zip(alive, watchers):
                watcher.publish(topic, b"end")
                if watcher.message().payload == b"here":
                    return number
        finally:
            for watcher in watchers:
                watcher.end()
        raise Failed("no node got it")

    def quiet(self, since):
        """Lines of the nodes' logs since a mark, but those that any start has."""
        return [line for node, mark in zip(self.nodes, since)
                for line in (node.dir / "stderr.log").read_text()[mark:].splitlines()]

    def mark(self):
        return [(node.dir / "stderr.log").stat().st_size for node in self.nodes]


CASES = {"haproxy": [], "nginx": []}


def case(*kinds):
    def register(fn):
        for kind in kinds:
            CASES[kind].append((f"proxy/{kind}/{fn.__name__}", fn))
        return fn
    return register


BOTH = ("haproxy", "nginx")


@case(*BOTH)
def the_file_is_accepted_without_a_warning(stage):
    words = ["-c"] if stage.kind == "haproxy" else ["-t"]
    done = subprocess.run(stage.proxy.command(*words), capture_output=True, text=True, timeout=30, check=False)
    said = done.stdout + done.stderr
    check(done.returncode == 0 and not re.search(r"warn|alert|emerg", said, re.I), said)


@case(*BOTH)
def the_clients_address_reaches_the_rules(stage):
    """PROXY on 1883 and 8883, X-Forwarded-For on 8083 and 8084: a rule with ${peerhost} sees the client's own."""
    for port in (1883, 8883, 8083, 8084):
        for v in (3, 4, 5):
            with stage.client(port, f"address-{port}-{v}", v=v) as client:
                client.ping()
                if v == 5:
                    rc = client.publish(f"from/{AFAR}/x")
                    check(rc in (0, 0x10), f"port {port}: its own address: {rc:#x}")
                    rc = client.publish("from/127.0.0.1/x")
                    check(rc == 0x87, f"port {port}: the proxy's address: {rc:#x}")


@case(*BOTH)
def a_client_cannot_say_its_own_address(stage):
    """Headers that the client sends are replaced by the proxy's."""
    forged = ("X-Forwarded-For: 127.0.0.99", "Forwarded: for=127.0.0.99", "X-Forwarded-Port: 1")
    with stage.client(8083, "forger", headers=forged) as client:
        check(client.publish("from/127.0.0.99/x") == 0x87, "the forged address is believed")
        check(client.publish(f"from/{AFAR}/x") in (0, 0x10), "the real address is not")


@case(*BOTH)
def direct_clients_are_served_on_the_same_port(stage):
    """proxy_protocol = "optional": with and without a header; a header from a stranger is refused."""
    port = stage.nodes[0].port("tcp")
    with Client(port, "direct", source=AFAR) as client:
        check(client.publish(f"from/{AFAR}/x") in (0, 0x10), "its own address")
    with socket.create_connection(("127.0.0.1", port), 10, source_address=(AFAR, 0)) as stranger:
        stranger.settimeout(10)
        stranger.sendall(b"PROXY TCP4 10.1.2.3 10.1.2.4 1111 1883\r\n" + wire.connect("stranger"))
        with contextlib.suppress(ConnectionError):
            check(stranger.recv(4) == b"", "a header from an address that is no trusted proxy is served")


@case(*BOTH)
def messages_pass_both_ways_and_large(stage):
    """A payload far above every buffer on the way, over all four ports at once."""
    body = os.urandom(700_000)
    for port in (1883, 8883, 8083, 8084):
        with stage.client(port, f"large-{port}") as client:
            topic = f"open/large/{port}"
            check(client.subscribe(topic) == 1, "subscribe")
            check(client.publish(topic, body) == 0, "publish")
            got = client.message()
            check(got.payload == body, f"port {port}: {len(got.payload)} bytes came back")


@case(*BOTH)
def the_dashboard_is_reached(stage):
    """Its page and the API on 18083; without a login the API says no, whoever asks."""
    for path, status, part in (("/", 200, b"Nightjar"), ("/status", 200, b"is running"), ("/api/v1/clients", 401, b"code")):
        connection = http.client.HTTPConnection("127.0.0.1", stage.proxy.ports[18083], timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        check(answer.status == status and part in body, f"{path}: {answer.status} {body[:200]}")


@case(*BOTH)
def an_empty_client_id_and_a_large_connect(stage):
    """A CONNECT that no proxy's buffer holds is served too: what cannot be read is passed on."""
    for _ in range(3):
        with stage.client(1883, "") as client:
            check(client.connack.properties.get("assigned_client_id"), client.connack)
    will = ("open/will", os.urandom(40_000), 0, False)
    with stage.client(1883, "large-connect", will=will, timeout=20) as client:
        client.ping()


@case("haproxy")
def a_client_id_stays_with_its_node(stage):
    """Twelve clients, four times each, over 1883 and 8883: always the same node; together more than one."""
    homes, dice = {}, random.Random(5)
    for turn in range(4):
        # In another order each time, so that a balancer that takes turns does not pass.
        for number in dice.sample(range(12), 12):
            cid = f"sticky-{number}"
            with stage.client((1883, 8883)[turn % 2], cid, v=(5, 4)[turn // 2]) as client:
                home = stage.home(client, cid)
            check(homes.setdefault(cid, home) == home, f"{cid} went from {homes[cid]} to {home}")
    check(len(set(homes.values())) > 1, f"all on one node: {homes}")


@case("haproxy")
def the_name_of_a_clients_certificate_is_its_user(stage):
    """TLS ended at the proxy; the common name travels in PROXY v2, and only a verified one does."""
    with stage.client(8883, "with-cert", cert="device-7") as client:
        check(client.publish("only/device-7/x") in (0, 0x10), "device-7 may not publish to its topic")
    with stage.client(8883, "without-cert") as client:
        check(client.publish("only/device-7/x") == 0x87, "a client without a certificate may")
    with stage.client(1883, "plain", user="someone") as client:
        check(client.publish("only/device-7/x") == 0x87, "another user may")


@case("haproxy")
def a_certificate_of_another_authority_is_refused(stage):
    folder = stage.certs / "other"
    certificates(stage.nodes[0].binary, folder)
    tls = trusting(stage.certs / "ca.crt", folder / "device-7.crt", folder / "device-7.key")
    try:
        stage.client(8883, "foreign", tls=tls).end()
    except (Failed, OSError):
        return
    raise Failed("it was let in")


@case(*BOTH)
def health_checks_are_silent(stage):
    """Checks for four seconds (LOCAL, HTTP), and bare connects as cloud balancers make: no line in any log."""
    since = stage.mark()
    for node in stage.nodes:
        for kind in ("tcp", "tls", "ws", "wss"):
            socket.create_connection(("127.0.0.1", node.port(kind)), 5).close()
            with socket.create_connection(("127.0.0.1", node.port(kind)), 5) as probe:
                # As some balancers end: with a reset.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    time.sleep(4)
    said = stage.quiet(since)
    check(not said, said[:3])
    if stage.kind == "haproxy":
        check("is DOWN" not in "".join(line for line in stage.proxy.output().splitlines()
                                       if "mqtt" in line or "websocket" in line), stage.proxy.output())


@case("nginx")
def sensors_connect_sleep_and_wake_through_udp(stage):
    """MQTT-SN: thirty clients from one address; what comes while a sensor sleeps is there when it wakes."""
    sensors = [sn_client.Client("127.0.0.1", stage.proxy.ports[1884], f"sensor-{number}") for number in range(30)]
    direct = [Client(node.port("tcp"), f"sn-{node.number}") for node in stage.nodes]
    try:
        for number, sensor in enumerate(sensors):
            sensor.connect()
            sensor.subscribe(f"open/sn/{number}", qos=1)
            sensor.publish(f"open/sn/{number}", b"awake", qos=1)
            got = sensor.receive()
            check(got and got.data == b"awake", f"sensor {number} got {got}")
            sensor.sleep(600)
        for number in range(len(sensors)):
            for client in direct:
                client.publish(f"open/sn/{number}", b"slept", qos=1)
        for number, sensor in enumerate(sensors):
            got = [message.data for message in sensor.wake()]
            check(got == [b"slept"], f"sensor {number} woke to {got}")
    finally:
        for sensor in sensors:
            sensor.close()
        for client in direct:
            client.end()


@case("haproxy")
def a_connect_behind_a_local_header_is_served(stage):
    """[PROXY protocol 2.2] LOCAL is a connection of the proxy itself; some checks go on with a CONNECT."""
    local = b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x20, 0, 0, 0])
    with socket.create_connection(("127.0.0.1", stage.nodes[0].port("tcp")), 10) as probe:
        probe.settimeout(10)
        probe.sendall(local + wire.connect("probe", 4))
        check(probe.recv(4) == b"\x20\x02\0\0", "no CONNACK")


@case(*BOTH)
def idle_connections_live_on(stage):
    """Nothing for longer than any time limit of connecting, then a message."""
    clients = [stage.client(port, f"idle-{port}") for port in (1883, 8883, 8083, 8084)]
    time.sleep(7)
    for client in clients:
        client.ping()
        client.end()


@case(*BOTH)
def a_stopped_node_is_passed_over_and_comes_back(stage):
    """Its clients are told; each of twenty connects at once finds a node that serves; the node gets clients again."""
    victim = stage.nodes[0]
    held = [stage.client(1883, f"held-{number}") for number in range(9)]
    check(victim.stop() == 0, "it does not stop by SIGTERM")
    told = [client for client in held if (packet := client_end(client)) and packet.rc == 0x8B]
    check(told, "no client was told 0x8B")
    for number in range(20):
        with stage.client((1883, 8883, 8083, 8084)[number % 4], f"after-{number % 5}") as client:
            client.ping()
    victim.start()

    def back():
        with stage.client(1883, f"back-{time.monotonic_ns()}") as client:
            return stage.home(client, "back") == victim.number

    until(back, "the node gets clients again", 30)


GUIDES = {
    "haproxy-2.1.cfg": ("haproxy", ("192.168.0.2", "192.168.0.3"), (8883,)),
    "haproxy-4.4.cfg": ("haproxy", ("node1.emqx.io", "node2.emqx.io"), (1883, 8083)),
    "nginx-3.1.conf": ("nginx", ("172.24.33.91", "172.24.33.92", "172.24.33.93"), (1883, 8883)),
}


def guide(stage, name):
    """The file of an older guide in front of the nodes: all its ports serve, nothing is said in the nodes' logs."""
    kind, addresses, ports = GUIDES[name]
    (stage.certs / "emqx.pem").write_text((stage.certs / "server.crt").read_text() + (stage.certs / "server.key").read_text())
    proxy = Proxy.of_guide(kind, name, dict(zip(addresses, stage.nodes)), stage.certs, ports)
    try:
        proxy.start()
        since = stage.mark()
        for port in ports:
            for v in (4, 5):
                tls = stage.trust() if port == 8883 else None
                with Client(proxy.ports[port], f"guide-{port}-{v}", v=v, tls=tls, websocket=port == 8083, source=AFAR) as client:
                    check(client.subscribe("open/guide") in (0, 1), "subscribe")
                    check(client.publish("open/guide", b"through") == 0, "publish")
                    check(client.message().payload == b"through", "another message")
                    if port == 1883 and name == "haproxy-4.4.cfg" and v == 5:
                        check(client.publish(f"from/{AFAR}/x") in (0, 0x10), "its own address")
        said = stage.quiet(since)
        check(not said, said[:3])
    finally:
        proxy.stop()


for _name, (_kind, _, _) in GUIDES.items():
    CASES[_kind].append((f"proxy/guides/{_name}", lambda stage, name=_name: guide(stage, name)))


def client_end(client):
    """The DISCONNECT that a client was sent; None for a connection that lives on."""
    try:
        return client.packet(timeout=1)
    except TimeoutError:
        return None
    finally:
        client.drop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    binary = str(pathlib.Path(args.bin).resolve())
    results = Results(ci=os.environ.get("CI") == "true")
    for kind, cases in CASES.items():
        chosen = [(name, fn) for name, fn in cases if args.only in name]
        if not chosen:
            continue
        try:
            program(kind)
        except Failed:
            results.skip(f"proxy/{kind}", f"{kind} is not installed (Debian packages haproxy, nginx, libnginx-mod-stream)")
            continue
        try:
            with Stage(kind, binary) as stage:
                for name, fn in chosen:
                    begin = time.monotonic()
                    try:
                        fn(stage)
                        dead = [node.number for node in stage.nodes if not node.alive() or node.panic()]
                        check(not dead, f"nodes {dead} are gone: {[stage.nodes[n - 1].tail() for n in dead]}")
                        results.ok(name, time.monotonic() - begin)
                    except (Failed, OSError, wire.WireError, sn_client.MqttSnError, subprocess.SubprocessError) as error:
                        results.fail(name, f"{error!r}\n{stage.proxy.output()}", time.monotonic() - begin)
        except (Failed, BrokerError, OSError, subprocess.SubprocessError) as error:
            results.fail(f"proxy/{kind}", repr(error))
    return results.close("proxy")


if __name__ == "__main__":
    sys.exit(main())
