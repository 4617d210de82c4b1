#!/usr/bin/env python3
"""Operating a cluster: clients that move, nodes that are compared, a witness, two nodes and their truth.

    python3 tests/cluster/operate.py --bin target/debug/nightjar [--only WORD]
"""

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import run
from run import Cluster, Node

from blocking import check, until  # noqa: E402
from broker import clean_environment  # noqa: E402

wire = run.wire
CASES = []
EXPIRY = {"properties": {"session_expiry": 300}}


def case(fn):
    CASES.append(fn)
    return fn


class Made(Node):
    """A node, and as many others as are expected."""

    def __init__(self, number, binary, seeds, expect, witness=False):
        super().__init__(number, binary, seeds)
        self.expect, self.witness = expect, witness

    def begin(self):
        config = self.dir / "nightjar.toml"
        config.write_text(self.config())
        role = ["--role", "witness"] if self.witness else []
        self._spawn([str(self.binary), "serve", "--config", str(config), *role])

    def http(self, path):
        address = json.loads((self.data_dir / "listeners.json").read_text())["api"]
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.read().decode()

    def answers(self, path):
        """Status and text."""
        try:
            return 200, self.http(path)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def reference(self):
        return f"127.0.0.1:{self.mqtt}"


class Few(Cluster):
    """Nodes, of which the last may be a witness."""

    def __init__(self, binary, brokers, witness=False):  # pylint: disable=super-init-not-called
        self.binary = binary
        count = brokers + (1 if witness else 0)
        self.nodes = {number: Made(number, binary, self.seeds, count, witness and number == count)
                      for number in range(1, count + 1)}


def goodbye(client):
    """Code and server reference of the DISCONNECT that comes."""
    packet = client.packet(30)
    check(packet is not None and packet.kind == wire.DISCONNECT, packet)
    return packet.rc, packet.properties.get("server_reference")


def verified(node):
    code, text = node.ctl("cluster", "verify")
    check(code == 0, text)
    return json.loads(text)


@case
def nodes_hold_the_same_and_say_so(binary):
    """State of every kind, made on all nodes while they are compared again and again."""
    cluster = Few(binary, 3)
    try:
        cluster.start()
        nodes = list(cluster.nodes.values())
        stop, failures = threading.Event(), []

        def work(number):
            try:
                node = nodes[number]
                away = node.client(f"away-{number}", clean=False, **EXPIRY)
                away.subscribe(f"v/{number}/#", 2)
                away.subscribe("$share/g/v/#", 1)
                away.drop()
                with node.client(f"worker-{number}", will=(f"v/will/{number}", b"w", 1, True)) as client:
                    turn = 0
                    while not stop.is_set():
                        turn += 1
                        client.publish(f"v/{turn % 3}/x", str(turn).encode(), qos=1, retain=turn % 5 == 0)
                        if turn % 10 == 0:
                            client.subscribe(f"own/{number}/{turn}", 1)
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        indexes = []
        for turn in range(4):
            verdict = verified(nodes[turn % 3])
            check(sorted(verdict["nodes"]) == ["node1", "node2", "node3"], verdict)
            check(verdict["groups"] > 16, verdict)
            indexes.append(verdict["index"])
        stop.set()
        for thread in threads:
            thread.join()
        check(not failures, failures)
        check(indexes == sorted(set(indexes)) and indexes[-1] > indexes[0] + 50, indexes)
        # A node that comes back holds the same, from snapshot and log.
        nodes[1].kill()
        with nodes[0].client("meanwhile") as client:
            client.publish("v/1/x", b"while it was down")
        nodes[1].begin()
        cluster.wait(60)
        verified(nodes[1])
    finally:
        cluster.remove()


