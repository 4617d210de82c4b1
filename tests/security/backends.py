"""Each example of etc/auth in a running broker against the real server it speaks of.

The files are used as they are but for ports and folders, which `lay_out` replaces one by one: each must occur.
"""

import contextlib
import http.server
import json
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse

from kit import (ROOT, Authority, Client, Failed, Node, Probe, check, refused_connection, token, trusting, until)
from mongo_standin import MongoStandIn
from servers import ETC, Between, MariaDb, Missing, Postgres, Redis, Slapd

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


def needs(binary, kind):
    """Kinds that only some programs have."""
    done = subprocess.run([binary, "version"], text=True, capture_output=True, check=True, timeout=30)
    if kind not in done.stdout:
        raise Missing(f"this program was built without the cargo feature {kind}")


def failures(node):
    return node.refused("unavailable") + node.refused("timeout")


def trouble(node, link):
    """A server that is down, silent, or answers nonsense: the documented code, few lines in the log, an alarm, nobody gets
    in, whoever is connected goes on, and recovery by itself."""
    connected, start = node.client("stays", **LOGIN), time.monotonic()
    for mode in ("down", "silent", "nonsense"):
        link.become(mode)
        before, begin = failures(node), time.monotonic()
        codes, threads = [], []

        def attempt(number):
            # A password that was verified before is not remembered over the user's absence.
            codes.append(node.code(f"t{number}", **LOGIN))

        for number in range(8):
            threads.append(threading.Thread(target=attempt, args=(number,), daemon=True))
            threads[-1].start()
        connected.ping()
        for thread in threads:
            thread.join(60)
        check(codes == [0x88] * 8, f"while it is {mode}: {codes}")
        check(node.code("t", v=4, **LOGIN) == 3, "3.x is told: server unavailable")
        check(failures(node) - before >= 9, f"{mode}: {node.status()['refused']}")
        check(time.monotonic() - begin < 60, f"{mode}: the logins took {time.monotonic() - begin:.0f} s")
        if mode == "down":
            until(lambda: "authenticator_down" in node.ctl("alarms", "list"), "an alarm is raised", 60, 0.5)
        link.become("through")
        until(lambda: node.code("t", **LOGIN) == 0, f"ann gets in again after it was {mode}", 60, 0.5)
    connected.ping()
    connected.end()
    text = node.output().decode(errors="replace")
    lines = text.count("authentication backend failed")
    # One in ten seconds.
    check(1 <= lines <= 2 + (time.monotonic() - start) / 10, f"{lines} lines in the log for more than 27 failures")
    for secret in ("change-me", "secret", "guess"):
        check(secret not in text, f"{secret!r} is in the log")


def behind(name, old, link, more=None):
    """The example with the server at the link's port."""
    return lay_out(name, {old: f"127.0.0.1:{link.port}", **(more or {})})


@case
def mysql(binary):
    with MariaDb() as server, Between(server.port) as link, \
            Node(binary, behind("mysql.toml", "127.0.0.1:3306", link)) as node:
        logins(node)
        rules(node, ["home/a"], ["away/a"])
        trouble(node, link)


@case
def postgres(binary):
    with Postgres() as server, Between(server.port) as link, \
            Node(binary, behind("postgres.toml", "127.0.0.1:5432", link)) as node:
        logins(node)
        rules(node, ["home/a"], ["away/a"])
        injections(node)
        trouble(node, link)


@case
def redis(binary):
    with Redis() as server, Between(server.port) as link, \
            Node(binary, behind("redis.toml", "127.0.0.1:6379", link)) as node:
        logins(node)
        rules(node, ["home/a"], ["away/a"])
        injections(node)
        trouble(node, link)


def filled(server):
    """The documents of etc/auth, as mongoimport would read them."""
    for collection, file in (("mqtt.mqtt_user", "mongodb-user.json"), ("mqtt.mqtt_acl", "mongodb-acl.json")):
        server.collections[collection] = json.loads((ETC / file).read_text())
    return server


