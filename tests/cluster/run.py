#!/usr/bin/env python3
"""Three real nodes that are one broker, all on free loopback ports.

    python3 tests/cluster/run.py --bin target/debug/nightjar [--only WORD] [--keep]
"""

import argparse
import base64
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "outside"))

from blocking import Client, Failed, check, until, wire  # noqa: E402
from broker import Broker, BrokerError, clean_environment, free_port  # noqa: E402
from results import Results  # noqa: E402

NODES = (1, 2, 3)
COOKIE = "the cookie of these tests"
# Wills of a killed node's clients come within this, in seconds.
WILL = 10.0
# Subscriptions made and published to at once elsewhere.
TURNS = 200
CASES = []


def case(fn):
    CASES.append(fn)
    return fn


def free_udp_port():
    return free_port(socket.SOCK_DGRAM)


class Session(Client):
    """A client that also speaks QoS 2."""

    def _keep(self, packet):
        if packet.qos == 2:
            self.send(wire.ack(wire.PUBREC, packet.pid))
            while True:
                following = self.packet()
                check(following is not None, "closed instead of PUBREL")
                if following.kind == wire.PUBREL:
                    break
                check(following.kind == wire.PUBLISH and following.qos < 2, following)
                super()._keep(following)
            self.send(wire.ack(wire.PUBCOMP, packet.pid))
        super()._keep(packet)

    def publish2(self, topic, payload):
        self.pid += 1
        self.send(wire.publish(topic, payload, 2, self.pid, self.v))
        self.answer(wire.PUBREC)
        self.send(wire.ack(wire.PUBREL, self.pid, flags=2))
        self.answer(wire.PUBCOMP)

    def quiet(self, seconds=0.5):
        """Nothing comes for so long."""
        check(not self.stash, self.stash)
        try:
            packet = self.packet(seconds)
        except TimeoutError:
            return
        raise Failed(f"nothing was expected, {packet} came")

    def closed(self, seconds):
        """The broker closes within so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                packet = self.packet(max(0.1, end - time.monotonic()))
            except TimeoutError:
                break
            if packet is None:
                return
        raise Failed(f"not closed within {seconds:g} s")


class Node(Broker):
    """A node whose ports stay the same over a restart."""

    def __init__(self, number, binary, seeds, extra=""):
        super().__init__("nightjar", binary, extra=extra)
        self.number, self.seeds = number, seeds
        self.mqtt, self.link, self.sn = free_port(), free_port(), free_udp_port()
        self.cookie, self.expect = COOKIE, len(NODES)

    def config(self):
        seeds = ", ".join(f'"127.0.0.1:{port}"' for port in self.seeds())
        return f"""