@case
def a_drained_node_sends_its_clients_elsewhere_at_a_rate(binary):
    """0x9C with the server reference of the node with the fewest; the lead goes too; new clients are told the same."""
    cluster = Few(binary, 3)
    try:
        cluster.start()
        node = cluster.leader()
        others = [it for it in cluster.nodes.values() if it is not node]
        references = {it.reference() for it in others}

        def told():
            seen = {it["number"]: it for it in node.status()["nodes"]}
            return all(it.get("reference") in references | {node.reference()} for it in seen.values())
        until(told, "nodes tell each other where clients connect", 15)
        clients = [node.client(f"moved-{n}", clean=False, **EXPIRY) for n in range(40)]
        old = node.client("moved-old", v=4)
        begin = time.monotonic()
        code, text = node.ctl("cluster", "drain", "--rate", "20")
        took = time.monotonic() - begin
        check(code == 0, text)
        check(took > 1.5, f"41 clients at 20 a second took {took:.1f} s")
        got = [goodbye(client) for client in clients]
        check({rc for rc, _ in got} == {0x9C}, got)
        counts = {reference: [at for _, at in got].count(reference) for reference in references}
        check(sum(counts.values()) == 40 and min(counts.values()) >= 10, counts)
        old.closed(10)
        refused = run.Session(node.mqtt, "late", rc=None)
        check(refused.connack.rc == 0x9C, refused.connack)
        check(refused.connack.properties.get("server_reference") in references, refused.connack)
        refused.drop()
        until(lambda: node.status()["leader"] not in (None, node.status()["number"]), "the lead moved", 15)
        check(node.status()["draining"], node.status())
        check("\nnightjar_cluster_draining 1\n" in node.http("/metrics"), "in the metrics")
        for n, (_, at) in enumerate(got[:5]):
            there = next(it for it in others if it.reference() == at)
            with there.client(f"moved-{n}", clean=False, **EXPIRY) as client:
                check(client.connack.session_present, "the session went along")
        for path in ("/status", "/readyz"):
            code, text = node.answers(path)
            check(code == 503 and "taking no clients" in text, (path, code, text))
        code, text = node.ctl("cluster", "drain", "--stop")
        check(code == 0, text)
        for path in ("/status", "/readyz"):
            check(node.answers(path)[0] == 200, path)
        node.client("back-again").end()
        return f"41 clients at 20 a second in {took:.1f} s"
    finally:
        cluster.remove()