@case
def the_mongodb_stand_in_satisfies_pymongo(_):
    try:
        import pymongo
        import pymongo.errors
    except ImportError as error:
        raise Missing("pymongo is not installed (tests/outside/requirements.txt)") from error
    with MongoStandIn() as server:
        place = {"host": "127.0.0.1", "port": server.port, "serverSelectionTimeoutMS": 5000}
        login = {"username": "nightjar", "password": "change-me", "authSource": "admin", "authMechanism": "SCRAM-SHA-256"}
        with pymongo.MongoClient(**place, **login) as client:
            client.admin.command("ping")
            users = client.mqtt.mqtt_user
            users.insert_many([{"username": "ann", "n": 1, "x": [1, "a", {"b": None}]}, {"username": "bob", "n": 2.5}])
            check(users.find_one({"username": "ann"}, {"_id": 0}) == {"username": "ann", "n": 1, "x": [1, "a", {"b": None}]},
                  "what was written is read")
            # What an injected operator would do, the stand-in does.
            check(len(list(users.find({"username": {"$ne": None}}))) == 2, "an operator finds everybody")
            check(users.find_one({"username": "nobody"}) is None, "nobody")
        for wrong in ({}, {**login, "password": "guess"}, {**login, "username": "nobody"}):
            with pymongo.MongoClient(**place, **wrong) as client:
                try:
                    client.mqtt.mqtt_user.find_one({})
                except pymongo.errors.OperationFailure:
                    continue
                raise Failed(f"pymongo got in with {wrong}")


@case
def mongodb(binary):
    needs(binary, "mongodb")
    with filled(MongoStandIn()) as server, Between(server.port) as link, \
            Node(binary, behind("mongodb.toml", "127.0.0.1:27017", link)) as node:
        logins(node)
        rules(node, ["home/a", "both/c/a"], ["away/a", "both/d/a"])
        injections(node)
        check({"username": '{"$ne": null}'} in server.finds, "a value is a text, whatever it holds")
        check(all(isinstance(value, str) for find in server.finds for value in find.values()), "an operator was sent")
        trouble(node, link)


@case
def mongodb_by_another_member_of_the_replica_set(binary):
    needs(binary, "mongodb")
    with filled(MongoStandIn()) as first, filled(MongoStandIn()) as second:
        hosts = [f"127.0.0.1:{it.port}" for it in (first, second)]
        first.replica_set = second.replica_set = ("rs0", hosts)
        member = f'127.0.0.1:{first.port}"\nreplica_set = "rs0'
        with Node(binary, lay_out("mongodb.toml", {"127.0.0.1:27017": member})) as node:
            logins(node)
            first.stop()
            until(lambda: node.code("c", **LOGIN) == 0, "the other member is asked", 30, 0.5)
            check(second.finds, "the other member was not asked")


OWN_RULES = '{allow, {user, "ann"}, all, ["home/#"]}.\n'


def directory(binary, link, more=None):
    text = behind("ldap.toml", "127.0.0.1:389", link, {"etc/acl.conf": "rules.conf", **(more or {})})
    return Node(binary, text, {"rules.conf": OWN_RULES})


@case
def ldap(binary):
    needs(binary, "ldap")
    with Slapd() as server, Between(server.port) as link, directory(binary, link) as node:
        logins(node)
        rules(node, ["home/a"], ["away/a"])
        injections(node)
        trouble(node, link)


@case
def ldap_by_name_and_by_hash(binary):
    needs(binary, "ldap")
    search = 'base_dn = "ou=devices,dc=example,dc=org"'
    by_name = {search: 'user_dn = "uid=${username},ou=devices,dc=example,dc=org"'}
    reader = {"cn=nightjar,dc=example,dc=org": "cn=reader,dc=example,dc=org", "change-me": "read-me"}
    by_hash = {search: f'{search}\nmethod = "hash"', **reader}
    with Slapd() as server:
        for more in (by_name, by_hash, {**by_name, **reader, "filter =": 'method = "hash"\nfilter ='}):
            with directory(binary, server, more) as node:
                logins(node)
                rules(node, ["home/a"], ["away/a"])
                for name in [*EVIL, "ann,ou=devices,dc=example,dc=org", "ann+cn=ann", "root,ou=devices,dc=example,dc=org"]:
                    check(node.code("c", user=name, password="secret") == 0x86, f"{name!r} got in")


def filter_injection(binary):
    """For the table of attacks."""
    needs(binary, "ldap")
    with Slapd() as server, directory(binary, server) as node:
        with Probe(node, user="root", password="secret"):
            injections(node)
            before = node.refused("unknown_user") + node.refused("denied")
            evil = ["*)(isSuperuser=TRUE", "root)(&", "ann)(&)", "*)(objectClass=*", "a*", "ann)(!(&(1=0", "root\\00",
                    "\\2a\\29\\28uid=\\2a", "ann,ou=devices,dc=example,dc=org", "(uid=ann)"]
            for name in evil:
                for password in ("secret", "guess", ""):
                    check(node.code("c", user=name, password=password) == 0x86, f"{name!r} got in")
            # A bind without a password is granted to everybody, by the directory.
            check(node.code("c", user="ann", password="") == 0x86, "ann got in without a password")
            after = node.refused("unknown_user") + node.refused("denied")
            check(after - before >= len(evil) * 3 + 1, "the refusals are not counted")