[node]
name = "node{self.number}"
data_dir = "{self.data_dir}"
[log]
level = "info"
[mqtt]
max_queue_len = 100000
[listeners.tcp.default]
bind = "127.0.0.1:{self.mqtt}"
[listeners.tls.default]
enable = false
[listeners.ws.default]
enable = false
[listeners.wss.default]
enable = false
[listeners.mqttsn.default]
bind = "127.0.0.1:{self.sn}"
auth = "off"
[api]
bind = "127.0.0.1:0"
[cluster]
bind = "127.0.0.1:{self.link}"
cookie = "{self.cookie}"
discovery = "static"
seeds = [{seeds}]
expect = {self.expect}
{self.extra}
"""

    def begin(self):
        """Starts without waiting to be ready."""
        config = self.dir / "nightjar.toml"
        config.write_text(self.config())
        self._spawn([str(self.binary), "serve", "--config", str(config)])

    def ctl(self, *words):
        """(exit code, answer) of a verb."""
        done = subprocess.run([str(self.binary), "ctl", "--data-dir", str(self.data_dir), "--output", "json", *words],
                              capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
                              env=clean_environment())
        return done.returncode, done.stdout if done.returncode == 0 else done.stderr

    def status(self):
        code, text = self.ctl("cluster", "status")
        return json.loads(text) if code == 0 else {"state": "down", "error": text}

    def alarms(self):
        """Names of the alarms that are raised."""
        code, text = self.ctl("alarms", "list")
        check(code == 0, text)
        return {row["name"] for row in json.loads(text) if not row.get("deactivated_at") and not row.get("deactivate_at")}

    def ask(self, method, path, body=None, authorization=None):
        """(status, answer) of the HTTP API."""
        address = json.loads((self.data_dir / "listeners.json").read_text())["api"]
        request = urllib.request.Request(f"http://{address}/api/v1{path}", method=method,
                                         headers={"content-type": "application/json"})
        if body is not None:
            request.data = json.dumps(body).encode()
        if authorization:
            request.add_header("authorization", authorization)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, None

    def login(self, name="admin", password=None):
        """The authorization of an account; of the admin by the first password of this node."""
        password = password or (self.data_dir / "admin-password").read_text().strip()
        status, answer = self.ask("POST", "/login", {"username": name, "password": password})
        return f"Bearer {answer['token']}" if status == 200 else None

    def get(self, path):
        """GET of the HTTP API, as the admin."""
        status, answer = self.ask("GET", path, authorization=self.login())
        check(status == 200, f"GET {path}: {status}")
        return answer

    def serves(self):
        return self.process is not None and self.process.poll() is None and self.status().get("state") == "serving"

    def client(self, cid, **options):
        """A client; on a loaded machine a node may be out of its cluster for a moment, and says so."""
        end = time.monotonic() + 15
        while True:
            client = Session(self.mqtt, cid, rc=None, **options)
            if client.connack.rc == 0:
                return client
            client.drop()
            check(client.connack.rc in (3, 0x88) and time.monotonic() < end, client.connack)
            time.sleep(0.3)


class Cluster:
    """Three nodes."""

    def __init__(self, binary):
        self.binary = binary
        self.nodes = {number: Node(number, binary, self.seeds) for number in NODES}

    def seeds(self):
        return [node.link for node in self.nodes.values()]

    def start(self):
        for node in self.nodes.values():
            node.begin()
        self.wait(60)
        return self

    def wait(self, timeout=40.0):
        """Until all serve and see each other up, with three voters."""
        def whole():
            for node in self.nodes.values():
                if not node.serves():
                    return False
                status = node.status()
                roles = [it["role"] for it in status["nodes"] if it["up"]]
                if len(roles) != len(self.nodes) or any(role not in ("leader", "voter") for role in roles):
                    return False
            return True
        try:
            until(whole, "all nodes serve", timeout, pause=0.3)
        except Failed as failed:
            states = {number: node.status() for number, node in self.nodes.items()}
            raise Failed(f"{failed}: {json.dumps(states)[:3000]}") from None

    def leader(self):
        number = until(lambda: self.nodes[1].status().get("leader") or self.nodes[2].status().get("leader"), "a leader")
        name = next(it["name"] for it in self.nodes[1].status()["nodes"] if it["number"] == number)
        return next(node for node in self.nodes.values() if f"node{node.number}" == name)

    def remove(self):
        for node in self.nodes.values():
            node.remove()


# ---- cases: each gets a whole cluster and leaves it whole ------------------------------------------


@case
def a_message_reaches_subscribers_of_other_nodes_once(cluster):
    """Transient and durable subscribers on node 2 and 3, publishers on node 1, QoS 0, 1 and 2."""
    one, two, three = (cluster.nodes[n] for n in NODES)
    subscribers = [
        (two.client("far-transient"), 2), (two.client("far-transient-2"), 1),
        (three.client("far-durable", clean=False, v=4), 2), (three.client("far-durable-1", clean=False, v=4), 1),
        (one.client("near"), 1),
    ]
    for subscriber, qos in subscribers:
        check(subscriber.subscribe("once/+", qos) == qos, "granted")
    with one.client("publisher") as publisher:
        publisher.publish("once/0", b"zero", qos=0)
        publisher.publish("once/1", b"one", qos=1)
        publisher.publish2("once/2", b"two")
    for subscriber, qos in subscribers:
        got = {}
        for _ in range(3):
            message = subscriber.message()
            got[message.payload] = message.qos
        check(got == {b"zero": 0, b"one": min(1, qos), b"two": min(2, qos)}, got)
        subscriber.quiet()
    for subscriber, _ in subscribers:
        subscriber.end()


@case
def a_subscription_is_in_force_everywhere_at_its_suback(cluster):
    """Many times: SUBACK at one node, then a publish at another; none may be missed."""
    nodes = list(cluster.nodes.values())
    publishers = [node.client(f"barrier-publisher-{node.number}") for node in nodes]
    for turn in range(TURNS):
        subscriber = nodes[turn % 3].client("barrier", clean=turn % 2 == 0, v=4)
        subscriber.subscribe(f"barrier/{turn}", turn % 3 % 2 + 0)
        publishers[(turn + 1) % 3].publish(f"barrier/{turn}", b"x", qos=1)
        try:
            check(subscriber.message().topic == f"barrier/{turn}", turn)
        except Failed as failed:
            raise Failed(f"turn {turn}: {failed}") from None
        subscriber.end()
    for publisher in publishers:
        publisher.end()
    nodes[0].client("barrier", clean=True, v=4).end()


@case
def a_shared_subscription_spans_nodes(cluster):
    """Each message goes to one member, and every node has its turn; a member that leaves is not missed."""
    members = {n: cluster.nodes[n].client(f"member-{n}") for n in NODES}
    for member in members.values():
        member.subscribe("$share/team/work/#", 1)
    publisher = cluster.nodes[1].client("employer")
    for number in range(30):
        publisher.publish(f"work/{number}", str(number).encode())
    got = {n: [] for n in NODES}
    end = time.monotonic() + 10
    while sum(map(len, got.values())) < 30 and time.monotonic() < end:
        for n, member in members.items():
            try:
                got[n].append(member.message(0.2).payload)
            except Failed:
                pass
    every = sorted(int(payload) for list_ in got.values() for payload in list_)
    check(every == list(range(30)), got)
    check(all(got.values()), f"every node has its turn: {got}")
    members[2].end()
    members[3].end()
    for number in range(10):
        publisher.publish("work/late", str(number).encode())
    # What a member had not acknowledged when its node read its DISCONNECT is handed on, behind what came meanwhile.
    late = [int(members[1].message().payload) for _ in range(10)]
    check(sorted(late) == list(range(10)), late)
    members[1].end()
    publisher.end()


@case
def retained_messages_are_on_every_node(cluster):
    with cluster.nodes[1].client("keeper") as keeper:
        for number in range(20):
            keeper.publish(f"kept/{number}", b"value", retain=True)
    for node in cluster.nodes.values():
        with node.client(f"reader-{node.number}") as reader:
            reader.subscribe("kept/#", 1)
            topics = sorted(reader.message().topic for _ in range(20))
            check(topics == sorted(f"kept/{n}" for n in range(20)), topics)
    with cluster.nodes[2].client("cleaner") as cleaner:
        for number in range(20):
            cleaner.publish(f"kept/{number}", b"", retain=True)
    with cluster.nodes[3].client("after") as after:
        after.subscribe("kept/#", 1)
        after.quiet()


@case
def a_session_goes_with_its_client_to_another_node(cluster):
    """Taken over with subscriptions and queue; the old connection is closed with 0x8E."""
    one, two, three = (cluster.nodes[n] for n in NODES)
    expiry = {"properties": {"session_expiry": 300}}
    first = one.client("wanderer", clean=False, **expiry)
    check(not first.connack.session_present, first.connack)
    first.subscribe("road/#", 1)
    second = two.client("wanderer", clean=False, **expiry)
    check(second.connack.session_present, "the session is there")
    gone = first.packet(10)
    check(gone is not None and gone.kind == wire.DISCONNECT and gone.rc == 0x8E, gone)
    with three.client("walker") as walker:
        walker.publish("road/1", b"to the second")
        check(second.message().payload == b"to the second", "delivered")
        # Its PUBACK is read before the connection breaks: what is not acknowledged comes again.
        second.ping()
        second.drop()
        for number in range(5):
            walker.publish("road/2", str(number).encode())
    third = three.client("wanderer", clean=False, **expiry)
    check(third.connack.session_present, "the session is there")
    payloads = [third.message().payload for _ in range(5)]
    check(payloads == [b"0", b"1", b"2", b"3", b"4"], payloads)
    third.quiet()
    third.end()
    one.client("wanderer", clean=True).end()


@case
def transient_clients_are_connected_once_in_the_cluster(cluster):
    clients = []
    for turn in range(6):
        client = cluster.nodes[turn % 3 + 1].client("only-one")
        client.subscribe("only/one", 1)
        clients.append(client)
    for old in clients[:-1]:
        old.closed(10)
    with cluster.nodes[2].client("asker") as asker:
        asker.publish("only/one", b"?")
    check(clients[-1].message().payload == b"?", "the last one has it")
    clients[-1].quiet()
    clients[-1].end()


@case
def each_node_shows_what_the_others_carry(cluster):
    """GET /nodes of one node has the figures of all."""
    first, second, third = cluster.nodes.values()
    clients = [second.client(f"carried-{n}") for n in range(3)] + [third.client("carried-3")]
    def told():
        return {it["node"]: (it["node_status"], it.get("connections")) for it in first.get("/nodes")["data"]}
    wanted = {f"node{first.number}": ("running", 0), f"node{second.number}": ("running", 3), f"node{third.number}": ("running", 1)}
    until(lambda: told() == wanted, "the figures of all nodes", 20, pause=0.5)
    (row,) = [it for it in first.get("/nodes")["data"] if it["node"] == f"node{second.number}"]
    for name in ("version", "uptime", "memory_used", "process_cpu", "load1", "subscriptions", "address"):
        check(row.get(name) is not None, f"{name} is missing: {row}")
    for client in clients:
        client.end()


@case
def who_may_use_the_api_may_use_it_on_every_node(cluster):
    """Accounts, tokens and API keys of one node count on the others at once, and end there too."""
    first, second, third = cluster.nodes.values()
    admin = first.login()
    status = lambda node, who, path="/status": node.ask("GET", path, authorization=who)[0]  # noqa: E731
    check([status(node, admin) for node in (first, second, third)] == [200, 200, 200], "the token is not known everywhere")
    check(second.ask("POST", "/accounts", {"username": "eve", "password": "password1", "role": "viewer"}, admin)[0] in (201, 204), "account")
    eve = third.login("eve", "password1")
    check(eve and status(first, eve) == 200 and status(first, eve, "/accounts") == 403, "eve looks, and no more")
    made, key = third.ask("POST", "/api_keys", {"name": "ci", "role": "viewer"}, admin)
    check(made == 201, f"key: {made}")
    basic = "Basic " + base64.b64encode(f"{key['key']}:{key['secret']}".encode()).decode()
    check(status(first, basic) == 200, "the key is not known on another node")
    check(first.ask("DELETE", "/api_keys/ci", authorization=admin)[0] == 204 and first.ask("DELETE", "/accounts/eve", authorization=admin)[0] == 204, "removed")
    for node in (second, third):
        until(lambda: status(node, eve) == 401 and status(node, basic) == 401, "what was removed ends everywhere", 10)
    check(second.ask("POST", "/logout", authorization=admin)[0] == 204, "logout")
    until(lambda: status(third, admin) == 401, "logging out of one node is logging out of all", 10)


@case
def connections_of_one_client_id_never_mix(cluster):
    """What a connection sent before it was taken over comes before all that its successor sends, or not at all."""
    listener = cluster.nodes[1].client("mix-listener", clean=False, v=4)
    listener.subscribe("mix", 2)
    clients, burst = [], 30
    for turn in range(60):
        client = cluster.nodes[turn % 3 + 1].client("mix")
        for number in range(burst):
            try:
                client.send(wire.publish("mix", b"%d-%d" % (turn, number), 1, number + 1, client.v))
            except OSError:
                break
        clients.append(client)
    with cluster.nodes[2].client("mix-end") as end:
        for _ in range(burst):
            packet = clients[-1].packet(20)
            check(packet is not None and packet.kind == wire.PUBACK, packet)
        end.publish("mix", b"end")
    last, seen = (-1, -1), 0
    while (payload := listener.message(20).payload) != b"end":
        at = tuple(map(int, payload.split(b"-")))
        check(at > last, f"{at} behind {last}")
        last, seen = at, seen + 1
    check(seen >= burst, f"only {seen} came")
    for client in clients:
        client.drop()
    listener.end()
    cluster.nodes[1].client("mix-listener", clean=True, v=4).end()
    return f"{seen} of {60 * burst} sent"


def kill_and_check(cluster, victim, others):
    """Kills a node with clients on it; wills, sessions and service come from the others."""
    watcher = others[0].client("watcher", clean=False, v=4)
    watcher.subscribe("will/#", 1)
    expiry = {"properties": {"session_expiry": 300}}
    doomed = [victim.client(f"doomed-{n}", will=(f"will/{n}", b"gone", 1, False)) for n in range(5)]
    session = victim.client("survivor", clean=False, **expiry)
    session.subscribe("news/#", 1)
    publisher = others[1].client("reporter")
    publisher.publish("news/0", b"before")
    check(session.message().payload == b"before", "before the kill")
    victim.kill()
    killed = time.monotonic()
    wills = sorted(watcher.message(WILL + 5).topic for _ in range(5))
    took = time.monotonic() - killed
    check(wills == [f"will/{n}" for n in range(5)], wills)
    check(took <= WILL, f"wills after {took:.1f} s")
    publisher.publish("news/1", b"while it is down")
    again = others[1].client("survivor", clean=False, **expiry)
    check(again.connack.session_present, "the session outlives its node")
    alarm = f"cluster_node_down/node{victim.number}"
    until(lambda: alarm in others[1].alarms(), "the alarm of the node that is down", 20, pause=0.5)
    message = again.message()
    if message.dup:
        message = again.message()  # Its acknowledgement died with the node.
    check(message.payload == b"while it is down", f"its queue too, not {message}")
    again.end()
    for client in doomed:
        client.drop()
    session.drop()
    victim.begin()
    cluster.wait()
    until(lambda: alarm not in others[1].alarms(), "the end of the alarm", 20, pause=0.5)
    again = victim.client("survivor", clean=False, **expiry)
    check(again.connack.session_present, "there on the node that came back")
    publisher.publish("news/2", b"after")
    check(again.message().payload == b"after", "and served there")
    again.end()
    publisher.end()
    watcher.end()
    others[0].client("watcher", clean=True).end()
    others[0].client("survivor", clean=True).end()
    return took


@case
def a_killed_node_wills_sessions_and_rejoin(cluster):
    leader = cluster.leader()
    others = [node for node in cluster.nodes.values() if node is not leader]
    took = kill_and_check(cluster, others[0], [leader, others[1]])
    return f"wills after {took:.1f} s"


@case
def the_leader_killed_wills_sessions_and_rejoin(cluster):
    leader = cluster.leader()
    others = [node for node in cluster.nodes.values() if node is not leader]
    took = kill_and_check(cluster, leader, others)
    return f"wills after {took:.1f} s"


@case
def a_killed_node_costs_no_other_its_clients(cluster):
    """The others do not reach it and say so before its lease is over: nobody else may go for that."""
    for _ in range(2):
        leader = cluster.leader()
        # Of two that do not reach each other the one with the higher number would go.
        victim, other = [node for node in cluster.nodes.values() if node is not leader]
        with leader.client("stays-1") as first, other.client("stays-2") as second:
            victim.kill()
            for _ in range(20):
                for client in (first, second):
                    client.publish("stays", b"still here")
                time.sleep(0.15)
        victim.begin()
        cluster.wait()


@case
def nothing_acknowledged_is_lost_when_nodes_are_killed_in_turn(cluster):
    """A durable subscriber that is away, publishers on all nodes that go on through three kills."""
    expiry = {"properties": {"session_expiry": 600}}
    away = cluster.nodes[1].client("collector", clean=False, **expiry)
    away.subscribe("load/#", 1)
    away.end()
    acknowledged, stop = set(), threading.Event()

    def publish(node):
        number = 0
        while not stop.is_set():
            try:
                with node.client(f"load-{node.number}") as client:
                    while not stop.is_set():
                        number += 1
                        payload = f"{node.number}-{number}"
                        if client.publish(f"load/{node.number}", payload.encode()) in (0, 0x10):
                            acknowledged.add(payload)
                        time.sleep(0.005)
            except (Failed, OSError, wire.WireError):
                time.sleep(0.2)

    threads = [threading.Thread(target=publish, args=(node,)) for node in cluster.nodes.values()]
    for thread in threads:
        thread.start()
    try:
        for number in NODES:
            time.sleep(1.5)
            cluster.nodes[number].kill()
            time.sleep(2)
            cluster.nodes[number].begin()
            cluster.wait(60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    check(len(acknowledged) > 100, f"only {len(acknowledged)} acknowledged")
    back = cluster.nodes[3].client("collector", clean=False, **expiry)
    check(back.connack.session_present, "the session is there")
    got = set()
    missing = set(acknowledged)
    while missing:
        try:
            payload = back.message(5).payload.decode()
        except Failed:
            break
        got.add(payload)
        missing.discard(payload)
    back.end()
    cluster.nodes[1].client("collector", clean=True).end()
    check(not missing, f"{len(missing)} of {len(acknowledged)} acknowledged messages are lost: {sorted(missing)[:20]}")
    return f"{len(acknowledged)} acknowledged"


@case
def a_minority_acknowledges_nothing_and_comes_back(cluster):
    """Two nodes are stopped with SIGSTOP: the third closes its clients; all serve again after SIGCONT."""
    import signal
    leader = cluster.leader()
    alone = next(node for node in cluster.nodes.values() if node is not leader)
    others = [node for node in cluster.nodes.values() if node is not alone]
    client = alone.client("lonely", clean=False, v=4)
    client.subscribe("lonely/#", 1)
    client.publish("lonely/1", b"x")
    check(client.message().payload == b"x", "served before")
    for node in others:
        node.process.send_signal(signal.SIGSTOP)
    try:
        client.pid += 1
        client.send(wire.publish("lonely/2", b"nobody", 1, client.pid, client.v))
        end = time.monotonic() + 12
        while time.monotonic() < end:
            try:
                packet = client.packet(max(0.1, end - time.monotonic()))
            except TimeoutError:
                raise Failed("the client was not closed") from None
            if packet is None:
                break
            check(packet.kind != wire.PUBACK, "acknowledged without a majority")
        try:
            refused = Session(alone.mqtt, "newcomer", rc=None)
            check(refused.connack.rc != 0, "a client was let in without a majority")
        except Failed as failed:
            check("closed before" in str(failed), failed)
        until(lambda: "cluster_split" in alone.alarms(), "the alarm of the split", 30, pause=0.5)
    finally:
        for node in others:
            node.process.send_signal(signal.SIGCONT)
    cluster.wait(60)
    again = cluster.nodes[1].client("lonely", clean=False, v=4)
    check(again.connack.session_present, "its session is there")
    again.end()
    cluster.nodes[1].client("lonely", clean=True, v=4).end()


@case
def all_nodes_restarted_with_everything_there(cluster):
    expiry = {"properties": {"session_expiry": 300}}
    sleeper = cluster.nodes[1].client("sleeper", clean=False, **expiry)
    sleeper.subscribe("dream/#", 1)
    sleeper.end()
    with cluster.nodes[2].client("storyteller") as teller:
        teller.publish("dream/1", b"once upon a time")
        teller.publish("shelf/book", b"retained", retain=True)
    for node in cluster.nodes.values():
        node.kill()
    for node in cluster.nodes.values():
        node.begin()
    cluster.wait(60)
    back = cluster.nodes[3].client("sleeper", clean=False, **expiry)
    check(back.connack.session_present, "the session is there")
    check(back.message().payload == b"once upon a time", "and its queue")
    back.subscribe("shelf/#", 1)
    check(back.message().payload == b"retained", "and the retained message")
    back.publish("shelf/book", b"", retain=True)
    back.end()
    cluster.nodes[1].client("sleeper", clean=True).end()


@case
def a_node_that_lost_its_disk_comes_back_under_a_new_number(cluster):
    import shutil
    leader = cluster.leader()
    node = next(node for node in cluster.nodes.values() if node is not leader)
    before = node.status()["number"]
    with leader.client("writer") as writer:
        writer.publish("disk/kept", b"still here", retain=True)
    node.kill()
    shutil.rmtree(node.data_dir)
    node.begin()
    cluster.wait(60)
    check(node.status()["number"] > before, node.status())
    with node.client("reader") as reader:
        reader.subscribe("disk/#", 1)
        check(reader.message().payload == b"still here", "it learned the state")
        reader.publish("disk/kept", b"", retain=True)


@case
def a_wrong_cookie_is_refused_with_the_reason_on_both_sides(cluster):
    stranger = Node(4, cluster.binary, cluster.seeds)
    stranger.cookie = "another cookie altogether"
    try:
        stranger.begin()
        until(lambda: b"cluster.cookie differs" in (stranger.dir / "stderr.log").read_bytes(), "told there", 15)
        member = cluster.nodes[1]
        until(lambda: b"cluster.cookie differs" in (member.dir / "stderr.log").read_bytes(), "told here", 15)
        check(stranger.status()["state"] == "forming", stranger.status())
        check(cluster.nodes[1].status()["refused"] > 0, "counted")
    finally:
        stranger.remove()


@case
def a_fourth_node_joins_and_leaves_while_the_cluster_serves(cluster):
    fourth = Node(4, cluster.binary, cluster.seeds)
    subscriber = cluster.nodes[1].client("steady")
    subscriber.subscribe("steady/#", 1)
    try:
        fourth.begin()
        until(fourth.serves, "the fourth serves", 40, pause=0.3)
        with fourth.client("on-the-fourth") as client:
            client.publish("steady/1", b"from the fourth")
        check(subscriber.message().payload == b"from the fourth", "routed")
        code, text = fourth.ctl("--yes", "cluster", "leave")
        check(code == 0, text)
        until(lambda: all(it["name"] != "node4" for it in cluster.nodes[1].status()["nodes"]), "gone", 20)
        subscriber.publish("steady/2", b"after")
        check(subscriber.message().payload == b"after", "goes on")
    finally:
        fourth.remove()
        subscriber.end()


def each(what, cases, about):
    """Runs cases that make nodes of their own; the exit code."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    results = Results()
    for fn in cases:
        if args.only not in fn.__name__:
            continue
        begin = time.monotonic()
        try:
            said = fn(args.bin)
        except (Failed, BrokerError, OSError, wire.WireError, subprocess.SubprocessError) as error:
            results.fail(f"{what}/{fn.__name__}", f"{type(error).__name__}: {error}", time.monotonic() - begin)
        else:
            results.ok(f"{what}/{fn.__name__}" + (f": {said}" if said else ""), time.monotonic() - begin)
    return results.close(what)