@case
def clients_are_evened_out_and_a_node_that_stops_names_another(binary):
    cluster = Few(binary, 3)
    try:
        cluster.start()
        one, two, three = cluster.nodes.values()
        until(lambda: all(it.get("reference") for it in one.status()["nodes"]), "references are known", 15)
        code, text = two.ctl("cluster", "rebalance")
        check(code == 0 and all(it["moves"] == 0 for it in json.loads(text)["nodes"]), text)
        clients = [one.client(f"crowd-{n}") for n in range(30)]
        # Asked of another node than the one that is full.
        code, text = two.ctl("cluster", "rebalance", "--rate", "100")
        check(code == 0, text)
        moves = {it["node"]: (it["clients"], it["moves"]) for it in json.loads(text)["nodes"]}
        check(moves == {"node1": (30, 20), "node2": (0, 0), "node3": (0, 0)}, moves)
        references = []

        def read(client):
            try:
                packet = client.packet(5)
            except TimeoutError:
                return
            if packet is not None and packet.kind == wire.DISCONNECT:
                references.append((packet.rc, packet.properties.get("server_reference")))
        threads = [threading.Thread(target=read, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = sorted([(0x9C, two.reference())] * 10 + [(0x9C, three.reference())] * 10)
        check(sorted(references) == expected, references)
        until(lambda: one.http("/metrics").count('nightjar_cluster_node_clients{peer="node1"} 10\n') == 1, "seen", 15)
        for name in ("\nnightjar_cluster_quorum 1\n", 'nightjar_cluster_node_up{peer="node3"} 1',
                     'nightjar_cluster_route_digest{peer="node2"}', "nightjar_cluster_lease_milliseconds"):
            check(name in one.http("/metrics"), name)
        leader = cluster.leader()
        seen = leader.status()["nodes"]
        check(all(it["lease"] is not None and it["lease"] <= 5000 for it in seen), seen)
        # SIGTERM: whoever is there is told of another node.
        last = two.client("last")
        two.stop()
        rc, reference = goodbye(last)
        check(rc == 0x9C and reference in (one.reference(), three.reference()), (rc, reference))
    finally:
        cluster.remove()


@case
def two_nodes_and_a_witness_outlive_one_of_the_two(binary):
    """The witness has no listener and no lead to keep; without one of the brokers the other goes on."""
    cluster = Few(binary, 2, witness=True)
    try:
        cluster.start()
        one, two, witness = cluster.nodes.values()
        until(lambda: witness.status()["leader"] != witness.status()["number"], "a broker leads", 30)
        seen = {it["name"]: it for it in until(
            lambda: (lambda nodes: nodes if all(it.get("closed") is not None for it in nodes) else None)(
                one.status()["nodes"]), "known", 15)}
        check(seen["node3"]["closed"] and not seen["node1"]["closed"], seen)
        check(not json.loads((witness.data_dir / "listeners.json").read_text()).keys() - {"api"}, "no listener")
        took = run.kill_and_check(cluster, two, [one, one])
        leader = cluster.leader()
        check(leader is not witness, "a broker leads again")
        verified(one)
        return f"wills after {took:.1f} s"
    finally:
        cluster.remove()


@case
def a_node_alone_grows_to_three_and_back_and_keeps_what_it_had(binary):
    """As docs/cluster.md says: expect = 1 for the first, seeds for the others; then leave, one after the other."""
    cluster = Few(binary, 3)
    one, two, three = cluster.nodes.values()
    try:
        (one.dir / "nightjar.toml").write_text(one.config()[:one.config().index("[cluster]")])
        one._spawn([str(binary), "serve", "--config", str(one.dir / "nightjar.toml")])

        def first():
            try:
                return one.client("old", clean=False, **EXPIRY)
            except OSError:
                return None
        client = until(first, "it serves alone", 30, pause=0.2)
        client.subscribe("old/#", 1)
        client.drop()
        with one.client("writer") as writer:
            for n in range(5):
                writer.publish("old/queue", str(n).encode())
        one.stop()
        one.expect = 1
        one.begin()
        until(one.serves, "a cluster of one", 30, pause=0.3)
        steady = one.client("steady")
        steady.subscribe("steady/#", 1)
        two.begin()
        three.begin()
        cluster.wait(60)
        client = three.client("old", clean=False, **EXPIRY)
        check(client.connack.session_present, "it came along")
        check([client.message().payload for _ in range(5)] == [str(n).encode() for n in range(5)], "with its queue")
        client.drop()
        verified(two)
        for node in (three, two):
            left = f"node{node.number}"
            code, text = node.ctl("--yes", "cluster", "leave")
            check(code == 0, text)
            until(lambda: all(it["name"] != left for it in one.status()["nodes"]), "gone", 20)
            steady.publish("steady/1", b"x")
            check(steady.message().payload == b"x", "it goes on")
        check(one.status()["quorum"] and len(one.status()["nodes"]) == 1, one.status())
        code, text = one.ctl("--yes", "cluster", "leave")
        check(code == 4 and "only one" in text, (code, text))
        check(one.client("old", clean=False, **EXPIRY).connack.session_present, "still there")
        steady.end()
    finally:
        cluster.remove()


@case
def a_voter_that_is_down_for_long_is_replaced_and_forced_out(binary):
    """Autoclean: of four nodes with three voters the fourth votes when one stays away; then force-leave, by name."""
    cluster = Few(binary, 4)
    for node in cluster.nodes.values():
        node.extra = 'autoclean = "2s"'
    try:
        for node in cluster.nodes.values():
            node.begin()
        nodes = list(cluster.nodes.values())

        def roles():
            seen = nodes[0].status().get("nodes", [])
            return {it["name"]: it["role"] if it["up"] else "down" for it in seen}

        until(lambda: all(node.serves() for node in nodes), "all serve", 60, pause=0.3)
        until(lambda: sorted(roles().values()) == ["leader", "learner", "voter", "voter"], f"roles {roles()}", 30)
        keeper = nodes[0].client("keeper", clean=False, **EXPIRY)
        keeper.subscribe("kept/#", 1)
        spare = next(name for name, role in roles().items() if role == "learner")
        victim = next(node for node in nodes[1:] if roles()[f"node{node.number}"] == "voter")
        code, text = nodes[0].ctl("--yes", "cluster", "force-leave", f"node{victim.number}")
        check(code == 4 and "is up" in text, (code, text))
        victim.kill()
        until(lambda: roles().get(spare) in ("voter", "leader"), "the spare one votes", 30, pause=0.3)
        code, text = nodes[0].ctl("--yes", "cluster", "force-leave", f"node{victim.number}")
        check(code == 0, text)
        until(lambda: f"node{victim.number}" not in roles(), "it is gone", 15)
        keeper.publish("kept/1", b"x")
        check(keeper.message().payload == b"x", "it goes on")
        verified(nodes[0])
        # It may not come back as who it was.
        victim.begin()
        until(lambda: "was removed from the cluster" in (victim.status().get("problem") or ""), "it is told", 30, pause=0.3)
        keeper.end()
    finally:
        cluster.remove()


@case
def two_nodes_alone_stop_together_and_come_back(binary):
    """The truth of two: without the other one nothing is acknowledged, and both go on when it is back."""
    cluster = Few(binary, 2)
    try:
        cluster.start()
        one, two = cluster.nodes.values()
        keeper = one.client("keeper", clean=False, **EXPIRY)
        keeper.subscribe("two/#", 1)
        two.kill()
        until(lambda: not one.serves(), "it stops serving", 20)
        keeper.closed(10)
        refused = run.Session(one.mqtt, "early", rc=None)
        check(refused.connack.rc in (0x88, 0x9C), refused.connack)
        refused.drop()
        until(lambda: "majority" in (one.status()["problem"] or ""), "it says what is missing", 10)
        check(not one.status()["quorum"], one.status())
        for path in ("/status", "/readyz"):
            code, text = one.answers(path)
            check(code == 503 and "waiting for its cluster" in text, (path, code, text))
        two.begin()
        cluster.wait(60)
        with two.client("writer") as writer:
            writer.publish("two/1", b"after")
        again = one.client("keeper", clean=False, **EXPIRY)
        check(again.connack.session_present, "nothing is lost")
        check(again.message().payload == b"after", "and it goes on")
        again.end()
    finally:
        cluster.remove()


@case
def a_backup_of_the_cluster_becomes_a_node_and_damage_to_its_log_is_found(binary):
    cluster = Few(binary, 3)
    alone = None
    try:
        cluster.start()
        one, two, three = cluster.nodes.values()
        away = three.client("archived", clean=False, **EXPIRY)
        away.subscribe("kept/#", 1)
        away.drop()
        # Still connected at the backup, on another node than the one that writes it.
        there = one.client("connected", clean=False, **EXPIRY)
        there.subscribe("kept/#", 1)
        with one.client("publisher") as publisher:
            for n in range(20):
                publisher.publish("kept/queue", str(n).encode())
            publisher.publish("kept/retained", b"r", retain=True)
        file = two.dir / "cluster.backup"
        code, text = two.ctl("backup", str(file))
        check(code == 0, text)
        made = json.loads(text)
        check(made["sessions"] == 2 and made["retained"] == 1 and made["queued"] >= 21, made)
        code, text = two.ctl("backup", str(file))
        check(code == 4 and "overwrites nothing" in text, (code, text))
        code, out = tool(binary, "store", "check", str(file))
        check(code == 0 and "verdict: whole" in out and "2 sessions" in out, out)
        # A node alone, made of it.
        alone = Made(9, binary, lambda: [], 1)
        config = alone.config()
        (alone.dir / "nightjar.toml").write_text(config[:config.index("[cluster]")].replace("node9", "node2"))
        code, out = tool(binary, "ctl", "--config", str(alone.dir / "nightjar.toml"), "restore", str(file))
        check(code == 0, out)
        alone._spawn([str(binary), "serve", "--config", str(alone.dir / "nightjar.toml")])

        def back():
            try:
                return alone.client("archived", clean=False, **EXPIRY)
            except OSError:
                return None
        client = until(back, "it serves", 30, pause=0.2)
        check(client.connack.session_present, "the session is there")
        check([client.message().payload for _ in range(20)] == [str(n).encode() for n in range(20)], "its queue")
        check(client.message().payload == b"r", "all of it")
        client.end()
        again = alone.client("connected", clean=False, **EXPIRY)
        check(again.connack.session_present, "the connected one too")
        again.drop()
        with alone.client("reader") as reader:
            reader.subscribe("kept/retained", 1)
            check(reader.message().payload == b"r", "what was retained")
        # The log of the cluster, whole and damaged.
        three.kill()
        code, out = tool(binary, "store", "check", str(three.data_dir))
        check(code == 0 and "verdict: whole" in out and "of cluster" in out and "entries of the cluster" in out,
              out[-2000:])
        code, out = tool(binary, "store", "dump", str(three.data_dir))
        check(code == 0 and "archived" in out and "Up {" in out, out[-2000:])
        log = max((three.data_dir / "store" / "raft" / "log").glob("*.raftlog"), key=lambda it: it.stat().st_size)
        octets = bytearray(log.read_bytes())
        octets[300:340] = bytes(40)
        log.write_bytes(octets)
        code, out = tool(binary, "store", "check", str(three.data_dir))
        check(code == 1 and "DAMAGED" in out, (code, out[-2000:]))
    finally:
        if alone:
            alone.remove()
        cluster.remove()


def tool(binary, *words):
    done = subprocess.run([str(binary), *words], capture_output=True, text=True, timeout=60, check=False,
                          env=clean_environment(), stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(run.each("operate", CASES, __doc__))