@contextlib.contextmanager
def authorities():
    """Two authorities, and a certificate of the first one for the server."""
    with tempfile.TemporaryDirectory(prefix="nightjar-test-ca-") as folder:
        pathlib.Path(folder).chmod(0o755)
        ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
        yield ours.file, theirs.file, ours.issue("server")


def over_tls(binary, name, old, place, ours, theirs, more="", files=None, replaced=None):
    """The example by TLS: who the right authority vouches for is asked; a server of another one, or one whose certificate
    has another name, is not, and the log says why."""

    def text(ca, host):
        extra = {old: f'{host}:{place}"\ntls.enable = true\ntls.ca_file = "{ca}{more}'}
        return lay_out(name, {**extra, **(replaced or {})})

    with Node(binary, text(ours, "127.0.0.1"), files) as node:
        logins(node)
        rules(node, ["home/a"], ["away/a"])
    for ca, host, reason in ((theirs, "127.0.0.1", "UnknownIssuer"), (ours, "127.0.0.2", "NotValidForName")):
        with Node(binary, text(ca, host), files) as node:
            check(node.code("c", **LOGIN) == 0x88, f"{name} with {ca} at {host}")
            log = node.output().decode(errors="replace")
            check("certificate" in log and (reason in log or host == "127.0.0.2"), f"{name}, {reason}: {node.tail()}")
            check("change-me" not in log and "secret" not in log, "a secret is in the log")
    # A file that is not there is named before anything starts.
    node = Node(binary, text("{dir}/none.pem", "127.0.0.1"), files)
    try:
        (node.dir / "nightjar.toml").write_text(node.config())
        answer = node.run("check", "--config", "nightjar.toml", code=2)
        check("tls.ca_file" in answer and "none.pem" in answer, answer)
    finally:
        node.remove()


@case
def mysql_over_tls(binary):
    with authorities() as (ours, theirs, tls), MariaDb(tls) as server:
        over_tls(binary, "mysql.toml", "127.0.0.1:3306", server.port, ours, theirs)


@case
def postgres_over_tls(binary):
    with authorities() as (ours, theirs, tls), Postgres(tls) as server:
        over_tls(binary, "postgres.toml", "127.0.0.1:5432", server.port, ours, theirs)


@case
def redis_over_tls(binary):
    with authorities() as (ours, theirs, tls), Redis(tls) as server:
        over_tls(binary, "redis.toml", "127.0.0.1:6379", server.port, ours, theirs)


@case
def mongodb_over_tls(binary):
    needs(binary, "mongodb")
    with authorities() as (ours, theirs, tls):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        with filled(MongoStandIn(context)) as server:
            over_tls(binary, "mongodb.toml", "127.0.0.1:27017", server.port, ours, theirs)


@case
def ldap_over_tls(binary):
    needs(binary, "ldap")
    more = {"replaced": {"etc/acl.conf": "rules.conf"}, "files": {"rules.conf": OWN_RULES}}
    with authorities() as (ours, theirs, tls), Slapd(tls) as server:
        over_tls(binary, "ldap.toml", "127.0.0.1:389", server.secure, ours, theirs, **more)
        over_tls(binary, "ldap.toml", "127.0.0.1:389", server.port, ours, theirs, '"\nstarttls = true\n#"', **more)


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
def web_service_in_trouble(binary):
    with service() as port, Between(port) as link, Node(binary, behind("http.toml", "127.0.0.1:8080", link)) as node:
        trouble(node, link)


@case
def a_kind_that_is_not_compiled_in_is_named(binary):
    done = subprocess.run([binary, "version"], text=True, capture_output=True, check=True, timeout=30)
    for kind in ("mongodb", "ldap"):
        if kind in done.stdout:
            continue
        node = Node(binary, f'[[auth.chain]]\nkind = "{kind}"\n')
        try:
            (node.dir / "nightjar.toml").write_text(node.config())
            for command in ("check", "serve"):
                answer = node.run(command, "--config", "nightjar.toml", code=2)
                check(f"cargo feature `{kind}`" in answer, answer)
        finally:
            node.remove()


__all__ = ["CASES", "Failed", "Missing"]
