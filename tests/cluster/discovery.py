#!/usr/bin/env python3
"""How nodes find each other, and who is let in: two real nodes for each way of discovery, and links with TLS.

    python3 tests/cluster/discovery.py --bin target/debug/nightjar [--only WORD]
"""

import argparse
import base64
import http.server
import json
import pathlib
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import run
from run import ROOT, Node  # noqa: F401  (run sets the path up)

from blocking import Failed, check, until  # noqa: E402
from broker import BrokerError, clean_environment, free_port  # noqa: E402
from results import Results  # noqa: E402

CASES = []
COOKIE = 'cookie = "the cookie of these tests"'


def case(fn):
    CASES.append(fn)
    return fn


class Found(Node):
    """A node of a cluster of two; `how` are further lines of the configuration, from inside of [cluster] on."""

    def __init__(self, number, binary, how, expect=2):
        super().__init__(number, binary, lambda: [])
        self.how, self.expected, self.host = how, expect, "127.0.0.1"

    def config(self):
        text = super().config()
        return text[:text.index("[cluster]")] + f"""[cluster]
bind = "{self.host}:{self.link}"
expect = {self.expected}
{self.how}
"""

    def log(self):
        return (self.dir / "stderr.log").read_text(errors="replace")


def both(binary, how, work=None):
    """Two nodes that find each other; `how` is a text, or makes one of a node."""
    nodes = []
    try:
        for number in (1, 2):
            node = Found(number, binary, "")
            nodes.append(node)
            node.how = how(node) if callable(how) else how
        for node in nodes:
            node.begin()
        for node in nodes:
            try:
                until(node.serves, "both serve", 60, pause=0.3)
            except Failed as failed:
                raise Failed(f"{failed}: {json.dumps(node.status())[:1500]} {node.log()[-1500:]}") from None
        check(len(nodes[0].status()["nodes"]) == 2, nodes[0].status())
        with nodes[0].client("here") as here, nodes[1].client("there") as there:
            here.subscribe("hello", 1)
            there.publish("hello", b"x")
            check(here.message().payload == b"x", "one broker")
        return work(nodes) if work else None
    finally:
        for node in nodes:
            node.remove()


# ---- DNS ---------------------------------------------------------------------------------------


def dns_name(data, at):
    labels = []
    while data[at]:
        labels.append(data[at + 1:at + 1 + data[at]].decode())
        at += data[at] + 1
    return ".".join(labels), at + 1


def encode_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


class Dns:
    """A small server of DNS. `zone` maps (name, kind) to data; kinds in `cut` come whole over TCP only."""

    def __init__(self, zone, cut=()):
        self.zone, self.cut, self.asked = zone, cut, []
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.port = self.udp.getsockname()[1]
        self.tcp = socket.create_server(("127.0.0.1", self.port))
        for target in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=target, daemon=True).start()

    def answer(self, query, over_udp):
        name, end = dns_name(query, 12)
        kind, = struct.unpack("!H", query[end:end + 2])
        self.asked.append((name, kind, over_udp))
        records = self.zone.get((name.lower(), kind), [])
        known = any(name.lower() == zone_name for zone_name, _ in self.zone)
        flags = 0x8580 | (0 if known else 3)
        if over_udp and kind in self.cut and records:
            flags, records = flags | 0x0200, []
        out = query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + query[12:end + 4]
        for data in records:
            out += b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 1, len(data)) + data
        return out

    def serve_udp(self):
        while True:
            try:
                query, peer = self.udp.recvfrom(4096)
                self.udp.sendto(b"\x00noise", peer)
                self.udp.sendto(self.answer(query, True), peer)
            except OSError:
                return

    def serve_tcp(self):
        while True:
            try:
                stream, _ = self.tcp.accept()
            except OSError:
                return
            with stream:
                length, = struct.unpack("!H", stream.recv(2))
                answer = self.answer(stream.recv(length), False)
                stream.sendall(struct.pack("!H", len(answer)) + answer)

    def close(self):
        self.udp.close()
        self.tcp.close()


