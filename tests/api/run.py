#!/usr/bin/env python3
"""The HTTP API, metrics and ctl of a running broker, from outside of its process.

    python3 tests/api/run.py --bin target/debug/nightjar [CASE...]

Each case is a function below; the last line is `N passed, N failed, N skipped`.
"""

import argparse
import base64
import contextlib
import http.client
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import time
import traceback
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent / "outside"), str(HERE.parent / "cluster" / "netns")]

from broker import Broker, clean_environment  # noqa: E402
from disk import Disk  # noqa: E402
from mqtt import Client, Failed  # noqa: E402

CASES = []


def case(function):
    CASES.append(function)
    return function


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def eventually(condition, text, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(text)
        time.sleep(0.05)


class Api:
    """One broker's HTTP API."""

    def __init__(self, broker, binary):
        self.broker, self.binary = broker, binary
        self.port = int(broker.endpoints["api"].rpartition(":")[2])
        self.mqtt = broker.port("tcp")
        self.password = (broker.data_dir / "admin-password").read_text().strip()
        self.token = self.login("admin", self.password)["token"]

    def raw(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def call(self, method, path, body=None, token=None, status=None):
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        data = None
        if body is not None:
            headers["content-type"] = "application/json"
            data = json.dumps(body)
        got, content, _ = self.raw(method, "/api/v1" + path, data, headers)
        if status is not None:
            check(got == status, f"{method} {path}: status {got}, expected {status}: {content[:300]}")
        return json.loads(content) if content else None

    def get(self, path, status=200, **more):
        return self.call("GET", path, status=status, **more)

    def login(self, name, password, status=200):
        got, content, _ = self.raw("POST", "/api/v1/login", json.dumps({"username": name, "password": password}),
                                   {"content-type": "application/json"})
        check(got == status, f"login: {got} {content}")
        return json.loads(content)

    def metric(self, name):
        _, content, _ = self.raw("GET", "/metrics")
        for line in content.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")

    def ctl(self, *arguments, code=0, stdin=None):
        done = subprocess.run([self.binary, "ctl", "--data-dir", str(self.broker.data_dir), *arguments],
                              capture_output=True, text=True, timeout=30, env=clean_environment(), input=stdin)
        check(done.returncode == code, f"ctl {arguments}: exit {done.returncode}, {done.stdout} {done.stderr}")
        return done.stdout

    def client(self, name, **more):
        return Client(self.mqtt, name, **more)


def pages(api, path, limit):
    """All rows of a list, page by page."""
    rows, cursor, mark = [], None, "&" if "?" in path else "?"
    for _ in range(1000):
        more = f"&cursor={urllib.parse.quote(cursor)}" if cursor else ""
        page = api.get(f"{path}{mark}limit={limit}{more}")
        check(len(page["data"]) <= limit, "a page is longer than asked for")
        rows += page["data"]
        cursor = page["meta"]["cursor"]
        check(page["meta"]["hasnext"] == (cursor is not None), "hasnext and cursor disagree")
        if not cursor:
            return rows
    raise AssertionError("the list has no end")


# ---- who may what ----

@case
def status_needs_no_token_on_every_http_port(api):
    for port in (api.port, api.broker.port("ws")):
        with socket.create_connection(("127.0.0.1", port), 5) as stream:
            stream.sendall(b"GET /status HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
            answer = b""
            while chunk := stream.recv(4096):
                answer += chunk
        check(b" 200 " in answer.split(b"\r\n")[0], f"{port}: {answer[:60]}")
        check(b"Node test@127.0.0.1 is started\nnightjar is running\n" in answer, f"{answer}")
    for path in ("/healthz", "/readyz", "/metrics", "/api/v1/openapi.json", "/"):
        check(api.raw("GET", path)[0] == 200, path)


@case
def everything_else_needs_a_token(api):
    for path in ("/clients", "/nodes", "/config", "/unknown"):
        for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic !"}, {"authorization": "Digest x"},
                        {"authorization": "Basic " + base64.b64encode(b"no-colon").decode()}):
            status, content, sent = api.raw("GET", "/api/v1" + path, None, headers)
            check(status == 401 and json.loads(content)["code"] == "UNAUTHORIZED", f"{path} {headers}: {status}")
            check(sent.get("www-authenticate") == "Bearer", f"{sent}")
    api.call("POST", "/logout", status=204)
    api.get("/clients", status=401)
    api.token = api.login("admin", api.password)["token"]


@case
def roles_bound_what_may_be_done(api):
    tokens = {}
    for role in ("viewer", "operator"):
        api.call("POST", "/accounts", {"username": f"a-{role}", "password": "long enough", "role": role}, status=201)
        tokens[role] = api.login(f"a-{role}", "long enough")["token"]
        check(api.get("/whoami", token=tokens[role]) == {"username": f"a-{role}", "role": role}, "whoami")
    for token in tokens.values():
        api.get("/clients", token=token)
        for path in ("/accounts", "/api_keys", "/audit"):
            check(api.get(path, status=403, token=token)["code"] == "FORBIDDEN", path)
        api.call("POST", "/config/reload", status=403, token=token)
    api.call("DELETE", "/clients/nobody", status=403, token=tokens["viewer"])
    api.call("DELETE", "/clients/nobody", status=404, token=tokens["operator"])
    api.call("POST", "/publish", {"topic": "a"}, status=403, token=tokens["viewer"])
    # Everybody may change their own password, and nobody else's.
    own = {"old_password": "long enough", "new_password": "another one"}
    api.call("PUT", "/accounts/admin/password", own, status=403, token=tokens["viewer"])
    api.call("PUT", "/accounts/a-viewer/password", {**own, "old_password": "wrong"}, status=403, token=tokens["viewer"])
    api.call("PUT", "/accounts/a-viewer/password", own, status=204, token=tokens["viewer"])
    api.get("/clients", status=401, token=tokens["viewer"])
    api.call("DELETE", "/accounts/a-operator", status=204)
    api.get("/clients", status=401, token=tokens["operator"])
    api.call("DELETE", "/accounts/a-viewer", status=204)
    api.call("DELETE", "/accounts/admin", status=409)


@case
def api_keys_are_for_programs(api):
    key = api.call("POST", "/api_keys", {"name": "ci", "role": "viewer"}, status=201)
    check("secret" not in api.get("/api_keys")["data"][0], "the secret is shown twice")
    basic = base64.b64encode(f"{key['key']}:{key['secret']}".encode()).decode()
    status, _, _ = api.raw("GET", "/api/v1/clients", None, {"authorization": f"Basic {basic}"})
    check(status == 200, f"{status}")
    status, _, _ = api.raw("DELETE", "/api/v1/clients/x", None, {"authorization": f"Basic {basic}"})
    check(status == 403, f"{status}")
    stored = (api.broker.data_dir / "api-accounts.json").read_text()
    check(key["secret"] not in stored, "the secret is on the disk")
    api.call("DELETE", "/api_keys/ci", status=204)
    status, _, _ = api.raw("GET", "/api/v1/clients", None, {"authorization": f"Basic {basic}"})
    check(status == 401, f"{status}")


@case
def changes_are_in_the_audit_log_without_secrets(api):
    api.call("POST", "/accounts", {"username": "audited", "password": "very secret 1", "role": "viewer"}, status=201)
    api.call("DELETE", "/accounts/audited", status=204)
    eventually(lambda: api.get("/audit?limit=1")["data"][0]["method"] == "DELETE", "no entry")
    entry = next(it for it in api.get("/audit")["data"] if it["path"] == "/api/v1/accounts")
    check((entry["who"], entry["status"], entry["from"]) == ("admin", 201, "127.0.0.1"), f"{entry}")
    check(entry["body"]["password"] == "******", f"{entry}")
    kept = (api.broker.data_dir / "audit.log").read_text() + api.broker.output().decode(errors="replace")
    check("very secret 1" not in kept, "a password is in a log")
    check(api.broker.output().decode(errors="replace").count(api.password) == 1, "the first password is shown once")


# ---- clients ----

@case
def a_client_is_listed_with_true_figures_and_kicked(api):
    with api.client("meter-1", username="eve", keep_alive=33) as client:
        check(client.subscribe("a/+", 1) == 1, "granted")
        client.publish("b", b"12345")
        client.ping()
        row = api.get("/clients/meter-1")
        for name, value in {"clientid": "meter-1", "username": "eve", "connected": True, "ip_address": "127.0.0.1",
                            "proto_name": "MQTT", "proto_ver": 4, "keepalive": 33, "clean_start": True,
                            "subscriptions_cnt": 1, "recv_msg": 1, "durable": False, "listener": "tcp:default",
                            "node": "test@127.0.0.1", "port": client.sock.getsockname()[1]}.items():
            check(row[name] == value, f"{name}: {row[name]}, expected {value}")
        check(row["recv_pkt"] == 3 and row["send_pkt"] >= 1 and row["recv_oct"] > 10, f"{row}")
        check(api.get("/clients?username=eve")["data"][0]["clientid"] == "meter-1", "by user name")
        check(api.get("/clients?like_clientid=eter&conn_state=connected")["data"], "by part")
        check(not api.get("/clients?proto=mqtt-sn&clientid=meter-1")["data"], "by protocol")
        subs = api.get("/clients/meter-1/subscriptions")["data"]
        check([(it["topic"], it["qos"]) for it in subs] == [("a/+", 1)], f"{subs}")
        api.call("DELETE", "/clients/meter-1", status=204)
        check(client.closed(), "it is still connected")
    api.get("/clients/meter-1", status=404)
    api.call("DELETE", "/clients/meter-1", status=404)
    events = [it["event"] for it in api.get("/clients/meter-1/timeline")["data"]]
    check(events == ["disconnected", "kicked", "subscribed", "connected"], f"{events}")


@case
def lists_go_on_by_cursor_without_gap_or_repeat(api):
    with contextlib.ExitStack() as stack:
        names = [f"many-{n:03}" for n in range(45)]
        for name in names:
            client = stack.enter_context(api.client(name))
            client.subscribe(f"t/{name}")
            client.subscribe("t/all")
        for limit in (1, 7, 45, 1000):
            found = [it["clientid"] for it in pages(api, "/clients?like_clientid=many-", limit)]
            check(found == names, f"limit {limit}: {found}")
        for limit in (1, 4, 1000):
            rows = [(it["clientid"], it["topic"]) for it in pages(api, "/subscriptions", limit)]
            check(len(rows) == 90 and rows == sorted(set(rows)), f"limit {limit}: {len(rows)}")
        rows = pages(api, "/subscriptions?match_topic=t%2Fmany-003", 10)
        check([it["clientid"] for it in rows] == ["many-003"], f"{rows}")
        topics = pages(api, "/topics", 10)
        check(len(topics) == 46 and topics[0] == {"topic": "t/all", "node": "test@127.0.0.1", "subscribers": 45},
              f"{topics[:2]}")
        tree = pages(api, "/topics/tree", 10)
        check(tree == [{"level": "t", "topic": "t", "subscribers": 0, "children": True, "total": 90}], f"{tree}")
        below = pages(api, "/topics/tree?prefix=t", 10)
        check(len(below) == 46 and below[0]["topic"] == "t/all" and not below[0]["children"], f"{below[:2]}")
        stats = api.get("/stats")
        check(stats["connections.count"] >= 45 and stats["subscriptions.count"] == 90, f"{stats}")
        kicked = api.call("POST", "/clients/kick/bulk", names[:3] + ["nobody"], status=200)
        check(kicked == {"kicked": 3}, f"{kicked}")
    eventually(lambda: api.get("/stats")["subscriptions.count"] == 0, "subscriptions are left")


# ---- messages ----

@case
def a_message_is_published_with_the_rules_of_a_client(api):
    with api.client("reader") as client:
        client.subscribe("p/#")
        done = api.call("POST", "/publish", {"topic": "p/a", "payload": "hello"}, status=200)
        check("id" in done and client.message() == ("p/a", b"hello"), f"{done}")
        body = {"topic": "p/b", "payload": base64.b64encode(b"\0\xff").decode(), "payload_encoding": "base64", "qos": 1}
        api.call("POST", "/publish", body, status=200)
        check(client.message() == ("p/b", b"\0\xff"), "bytes")
        done = api.call("POST", "/publish", {"topic": "nobody/wants"}, status=202)
        check(done["reason_code"] == 16, f"{done}")
        bulk = api.call("POST", "/publish/bulk", [{"topic": "p/1"}, {"topic": "p/+"}, {"topic": "p/2"}], status=200)
        check(["id" in it for it in bulk] == [True, False, True], f"{bulk}")
        denied = api.call("POST", "/publish", {"topic": "closed/x"}, status=403)
        check(denied["code"] == "NOT_AUTHORIZED", f"{denied}")
        api.call("POST", "/publish", {"topic": "$SYS/x"}, status=403)
        for wrong in ({"topic": "p/#"}, {"topic": ""}, {"topic": "a\0"}, {"topic": "p", "qos": 3}, {"topic": "p", "qos": "1"},
                      {"topic": "p", "unknown": 1}, {}, [], {"topic": "p", "payload": "%", "payload_encoding": "base64"}):
            check(api.call("POST", "/publish", wrong, status=400)["code"] == "BAD_REQUEST", f"{wrong}")


@case
def retained_messages_are_shown_and_forgotten(api):
    for name in ("x", "y/z", "ä%2F"):
        api.call("POST", "/publish", {"topic": f"kept/{name}", "payload": name, "retain": True})
    rows = pages(api, "/retained?filter=kept%2F%23", 1)
    check([it["topic"] for it in rows] == ["kept/x", "kept/y/z", "kept/ä%2F"], f"{rows}")
    for name in ("x", "y/z", "ä%2F"):
        path = "/retained/" + urllib.parse.quote(f"kept/{name}", safe="")
        message = api.get(path)
        check((message["payload_text"], message["from_clientid"]) == (name, "admin"), f"{message}")
        api.call("DELETE", path, status=204)
        api.get(path, status=404)
    check(pages(api, "/retained?filter=kept%2F%23", 5) == [], "left")
    api.get("/retained?filter=a%23", status=400)


@case
def may_x_do_y(api):
    answer = api.call("POST", "/acl/test", {"username": "u", "action": "publish", "topic": "closed/a"}, status=200)
    check(not answer["allowed"] and answer["result"] == "deny" and "api-acl.conf" in answer["reason"], f"{answer}")
    answer = api.call("POST", "/acl/test", {"clientid": "c", "action": "subscribe", "topic": "open/#", "qos": 1}, status=200)
    check(answer["allowed"] and answer["result"].startswith("allow"), f"{answer}")
    api.call("POST", "/acl/test", {"action": "publish", "topic": "a/#"}, status=400)
    check(api.get("/acl")["sources"][0]["kind"] == "file", "sources")
    check(api.call("POST", "/acl/reload", status=200) == {"errors": []}, "reload")
    api.call("DELETE", "/acl/cache", status=204)


# ---- why ----

@case
def it_is_explained_why_a_message_does_not_arrive(api):
    def ask(**question):
        return api.call("POST", "/explain", question, status=200)

    with api.client("from-a") as sender, api.client("to-b") as receiver:
        receiver.subscribe("room/1")
        receiver.subscribe("$share/g/job")
        answer = ask(**{"from": "from-a", "to": "to-b", "topic": "room/1"})
        check(answer["delivered"] == "yes", f"{answer}")
        answer = ask(to="to-b", topic="room/2")
        check(answer["delivered"] == "no" and "room/1" in answer["summary"], f"{answer}")
        answer = ask(**{"from": "from-a", "to": "to-b", "topic": "closed/1"})
        steps = {it["check"]: it["ok"] for it in answer["steps"]}
        check(answer["delivered"] == "no" and steps["publish_acl"] is False, f"{answer}")
        answer = ask(to="nobody", topic="room/1")
        check(answer["delivered"] == "no" and answer["steps"][0]["check"] == "session", f"{answer}")
        with api.client("to-c") as other:
            other.subscribe("$share/g/job")
            answer = ask(to="to-b", topic="job")
            check(answer["delivered"] == "maybe" and "2 members" in answer["summary"], f"{answer}")
        sender.publish("closed/1", b"x")
        sender.ping()
    events = [(it["event"], it["text"]) for it in api.get("/clients/from-a/timeline")["data"]]
    check(("denied", "not authorized to publish to closed/1") in events, f"{events}")


@case
def what_is_dropped_is_in_the_ledger(api):
    with api.client("sleeper", clean=False) as client:
        client.subscribe("q/#")
        client.end()
    eventually(lambda: not api.get("/clients/sleeper")["connected"], "still connected")
    for n in range(3):
        api.call("POST", "/publish", {"topic": "q/a", "payload": str(n)})
    eventually(lambda: api.get("/drops?clientid=sleeper")["data"], "no drop")
    drop = api.get("/drops?clientid=sleeper")["data"][0]
    check((drop["topic"], drop["reason"], drop["from_clientid"]) == ("q/a", "offline", "admin"), f"{drop}")
    check(sum(it["count"] for it in api.get("/drops?clientid=sleeper")["data"]) == 3, "counts")
    check("dropped" in [it["event"] for it in api.get("/clients/sleeper/timeline")["data"]], "timeline")
    with api.client("sleeper"):
        pass


@case
def a_trace_shows_packets_and_no_payload(api):
    body = {"name": "t1", "type": "topic", "value": "traced/#", "for": "1m"}
    api.call("POST", "/trace", body, status=201)
    api.call("POST", "/trace", body, status=409)
    api.call("POST", "/trace", {**body, "name": "../x"}, status=400)
    api.call("POST", "/trace", {**body, "name": "t2", "type": "ip_address", "value": "x"}, status=400)
    with api.client("traced-client") as client:
        client.subscribe("traced/a")
        client.publish("traced/a", b"the payload")
        client.publish("other", b"x")
        client.message()
    def text():
        return api.get("/trace/t1/log")["items"]

    eventually(lambda: "PUBLISH sent" in text(), "no line")
    lines = text()
    for wanted in ("SUBSCRIBE received: traced/a", "PUBLISH received: traced/a, QoS 0", "[traced-client] 127.0.0.1:"):
        check(wanted in lines, f"no {wanted} in {lines}")
    check("payload" not in lines and "other" not in lines, f"{lines}")
    status, content, _ = api.raw("GET", "/api/v1/trace/t1/download", None, {"authorization": f"Bearer {api.token}"})
    check(status == 200 and content.decode() == lines, "download")
    check(api.call("PUT", "/trace/t1/stop", status=200)["status"] == "stopped", "stop")
    api.call("DELETE", "/trace/t1", status=204)
    check(not list((api.broker.data_dir / "trace").iterdir()), "the file is left")


@case
def a_trace_by_client_sees_its_whole_life(api):
    out = api.ctl("trace", "start", "--client", "whole-life", "--output", "json")
    name = json.loads(out)["name"]
    with api.client("whole-life") as client:
        client.ping()
    eventually(lambda: "connection ended" in api.ctl("trace", "tail", name, "--once"), "no end")
    text = api.ctl("trace", "tail", name, "--once")
    for wanted in ("CONNECT accepted", "PINGREQ received", "connection ended: closed by the client"):
        check(wanted in text, f"no {wanted} in {text}")
    api.ctl("trace", "rm", name, "--yes")


# ---- the node ----

@case
def listeners_stop_and_start(api):
    rows = {it["id"]: it for it in api.get("/listeners")["data"]}
    check(rows["tls:default"]["tls"]["expires_in"] > 0 and rows["ws:default"]["path"] == "/mqtt", f"{rows}")
    api.call("POST", "/listeners/tcp:limited/stop", status=200)
    port = int(api.broker.endpoints["tcp:limited"].rpartition(":")[2])
    try:
        Client(port, "x")
        raise AssertionError("it still accepts")
    except OSError:
        pass
    check(not api.get("/listeners/tcp:limited")["running"], "running")
    check(api.call("POST", "/listeners/tcp:limited/start", status=200)["running"], "started")
    Client(port, "x").end()
    api.call("POST", "/listeners/tcp:limited/start", status=409)
    api.call("POST", "/listeners/tcp:none/stop", status=404)
    api.call("POST", "/listeners/tcp:limited/dance", status=400)


@case
def the_configuration_says_who_gave_each_value(api):
    view = api.get("/config")
    rows = {it["key"]: it for it in view["data"]}
    name = rows["node.name"]
    check((name["value"], name["origin"]) == ("test@127.0.0.1", "file") and name["where"].startswith(view["file"]), f"{name}")
    check(rows["mqtt.max_inflight"]["origin"] == "default" and rows["mqtt.max_inflight"]["doc"], "default")
    check(rows["api.admin_password"]["secret"] and rows["api.admin_password"]["value"] in (None, "******"), "secret")
    check(api.call("POST", "/config/reload", status=200)["errors"] == [], "reload")


@case
def the_log_level_changes_at_run_time(api):
    before = api.get("/log")["level"]
    api.call("PUT", "/log", {"level": "info,nightjar_gateway=debug"}, status=204)
    with contextlib.suppress(Failed):
        Client(api.mqtt, "logged").end()
    eventually(lambda: b"connection ended" in api.broker.output(), "no debug line")
    api.call("PUT", "/log", {"level": "no such=level=x"}, status=400)
    api.call("PUT", "/log", {"level": before}, status=204)
    check(api.get("/log")["level"] == before, "level")


@case
def builtin_users_and_bans_are_kept(api):
    api.call("POST", "/users", {"user_id": "bob", "password": "bobs password"}, status=201)
    api.call("POST", "/users", {"user_id": "bob", "password": "x"}, status=409)
    check([it["user_id"] for it in pages(api, "/users", 1)] == ["bob"], "list")
    api.call("PUT", "/users/username/bob", {"is_superuser": True}, status=204)
    check(api.get("/users")["data"][0]["is_superuser"], "superuser")
    api.call("DELETE", "/users/username/bob", status=204)
    api.call("DELETE", "/users/username/bob", status=404)
    with api.client("bad-one") as client:
        api.call("POST", "/banned", {"as": "clientid", "who": "bad-one", "reason": "test", "for": "1h"}, status=201)
        check(client.closed(), "a banned client stays")
    row = api.get("/banned")["data"][0]
    check((row["as"], row["who"], row["by"], row["reason"]) == ("clientid", "bad-one", "admin", "test"), f"{row}")
    try:
        api.client("bad-one")
        raise AssertionError("a banned client is let in")
    except Failed:
        pass
    api.call("DELETE", "/banned/clientid/bad-one", status=204)
    api.client("bad-one").end()
    api.call("POST", "/banned", {"as": "peerhost", "who": "not an address"}, status=400)
    api.call("POST", "/banned", {"as": "clientid", "who": "x", "for": "soon"}, status=400)


@case
def alarms_are_raised_listed_and_told(api):
    with api.client("watcher") as watcher:
        watcher.subscribe("$SYS/brokers/+/alarms/#")
        port = int(api.broker.endpoints["tcp:small"].rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            for n in range(2):
                stack.enter_context(Client(port, f"small-{n}"))
            wanted = "listener_limit/tcp:small"
            eventually(lambda: [it for it in api.get("/alarms?activated=true")["data"] if it["name"] == wanted],
                       "no alarm", 10)
            topic, payload = watcher.message()
            check(topic.endswith("/alarms/activate") and json.loads(payload)["name"] == wanted, f"{topic} {payload}")
        eventually(lambda: [it for it in api.get("/alarms?activated=false")["data"] if it["name"] == wanted],
                   "the alarm stays", 10)
        check(watcher.message()[0].endswith("/alarms/deactivate"), "deactivate")
    api.call("DELETE", "/alarms", status=204)
    check(not api.get("/alarms?activated=false")["data"], "history")


@case
def metrics_are_in_the_text_format(api):
    with api.client("counted") as client:
        client.subscribe("m")
        client.publish("m", b"x")
        client.message()
        status, content, headers = api.raw("GET", "/metrics")
    check(status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4"), f"{headers}")
    text = content.decode()
    types = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            check(name not in types, f"{name} twice")
            types[name] = kind
        elif not line.startswith("#"):
            match = re.fullmatch(r'([a-z_0-9]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (-?[0-9.e+-]+)', line)
            check(match, f"not a sample: {line}")
            name = re.sub("_(bucket|sum|count)$", "", match[1]) if match[1] not in types else match[1]
            check(name in types, f"{line} has no type")
            check("counted" not in line, "a client is a label")
    for wanted in ('nightjar_packets_received_total{type="subscribe"}', 'nightjar_packets_sent_total{type="suback"}',
                   'nightjar_deliveries_dropped_total{reason="queue_full"}', 'nightjar_delivery_latency_seconds_bucket{le="0.001"}',
                   'nightjar_listener_connections{listener="tcp:default"}', 'emqx_connections_count{node="test@127.0.0.1"}',
                   'emqx_packets_publish_received{node="test@127.0.0.1"}'):
        check(wanted in text, f"no {wanted}")
    begin = time.monotonic()
    api.raw("GET", "/metrics")
    check(time.monotonic() - begin < 0.5, "a scrape takes too long")


@case
def charts_have_a_history(api):
    for span, seconds in (("hour", 5), ("day", 120), ("week", 900)):
        view = api.get(f"/monitor?range={span}")
        lengths = {len(series) for series in view["series"].values()}
        check(view["interval"] == seconds and len(lengths) == 1 and lengths.pop() >= 1, f"{view}")
    api.get("/monitor?range=year", status=400)


@case
def calls_of_other_scripts_are_answered(api):
    def v5(path, status=200):
        got, content, _ = api.raw("GET", "/api/v5" + path, None, {"authorization": f"Bearer {api.token}"})
        check(got == status, f"{path}: {got} {content}")
        return json.loads(content) if content[:1] in b"[{" else content
    with contextlib.ExitStack() as stack:
        for n in range(5):
            stack.enter_context(api.client(f"v5-{n}")).subscribe("v5/t")
        page = v5("/clients?page=2&limit=2&like_clientid=v5-")
        check([it["clientid"] for it in page["data"]] == ["v5-2", "v5-3"], f"{page}")
        check(page["meta"] == {"page": 2, "limit": 2, "count": 5, "hasnext": True}, f"{page['meta']}")
        check(v5("/subscriptions?topic=v5%2Ft")["meta"]["count"] == 5, "subscriptions")
        check(v5("/topics")["data"][0]["topic"] == "v5/t", "topics")
    check(v5("/nodes")[0]["node"] == "test@127.0.0.1" and v5("/stats")[0]["node"] == "test@127.0.0.1", "nodes")
    check("packets.received" in v5("/metrics")[0], "metrics")
    check(b"is running" in v5("/status"), "status")
    v5("/clients?page=0", 400)


# ---- live ----

class Socket:
    """A WebSocket, as a browser speaks it."""

    def __init__(self, api, origin=None):
        self.stream = socket.create_connection(("127.0.0.1", api.port), 5)
        self.stream.settimeout(5)
        key = base64.b64encode(os.urandom(16)).decode()
        extra = f"origin: {origin}\r\n" if origin else ""
        self.stream.sendall(f"GET /api/v1/live HTTP/1.1\r\nhost: 127.0.0.1:{api.port}\r\nupgrade: websocket\r\n{extra}"
                            f"connection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.stream.recv(1)
        self.status = int(head.split(b" ")[1])

    def send(self, value):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        mask = os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        self.stream.sendall(b"\x81" + size + mask + bytes(b ^ mask[n % 4] for n, b in enumerate(data)))

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.stream.recv(count - len(data))
            check(more, "closed without a close frame")
            data += more
        return data

    def read(self):
        """A JSON message, or the code of a close frame."""
        first, size = self.exactly(2)
        if size == 126:
            size = struct.unpack(">H", self.exactly(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.exactly(8))[0]
        body = self.exactly(size)
        if first & 15 == 8:
            return struct.unpack(">H", body[:2])[0]
        return json.loads(body)


@case
def figures_are_pushed_each_second(api):
    live = Socket(api, f"http://127.0.0.1:{api.port}")
    check(live.status == 101, f"{live.status}")
    live.send({"type": "auth", "token": api.token})
    check(live.read()["type"] == "ready", "ready")
    begin = time.monotonic()
    live.send({"type": "subscribe", "topics": ["overview", "clients", "alarms"]})
    seen = {}
    with api.client("pushed"):
        while "clients" not in seen or len(seen.get("overview", [])) < 3:
            message = live.read()
            seen.setdefault(message["type"], []).append(message)
            if message["type"] == "overview" and len(seen["overview"]) == 1:
                check(time.monotonic() - begin < 1, "the first figure comes late")
            check(time.monotonic() - begin < 6, f"{list(seen)}")
    check("pushed" in sum((it["connected"] for it in seen["clients"]), []), f"{seen['clients']}")
    check(seen["overview"][-1]["stats"]["connections.count"] >= 1, "stats")
    live.send({"type": "subscribe", "topics": ["no such"]})
    while (message := live.read())["type"] != "error":
        pass


@case
def a_live_page_needs_a_token_and_its_own_origin(api):
    check(Socket(api, "http://evil.example").status == 403, "another origin")
    for said, code in (({"type": "auth", "token": "x"}, 4401), ({"type": "subscribe", "topics": []}, 4400), (b"no json", 4400)):
        live = Socket(api)
        live.send(said)
        check(live.read() == code, f"{said}")
    status, _, _ = api.raw("GET", "/api/v1/live")
    check(status == 400, f"{status}")


# ---- what must not work ----

@case
def bad_requests_have_the_right_status_and_one_form(api):
    auth = {"authorization": f"Bearer {api.token}"}
    kind = {**auth, "content-type": "application/json"}
    big = b'{"topic":"' + b"a" * (3 << 20) + b'"}'
    for method, path, body, headers, wanted in (
            ("GET", "/api/v1/clients?limit=0", None, auth, 400), ("GET", "/api/v1/clients?limit=1001", None, auth, 400),
            ("GET", "/api/v1/clients?limit=x", None, auth, 400), ("GET", "/api/v1/clients?offset=3", None, auth, 400),
            ("GET", "/api/v1/clients?cursor=%25%25", None, auth, 400), ("GET", "/api/v1/clients?ip_address=x", None, auth, 400),
            ("GET", "/api/v1/clients/%ff", None, auth, 400), ("GET", "/api/v1/nope", None, auth, 404),
            ("GET", "/api/v1/../../etc/passwd", None, auth, 404), ("GET", "/api/v1/trace/..%2F..%2Fx/log", None, auth, 404),
            ("PATCH", "/api/v1/clients", None, auth, 405), ("POST", "/", None, {}, 405), ("GET", "/no/such/page.js", None, {}, 404),
            ("GET", "/../../etc/passwd", None, {}, 404), ("GET", "/%2e%2e/%2e%2e/etc/passwd", None, {}, 404),
            ("POST", "/api/v1/publish", b"{", kind, 400), ("POST", "/api/v1/publish", b"", kind, 400),
            ("POST", "/api/v1/publish", b"[" * 100000, kind, 400), ("POST", "/api/v1/publish", b'{"topic":"a"}', auth, 415),
            ("POST", "/api/v1/publish", big, kind, 413), ("POST", "/api/v1/login", b'{"username":1,"password":2}', kind, 400),
            ("POST", "/api/v1/login", b'{"username":"a","password":"b","x":1}', kind, 400),
            ("DELETE", "/api/v1/banned/nothing/x", None, auth, 400), ("POST", "/api/v1/clients/kick/bulk", b"[1]", kind, 400)):
        status, content, sent = api.raw(method, path, body, headers)
        check(status == wanted, f"{method} {path}: {status}, expected {wanted}: {content[:200]}")
        error = json.loads(content)
        check(set(error) == {"code", "message"} and error["message"], f"{method} {path}: {error}")
        check(sent["x-content-type-options"] == "nosniff", f"{sent}")
    check(api.get("/status")["ready"], "it still serves")


@case
def bytes_that_are_no_http_end_one_connection(api):
    for data in (b"\0" * 5000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20000, b"\x16\x03\x01\x02\0\x01", b"GET /" + b"a" * 100000):
        with socket.create_connection(("127.0.0.1", api.port), 5) as stream:
            stream.settimeout(5)
            with contextlib.suppress(ConnectionError):
                stream.sendall(data)
                while stream.recv(4096):
                    pass
    check(api.get("/status")["ready"], "it still serves")


@case
def the_page_is_guarded(api):
    status, _, headers = api.raw("GET", "/", None, {"accept-encoding": "gzip"})
    check(status == 200 and headers["content-encoding"] == "gzip" and "default-src 'none'" in headers["content-security-policy"],
          f"{headers}")
    status, _, again = api.raw("GET", "/", None, {"if-none-match": headers["etag"]})
    check(status == 304, f"{status}")
    status, content, plain = api.raw("GET", "/")
    check(status == 200 and "content-encoding" not in plain and b"<html" in content.lower(), "plain")


# ---- ctl ----

def verbs(binary, path=()):
    """The leaves of the command tree below `ctl`."""
    done = subprocess.run([binary, "ctl", *path, "--help"], capture_output=True, text=True, env=clean_environment(), check=True)
    if "\nCommands:\n" not in done.stdout:
        return [path]
    below = done.stdout.split("\nCommands:\n")[1].split("\n\n")[0]
    names = re.findall(r"^  ([a-z-]+)", below, re.M)
    return [leaf for name in names if name != "help" for leaf in verbs(binary, (*path, name))]


# What a verb needs to be asked for something that is there; the others need nothing, or are of another part.
ARGUMENTS = {
    ("clients", "show"): ["ctl-client"], ("clients", "kick"): ["ctl-kicked"], ("topics", "match"): ["ctl/t"],
    ("retained", "get"): ["ctl/kept"], ("retained", "rm"): ["ctl/kept", "--yes"],
    ("listeners", "start"): ["tcp:limited"], ("listeners", "stop"): ["tcp:limited"],
    ("trace", "start"): ["--client", "ctl-client", "--name", "ctl"], ("trace", "tail"): ["ctl", "--once"],
    ("trace", "stop"): ["ctl"], ("trace", "rm"): ["ctl", "--yes"],
    ("explain",): ["--to", "ctl-client", "--topic", "ctl/t"],
    ("admin", "passwd"): ["--password", "the next password"],
}
OURS = ("clients", "subs", "topics", "retained", "listeners", "log", "trace", "explain", "metrics", "alarms", "admin", "status", "reload")


@case
def readme_is_true_line_by_line(api):
    """Each command of README's section on the API and ctl, in a shell beside the node's data, in order. What differs: the
    port, the token, and that the trace that is followed is stopped after a while."""
    section = re.search(r"(?ms)^## See and steer it\n(.*?)^## ", (ROOT / "README.md").read_text())
    check(section, "README has no section See and steer it")
    lines = [line[4:] for line in section[1].splitlines() if line.startswith("    ")]
    script = "\n".join(lines).replace("localhost:18083", f"127.0.0.1:{api.port}").replace("host:18083", f"127.0.0.1:{api.port}")
    check("trace tail m" in script and "TOKEN" in script and "/api/v1/clients" in script, f"README has only: {script}")
    script = script.replace("TOKEN", api.token).replace("nightjar ctl trace tail m", "{ (sleep 1; nightjar ctl trace stop m) & nightjar ctl trace tail m; }")
    tools = api.broker.dir / "tools"
    tools.mkdir()
    (tools / "nightjar").symlink_to(api.binary)
    # The one use that README makes of it, where it is not installed.
    (tools / "jq").write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import json, sys; print(json.load(sys.stdin)[\"token\"])'\n")
    (tools / "jq").chmod(0o755)
    environment = {**clean_environment(), "PATH": f"{tools}:{os.environ['PATH']}"}
    with api.client("meter-1") as meter, api.client("b") as other:
        meter.subscribe("x/y")
        other.subscribe("x/y")
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=api.broker.dir, env=environment, capture_output=True,
                              text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    check(done.returncode == 0, f"{done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    check(done.stdout.rstrip().endswith("}") and '"clientid":"meter-1"' in done.stdout, done.stdout[-500:])
    api.call("DELETE", "/trace/m", status=204)


@case
def every_verb_of_ctl_answers_in_every_form(api):
    found = [leaf for leaf in verbs(api.binary) if leaf[0] in OURS]
    for leaf in ARGUMENTS:
        check(leaf in found, f"no verb {leaf} in {found}")
    order = sorted(found, key=lambda leaf: (leaf == ("admin", "passwd"), {"rm": 3, "stop": 2, "tail": 1}.get(leaf[-1], 0),
                                            leaf != ("listeners", "stop")))
    with api.client("ctl-client") as client:
        client.subscribe("ctl/t")
        for form in ("table", "json", "ndjson"):
            api.call("POST", "/publish", {"topic": "ctl/kept", "payload": "kept", "retain": True})
            api.call("POST", "/listeners/tcp:limited/stop")
            with api.client("ctl-kicked"):
                for leaf in order:
                    if leaf == ("listeners", "start"):
                        api.call("POST", "/listeners/tcp:limited/stop")
                    out = api.ctl(*leaf, *ARGUMENTS.get(leaf, []), "--output", form)
                    if form == "json":
                        json.loads(out)
                    elif form == "ndjson":
                        for line in out.splitlines():
                            json.loads(line)
                    check(out.strip() or leaf[-1] in ("list", "tail"), f"{leaf} {form} says nothing")
            api.call("POST", "/listeners/tcp:limited/start")
            api.password = "the next password"
            api.token = api.login("admin", api.password)["token"]
    check(not (api.broker.data_dir / "admin-password").exists(), "the first password lies around")


@case
def ctl_has_exit_codes(api):
    api.ctl("clients", "show", "nobody", code=3)
    api.ctl("clients", "kick", "nobody", code=3)
    api.ctl("retained", "get", "none", code=3)
    api.ctl("retained", "rm", "none", code=4)
    api.ctl("retained", "get", "a/#", code=2)
    api.ctl("listeners", "stop", "tcp:none", code=3)
    api.ctl("log", "level", "no=such=level", code=2)
    api.ctl("trace", "start", "--topic", "a#", code=2)
    api.ctl("trace", "start", code=2)
    api.ctl("admin", "passwd", "--password", "short", code=2)
    api.ctl("explain", "--to", "b", "--topic", "a/#", code=2)


@case
def ctl_asks_by_url_too(api):
    by_url = ["--url", f"http://127.0.0.1:{api.port}", "--token", api.token]
    check(json.loads(api.ctl("status", *by_url, "--output", "json"))["node"] == "test@127.0.0.1", "status")
    with api.client("by-url"):
        check("by-url" in api.ctl("clients", "list", *by_url), "list")
    api.ctl("clients", "show", "nobody", *by_url, code=3)
    api.ctl("status", "--url", f"http://127.0.0.1:{api.port}", "--token", "wrong", code=4)
    api.ctl("status", "--url", "http://127.0.0.1:1", "--token", "x", code=5)
    api.ctl("status", "--url", "ftp://x", "--token", "x", code=2)


@case
def a_trace_is_followed_live_by_url(api):
    """Lines come while the trace goes on, and the answer ends when it is stopped."""
    by_url = ["--url", f"http://127.0.0.1:{api.port}", "--token", api.token]
    api.ctl("trace", "start", "--topic", "followed/#", "--name", "followed", *by_url)
    tail = subprocess.Popen([api.binary, "ctl", "trace", "tail", "followed", *by_url], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=clean_environment())
    try:
        with api.client("followed-client") as client:
            for number in range(3):
                client.publish(f"followed/{number}", b"x")
                line = tail.stdout.readline()
                check(f"PUBLISH received: followed/{number}" in line, f"{line!r} instead of message {number}")
        check(tail.poll() is None, "it ended before the trace did")
        api.ctl("trace", "stop", "followed", *by_url)
        check(tail.wait(10) == 0, f"exit {tail.returncode}: {tail.stderr.read()}")
    finally:
        tail.kill()
        tail.wait()
    api.ctl("trace", "rm", "followed", "--yes", *by_url)


# ---- last, because it locks the address out ----

@case
def wrong_passwords_are_slowed_down(api):
    for _ in range(5):
        check(api.login("admin", "wrong", status=401)["code"] == "BAD_USERNAME_OR_PWD", "code")
    check(api.login("admin", api.password, status=429)["code"] == "TOO_MANY_REQUESTS", "the sixth")
    _, _, headers = api.raw("POST", "/api/v1/login", b'{"username":"a","password":"b"}', {"content-type": "application/json"})
    check(1 <= int(headers["retry-after"]) <= 60, f"{headers}")
    # A token that is there goes on.
    api.get("/clients")


EXTRA = """
[listeners.tcp.small]
bind = "127.0.0.1:0"
max_connections = 2
[metrics]
emqx_names = true
[mqtt]
queue_qos0 = false
[[acl.sources]]
kind = "file"
path = "{dir}/api-acl.conf"
"""

ACL = """{{deny, all, publish, ["closed/#"]}}.
{{allow, all}}.
"""


@case
def a_node_whose_log_fails_is_not_ready_and_says_why(api):
    broker = Broker("nightjar", api.binary)
    disk = Disk(broker.dir / "disk", broker.data_dir)
    broker.environment = disk.environment()
    try:
        broker.start()
        own = Api(broker, api.binary)
        check(own.raw("GET", "/readyz")[0] == 200, "not ready with a good disk")
        disk.ask(sync=True, part="/store/")
        own.call("POST", "/publish", {"topic": "a", "payload": "kept", "qos": 1, "retain": True})
        eventually(lambda: own.raw("GET", "/readyz")[0] == 503, "it is ready although it cannot sync its log")
        check(disk.struck() > 0, "no sync failed")
        _, text, _ = own.raw("GET", "/readyz")
        check(b"mend the disk" in text and b"/" not in text, f"{text}")
        check(own.raw("GET", "/healthz")[0] == 200 and own.raw("GET", "/status")[0] == 503, "healthz, status")
        said = own.ctl("status")
        check("mend the disk" in said and not broker.panic(), said)
        disk.heal()
        broker.stop()
        broker.start()
        check(Api(broker, api.binary).raw("GET", "/readyz")[0] == 200, "a restart does not help")
    finally:
        broker.remove()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    binary = str(pathlib.Path(options.bin).resolve())
    wanted = [it for it in CASES if not options.cases or it.__name__ in options.cases]
    passed = failed = 0
    broker = Broker("nightjar", binary, extra="")
    (broker.dir / "api-acl.conf").write_text(ACL.format())
    broker.extra = EXTRA.replace("{dir}", str(broker.dir))
    try:
        broker.start()
        api = Api(broker, binary)
        for it in wanted:
            begin = time.monotonic()
            try:
                it(api)
                passed += 1
                print(f"ok    {it.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)
            except Exception as error:  # noqa: BLE001: one case must not end the others
                failed += 1
                print(f"FAIL  {it.__name__}: {error}", flush=True)
                if not isinstance(error, AssertionError):
                    traceback.print_exc()
        if panic := broker.panic():
            failed += 1
            print(f"FAIL  no panic: {panic}")
        if broker.stop() != 0:
            failed += 1
            print("FAIL  the broker ends well")
    finally:
        if failed:
            print(broker.tail(30))
        broker.remove()
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
