"""Each example of etc/auth in a running broker against the real server it speaks of.

The files are used as they are but for ports and folders, which `lay_out` replaces one by one: each must occur.
"""

import contextlib
import http.server
import json
import shutil
import threading
import time
import urllib.parse

from kit import (ROOT, Client, Failed, Node, Probe, check, refused_connection, token, trusting, until)
from servers import ETC, MariaDb, Missing, Postgres, Redis

CASES = []
LOGIN = {"user": "ann", "password": "secret"}
EVIL = ["' or '1'='1", "ann' -- ", "ann'; drop table mqtt_user; --", "\\' or 1=1 #", "*", "%", "$all", "ann*", "*)(uid=*",
        "ann)(|(uid=*", "*))(|(uid=*", "\\2a", "ann\r\nDEL mqtt_user:ann", "${username}", "{\"$ne\": null}", "ann\\00"]


def case(fn):
    CASES.append((f"backend/{fn.__name__}", fn))
    return fn


def lay_out(name, replaced):
    """The example's text with each key of `replaced` put in place; one that is not there is an error."""
    text = (ETC / name).read_text()
    for old, new in replaced.items():
        check(old in text, f"{old} is not in etc/auth/{name} any more")
        text = text.replace(old, new)
    return text


def logins(node, superuser=True, **more):
    """Who gets in and who does not, the same for every backend."""
    check(node.code("c", **LOGIN, **more) == 0, f"ann does not get in: {node.tail()}")
    check(node.code("c", user="ann", password="guess") == 0x86, "a wrong password")
    check(node.code("c", user="ann", password="") == 0x86, "an empty password")
    check(node.code("c", user="nobody", password="secret") == 0x86, "an unknown user")
    check(node.code("c", password=None, user=None) == 0x87, "no user name")
    check(node.code("c", v=4, user="ann", password="guess") == 4, "a wrong password in 3.1.1")
    if superuser:
        with node.client("c", user="root", password="secret") as root:
            check(root.publish("anything/at/all") in (0, 16), "a superuser may do everything")


def rules(node, inside, outside):
    with node.client("c", **LOGIN) as client:
        for topic in inside:
            check(client.publish(topic) in (0, 16), f"ann may not publish to {topic}: {node.tail()}")
        for topic in outside:
            check(client.publish(topic) == 0x87, f"ann may publish to {topic}")
        check(client.subscribe("home/#" if inside == ["home/a"] else "home/both") in (0, 1), "her own filter")
        check(client.subscribe("#") == 0x87, "everything")


def injections(node):
    before = node.refused("unknown_user") + node.refused("denied")
    for name in EVIL:
        check(node.code("c", user=name, password="secret") == 0x86, f"{name!r} got in")
        check(node.code("c", **LOGIN) == 0, f"ann is locked out after {name!r}")
    after = node.refused("unknown_user") + node.refused("denied")
    check(after - before >= len(EVIL), "the refusals are not counted")


def outage(node, server):
    """A server that is down: the documented code, one line in the log, and recovery by itself."""
    server.stop()
    begin = time.monotonic()
    # A password that was verified before is not remembered over the user's absence.
    codes = [node.code("c", **LOGIN) for _ in range(8)]
    check(codes == [0x88] * 8, f"while {server.name} is down: {codes}")
    check(node.code("c", v=4, **LOGIN) == 3, "3.x is told: server unavailable")
    text = node.output().decode(errors="replace")
    lines = text.count("authentication backend failed")
    check(1 <= lines <= 2 + (time.monotonic() - begin) / 10, f"{lines} lines in the log")
    check("change-me" not in text and "secret" not in text, "a secret is in the log")
    check(node.refused("unavailable") + node.refused("timeout") >= 9, node.status()["refused"])
    server.start()
    until(lambda: node.code("c", **LOGIN) == 0, f"ann gets in again after {server.name} is back", 40, 0.5)



@case
def mysql(binary):
    with MariaDb() as server, Node(binary, lay_out("mysql.toml", {"127.0.0.1:3306": f"127.0.0.1:{server.port}"})) as node:
        logins(node)
        rules(node, ["home/a"], ["away/a"])
        outage(node, server)


@case
def postgres(binary):
    with Postgres() as server, \
            Node(binary, lay_out("postgres.toml", {"127.0.0.1:5432": f"127.0.0.1:{server.port}"})) as node:
        logins(node)
        rules(node, ["home/a"], ["away/a"])
        injections(node)
        outage(node, server)


@case
def redis(binary):
    with Redis() as server, Node(binary, lay_out("redis.toml", {"127.0.0.1:6379": f"127.0.0.1:{server.port}"})) as node:
        logins(node)
        rules(node, ["home/a"], ["away/a"])
        injections(node)
        outage(node, server)