@case
def by_srv_records_with_their_ports_also_over_tcp(binary):
    """The answer is cut over UDP, so it must be asked for again over TCP."""
    zone = {("n.example", 1): [bytes([127, 0, 0, 1])]}
    dns = Dns(zone, cut=(33,))
    ports = []

    def how(node):
        ports.append(node.link)
        zone[("_nightjar._tcp.example", 33)] = [
            struct.pack("!HHH", 0, 0, port) + encode_name("n.example") for port in ports]
        return f"""{COOKIE}
discovery = "dns"
[cluster.dns]
name = "_nightjar._tcp.example"
record = "srv"
servers = ["127.0.0.1:{dns.port}"]"""

    try:
        both(binary, how)
        check(any(kind == 33 and not udp for _, kind, udp in dns.asked), "asked over TCP")
    finally:
        dns.close()


@case
def by_addresses_of_a_name(binary):
    """All nodes on one port, each on an address of its own."""
    port = free_port()
    dns = Dns({("nodes.example", 1): [bytes([127, 0, 0, 1]), bytes([127, 0, 0, 2])]})

    def how(node):
        node.link, node.host = port, f"127.0.0.{node.number}"
        return f"""{COOKIE}
discovery = "dns"
[cluster.dns]
name = "nodes.example"
servers = ["127.0.0.1:{dns.port}"]"""

    try:
        both(binary, how)
    finally:
        dns.close()


# ---- etcd --------------------------------------------------------------------------------------


@case
def by_etcd_and_the_key_goes_with_the_node(binary):
    if not shutil.which("etcd"):
        return "skip: etcd is not installed"
    folder = tempfile.mkdtemp(prefix="nightjar-etcd-")
    client, peer = free_port(), free_port()
    url = f"http://127.0.0.1:{client}"
    with open(f"{folder}/log", "wb") as log:
        etcd = subprocess.Popen(
            ["etcd", "--data-dir", f"{folder}/data", "--listen-client-urls", url, "--advertise-client-urls", url,
             "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls",
             f"http://127.0.0.1:{peer}", "--initial-cluster", f"default=http://127.0.0.1:{peer}"],
            stdout=log, stderr=log, env=clean_environment())

    token = {}

    def ask(path, body):
        request = urllib.request.Request(url + path, json.dumps(body).encode(), token)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def keys():
        encode = lambda text: base64.b64encode(text.encode()).decode()
        found = ask("/v3/kv/range", {"key": encode("/nightjar/"), "range_end": encode("/nightjar0")})
        return sorted(base64.b64decode(kv["key"]).decode() for kv in found.get("kvs", []))

    def up():
        try:
            return ask("/v3/kv/range", {"key": "AA=="}) is not None
        except OSError:
            return False

    def work(nodes):
        check(keys() == ["/nightjar/nightjar/nodes/node1", "/nightjar/nightjar/nodes/node2"], keys())
        nodes[1].stop()
        until(lambda: keys() == ["/nightjar/nightjar/nodes/node1"], "the key goes with the node", 15)

    try:
        until(up, "etcd answers", 60, pause=0.3)
        ask("/v3/auth/user/add", {"name": "root", "password": "secret"})
        ask("/v3/auth/role/add", {"name": "root"})
        ask("/v3/auth/user/grant", {"user": "root", "role": "root"})
        ask("/v3/auth/enable", {})
        token["Authorization"] = ask("/v3/auth/authenticate", {"name": "root", "password": "secret"})["token"]
        return both(binary, f"""{COOKIE}
discovery = "etcd"
[cluster.etcd]
servers = ["http://127.0.0.1:1", "{url}"]
username = "root"
password = "secret"
ttl = "10s\"""", work)
    finally:
        etcd.terminate()
        etcd.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


# ---- Kubernetes --------------------------------------------------------------------------------


def certs(binary, folder, *words):
    done = subprocess.run([str(binary), "certs", *words, "--out", str(folder)], capture_output=True, text=True,
                          check=False, env=clean_environment())
    check(done.returncode == 0, done.stderr)