def main(what="cluster", errors=()):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", action="store_true", help="leave the folders of the nodes")
    args = parser.parse_args()
    results = Results()
    cluster = Cluster(args.bin)
    try:
        begin = time.monotonic()
        cluster.start()
        print(f"formed in {time.monotonic() - begin:.1f} s", flush=True)
        for fn in CASES:
            if args.only not in fn.__name__:
                continue
            begin = time.monotonic()
            try:
                said = fn(cluster)
            except (Failed, BrokerError, OSError, wire.WireError, subprocess.SubprocessError, *errors) as error:
                results.fail(f"{what}/{fn.__name__}", f"{type(error).__name__}: {error}", time.monotonic() - begin)
                for node in cluster.nodes.values():
                    if node.process is None or node.process.poll() is not None:
                        node.begin()
                try:
                    cluster.wait(60)
                except Failed as worse:
                    results.fail(f"{what}/whole-again", str(worse))
                    break
            else:
                results.ok(f"{what}/{fn.__name__}" + (f": {said}" if said else ""), time.monotonic() - begin)
    finally:
        if args.keep:
            for node in cluster.nodes.values():
                node.kill()
                print(node.dir)
        else:
            cluster.remove()
    return results.close(what)


if __name__ == "__main__":
    sys.exit(main())