def sql_injection(binary):
    with MariaDb() as server, \
            Node(binary, lay_out("mysql.toml", {"127.0.0.1:3306": f"127.0.0.1:{server.port}"})) as node:
        server.run("insert into mqtt.mqtt_user (username, password, salt, is_superuser) select 'probe', password, salt, 1 "
                   "from mqtt.mqtt_user where username = 'ann';")
        with Probe(node, user="probe", password="secret"):
            injections(node)
        check(server.run("select count(*) from mqtt.mqtt_user;").strip() == "3", "the table is not what it was")


class Service(http.server.BaseHTTPRequestHandler):
    """The web service of http.toml."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        fields = {name: values[0] for name, values in urllib.parse.parse_qs(body).items()}
        if self.path == "/mqtt/auth":
            answer = {("ann", "secret"): {"result": "allow"},
                      ("root", "secret"): {"result": "allow", "is_superuser": True}}.get(
                          (fields.get("username"), fields.get("password")))
            if answer is None and fields.get("username") not in ("ann", "root"):
                answer = {"result": "ignore"}
        else:
            answer = {"result": "allow"} if fields["topic"].startswith("home/") else None
        text = json.dumps(answer).encode() if answer else b""
        self.send_response(200 if answer else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def service():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@case
def web_service(binary):
    with service() as port, Node(binary, lay_out("http.toml", {"127.0.0.1:8080": f"127.0.0.1:{port}"})) as node:
        logins(node)
        rules(node, ["home/a"], ["away/a"])


@case
def tokens(binary):
    with Node(binary, lay_out("jwt.toml", {})) as node:
        claims = {"sub": "ann", "exp": time.time() + 100, "acl": {"pub": ["home/#"], "sub": ["home/#"]}}
        good = token(b"change-me", claims)
        with node.client("c", user="ann", password=good) as client:
            check(client.publish("home/a") in (0, 16) and client.publish("away/a") == 0x87, "the claim's rules")
            check(client.subscribe("home/#") in (0, 1) and client.subscribe("#") == 0x87, "the claim's rules")
        check(node.code("c", user="bob", password=good) == 0x86, "the token of another")
        check(node.code("c", user="ann", password=token(b"guess", claims)) == 0x86, "signed by another")


@case
def builtin(binary):
    with Node(binary, lay_out("builtin.toml", {})) as node:
        node.ctl("users", "add", "ann", "--password", "secret")
        node.ctl("users", "add", "root", "--password", "secret", "--superuser")
        node.ctl("acl", "add", '{allow, {user, "ann"}, all, ["home/#"]}.')
        logins(node)
        rules(node, ["home/a"], ["away/a"])


@case
def files(binary):
    text = lay_out("file.toml", {"etc/users": "users", "etc/acl.conf": str(ROOT / "etc" / "acl.conf")})
    from attacks import HASH
    with Node(binary, text, {"users": f"ann:{HASH}\n"}) as node:
        logins(node, superuser=False)
        with node.client("c", **LOGIN) as client:
            check(client.publish("any/thing") in (0, 16), "the last rule of the example allows")


@case
def certificates(binary):
    folder = "{dir}/certs"
    text = lay_out("x509.toml", {"0.0.0.0:8883": "127.0.0.1:0", "etc/certs": folder, "etc/acl.conf": "rules.conf"})
    node = Node(binary, text, {"rules.conf": '{allow, {user, "ann"}, all, ["home/#"]}.\n'})
    (node.dir / "certs").mkdir()
    node.run("certs", "ca", "--out", "certs")
    node.run("certs", "server", "localhost", "--out", "certs")
    node.run("certs", "client", "ann", "--out", "certs")
    certs = node.dir / "certs"
    for end in ("crt", "key"):
        if (certs / f"localhost.{end}").exists():
            shutil.copy(certs / f"localhost.{end}", certs / f"server.{end}")
    with node:
        context = trusting(certs / "ca.crt", certs / "ann.crt", certs / "ann.key")
        with Client(node.port("tls"), "c", tls=context) as client:
            check(client.publish("home/a") in (0, 16) and client.publish("away/a") == 0x87, "by her name")
        with refused_connection("no certificate"):
            Client(node.port("tls"), "c", tls=trusting(certs / "ca.crt")).ping()


@case
def a_kind_that_is_not_compiled_in_is_named(binary):
    node = Node(binary, '[[auth.chain]]\nkind = "mongodb"\n')
    try:
        (node.dir / "nightjar.toml").write_text(node.config())
        for command in ("check", "serve"):
            answer = node.run(command, "--config", "nightjar.toml", code=2)
            check("cargo feature `mongodb`" in answer, answer)
    finally:
        node.remove()


__all__ = ["CASES", "Failed", "Missing"]