@case
def by_kubernetes_with_its_token_over_https(binary):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="nightjar-k8s-"))
    links, refused = [], []

    class Api(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            right = self.path == "/api/v1/namespaces/brokers/endpoints/nightjar" and \
                self.headers["Authorization"] == "Bearer the token"
            if not right:
                refused.append((self.path, self.headers["Authorization"]))
            subsets = [{"notReadyAddresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "link", "port": port}]}
                       for port in links]
            body = json.dumps({"kind": "Endpoints", "subsets": subsets}).encode()
            self.send_response(200 if right else 403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    try:
        certs(binary, folder, "ca")
        certs(binary, folder, "server", "127.0.0.1")
        (folder / "token").write_text("the token\n")
        (folder / "namespace").write_text("brokers\n")
        server = Server(("127.0.0.1", 0), Api)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def how(node):
            links.append(node.link)
            return f"""{COOKIE}
discovery = "k8s"
[cluster.k8s]
api = "https://127.0.0.1:{server.server_address[1]}"
token_file = "{folder}/token"
ca_file = "{folder}/ca.crt\""""

        both(binary, how)
        check(not refused, refused)
        server.shutdown()
        server.server_close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- multicast ---------------------------------------------------------------------------------


@case
def by_multicast(binary):
    port = free_port()
    both(binary, f"""{COOKIE}
discovery = "mcast"
[cluster.mcast]
group = "239.192.83.71:{port}"
ttl = 0
interface = "127.0.0.1\"""")


# ---- manual, and TLS ---------------------------------------------------------------------------


@case
def by_hand_with_init_and_join_over_tls_and_strangers_are_told_why_not(binary):
    """`cluster init` on one, `cluster join` on it with the other's address; then nodes that may not link."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="nightjar-tls-"))
    ours, theirs = folder / "ours", folder / "theirs"
    nodes = []

    def tls(where, name):
        return f"""[cluster.tls]
cert_file = "{where}/{name}.crt"
key_file = "{where}/{name}.key"
ca_file = "{where}/ca.crt\""""

    def node(number, how):
        made = Found(number, binary, how)
        made.config_of = made.config
        made.config = lambda: made.config_of().replace("expect = 2\n", "")
        nodes.append(made)
        made.begin()
        until(lambda: made.status()["state"] != "down", "it answers", 30, pause=0.2)
        return made

    def told(one, other, reason_here, reason_there):
        until(lambda: reason_here in one.log(), f"node {one.number}: {reason_here}", 20)
        until(lambda: reason_there in other.log(), f"node {other.number}: {reason_there}", 20)

    try:
        for where in (ours, theirs):
            where.mkdir()
            certs(binary, where, "ca")
        for where, name in ((ours, "node1"), (ours, "node2"), (ours, "node3"), (theirs, "node4")):
            certs(binary, where, "node", name)
        certs(binary, ours, "client", "sensor")
        one, two = node(1, tls(ours, "node1")), node(2, tls(ours, "node2"))
        check(one.status()["state"] == "forming", one.status())
        code, text = one.ctl("cluster", "init")
        check(code == 0, text)
        until(one.serves, "formed by hand", 30, pause=0.3)
        code, text = one.ctl("cluster", "join", f"127.0.0.1:{two.link}")
        check(code == 0, text)
        until(two.serves, "joined", 40, pause=0.3)
        with one.client("here") as here, two.client("there") as there:
            here.subscribe("hello", 1)
            there.publish("hello", b"x")
            check(here.message().payload == b"x", "one broker")
        seed = f'discovery = "static"\nseeds = ["127.0.0.1:{one.link}"]\n'
        signed = "certificate is not signed by"
        told(node(4, seed + tls(theirs, "node4")), one, f"refused here: the other node's {signed}",
             f"refused there: this node's {signed}")
        told(node(5, seed + tls(ours, "sensor")), one, "refused there: this node's certificate",
             "refused here: the other node's certificate")
        told(node(6, seed + COOKIE), one, "has [cluster.tls], the one that dials it has not",
             "has [cluster.tls], the one that dials it has not")
        told(node(3, seed + COOKIE + "\n" + tls(ours, "node3")), one, "cluster.cookie differs", "cluster.cookie differs")
        check(one.status()["refused"] >= 4, one.status())
        check(len(one.status()["nodes"]) == 2, one.status())
    finally:
        for each in nodes:
            each.remove()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--only", default="")
    parser.add_argument("--ci", action="store_true")
    args = parser.parse_args()
    results = Results(ci=args.ci)
    for fn in CASES:
        if args.only not in fn.__name__:
            continue
        begin = time.monotonic()
        try:
            said = fn(args.bin)
        except (Failed, BrokerError, OSError, run.wire.WireError, subprocess.SubprocessError) as error:
            results.fail(f"discovery/{fn.__name__}", f"{type(error).__name__}: {error}", time.monotonic() - begin)
            continue
        if said and said.startswith("skip: "):
            results.skip(f"discovery/{fn.__name__}", said[6:])
        else:
            results.ok(f"discovery/{fn.__name__}", time.monotonic() - begin)
    return results.close("discovery")


if __name__ == "__main__":
    sys.exit(main())
