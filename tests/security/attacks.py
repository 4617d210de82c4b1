"""The table of attacks: nobody gets in, a client that is served meanwhile loses no message and waits less than five
seconds for each, memory stays below a cap, and what was refused is counted by its reason."""

import http.server
import socket
import ssl
import threading
import time
import urllib.parse

import backends
from kit import (Authority, Client, Failed, Node, Probe, check, encoded, openssl, refused_connection, token, trusting,
                 until, wire)

CASES = []

# User probe with the password secret, as mosquitto_passwd writes it; the same hash for every other name.
HASH = ("$7$101$r0YACPYEg6iatc0I$aZG1elPlN397o8vbuilpF3E7p0vmKxwQlXG88EyX+Un2RSA0XoBJmaWhbt59owqJYduKU5SGWY11T"
        "/+Oc+ovZQ==")
USERS = f"probe:{HASH}\nann:{HASH}\nmallory:{HASH}\n"
FILE = '[[auth.chain]]\nkind = "file"\npath = "users"\n'
PROBE = {"user": "probe", "password": "secret"}


def case(fn):
    CASES.append((f"attack/{fn.__name__}", fn))
    return fn


def rises(node, reason, before=0, by=1):
    """The counter of a reason rose by at least so much."""
    now = node.refused(reason)
    check(now >= before + by, f"{reason}: {before} before, {now} after, expected {by} more")


def in_threads(count, work):
    """Runs `work(n)` in threads; the first error is raised."""
    errors = []

    def run(number):
        try:
            work(number)
        except (Failed, OSError, wire.WireError) as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if errors:
        raise Failed(repr(errors[0]))


@case
def sql_in_user_names(binary):
    backends.sql_injection(binary)


@case
def ldap_filters_in_user_names(binary):
    backends.filter_injection(binary)


class Service(http.server.BaseHTTPRequestHandler):
    """Lets in ann and probe with the password secret, and remembers every request."""

    protocol_version = "HTTP/1.1"
    seen = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        fields = urllib.parse.parse_qs(body, keep_blank_values=True)
        Service.seen.append((self.path, dict(self.headers), fields))
        good = fields.get("username") in (["ann"], ["probe"]) and fields.get("password") == ["secret"]
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@case
def line_breaks_and_fields_in_http_placeholders(binary):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/auth/${{clientid}}?u=${{username}}"
    config = f'[[auth.chain]]\nkind = "http"\nurl = "{url}"\n'
    evil = ["ann\r\nX-Evil: 1", "ann&password=secret", "x&username=ann&password=secret", "ann HTTP/1.1\r\n\r\nPOST /",
            "ann%26", "ann#", "../../ann", "ann\n\n", "ann?x=1"]
    try:
        with Node(binary, config) as node, Probe(node, **PROBE):
            Service.seen.clear()
            before = node.refused("denied")
            for name in evil:
                check(node.code(f"c{name}", user=name, password="guess") == 0x86, f"{name!r} got in")
            rises(node, "denied", before, len(evil))
            check(len(Service.seen) == len(evil), f"{len(Service.seen)} requests of {len(evil)} logins")
            for name, (path, headers, fields) in zip(evil, Service.seen, strict=True):
                check("X-Evil" not in headers, f"{name!r} made a header")
                check(fields.get("username") == [name], f"{name!r} became {fields}")
                check(fields.get("password") == ["guess"], f"{name!r} became {fields}")
                parts = urllib.parse.urlsplit(path)
                check(parts.path.count("/") == 2, f"{name!r} made the path {path}")
                query = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
                check(query == {"u": [name]}, f"{name!r} became the query {parts.query}")
            check(node.code("good", user="ann", password="secret") == 0, "ann is let in")
    finally:
        server.shutdown()
        server.server_close()


@case
def a_proxy_header_from_an_untrusted_source(binary):
    config = '''[auth]
allow_anonymous = true
[limits.address]
connects = "100/s"
[listeners.tcp.default]
bind = "127.0.0.1:0"
[listeners.tcp.proxied]
bind = "127.0.0.1:0"
proxy_protocol = "optional"
trusted_proxies = ["10.9.8.7"]
'''
    with Node(binary, config) as node, Probe(node):
        port = int(node.endpoints["tcp:proxied"].rpartition(":")[2])
        version2 = (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([10, 0, 0, 1, 127, 0, 0, 1, 1, 2, 7, 91]))
        for number, header in enumerate((b"PROXY TCP4 10.0.0.1 127.0.0.1 555 1883\r\n", version2)):
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                sock.settimeout(10)
                sock.sendall(header + wire.connect("spoof"))
                try:
                    answer = sock.recv(100)
                except ConnectionError:
                    answer = b""
                check(not answer.startswith(b"\x20"), f"CONNACK behind a header: {answer!r}")
            rises(node, "proxy_untrusted", number)


@case
def oversized_tokens_and_connects(binary):
    config = '[[auth.chain]]\nkind = "jwt"\nsecret = "topsecret"\n'
    good = token(b"topsecret", {"exp": time.time() + 1000})
    with Node(binary, config) as node, Probe(node, user="probe", password=good):
        before = node.refused("denied")
        large = token(b"topsecret", {"exp": time.time() + 1000, "x": "y" * 40_000})
        for n in range(50):
            check(node.code(f"c{n}", user="ann", password=large) == 0x86, "a token of 54 KB got in")
        rises(node, "denied", before, 50)
        # A CONNECT that promises more than it may is refused at its first bytes, and nothing is held for it.
        for length in (b"\xff\xff\xff\x7f", b"\x80\x80\x80\x40"):
            with socket.create_connection(("127.0.0.1", node.port("tcp")), 5) as sock:
                sock.settimeout(10)
                sock.sendall(b"\x10" + length + b"\0\x04MQTT\x05\x02\0\0")
                try:
                    while sock.recv(1000):
                        pass
                except ConnectionError:
                    pass


@case
def expired_and_future_tokens(binary):
    config = '[[auth.chain]]\nkind = "jwt"\nsecret = "topsecret"\nleeway = "0s"\n'
    now = time.time()
    good = token(b"topsecret", {"exp": now + 1000, "nbf": now - 10, "iat": now - 10})
    with Node(binary, config) as node, Probe(node, user="probe", password=good):
        before = node.refused("denied")
        bad = [{"exp": now - 1}, {"exp": 0}, {"exp": -1}, {"nbf": now + 600}, {"iat": now + 600}, {"exp": "tomorrow"},
               {"exp": [now + 1000]}, {"nbf": True}, {"exp": now + 1000, "nbf": now + 500}]
        for claims in bad:
            check(node.code("c", user="ann", password=token(b"topsecret", claims)) == 0x86, f"{claims} got in")
        rises(node, "denied", before, len(bad))


@case
def algorithm_confusion(binary):
    config = '[[auth.chain]]\nkind = "jwt"\npublic_key_file = "key.pem"\n'
    file_user = FILE.replace('path = "users"', 'path = "users"')
    node = Node(binary, config + file_user, {"users": USERS})
    openssl(node.dir, "genrsa", "-out", "private.pem", "2048")
    openssl(node.dir, "rsa", "-in", "private.pem", "-pubout", "-out", "key.pem")
    public = (node.dir / "key.pem").read_bytes()
    with node, Probe(node, **PROBE):
        before = sum(node.refused(reason) for reason in ("denied", "unknown_user"))
        claims = {"exp": time.time() + 1000, "is_superuser": True}
        head = lambda algorithm: {"alg": algorithm, "typ": "JWT"}  # noqa: E731
        forged = [token(public, claims), token(public.strip(), claims), token(b"", claims),
                  token(b"", claims, head("none")), token(b"", claims, head("NONE") | {"alg": "None"}),
                  token(public, claims, head("RS256")), token(public, claims, head("ES256")),
                  f"{encoded(head('none'))}.{encoded(claims)}.",
                  token(public, claims, head("HS256") | {"jwk": {"kty": "oct", "k": encoded(public)}}),
                  token(public, claims, head("HS256") | {"crit": ["exp"]})]
        for number, text in enumerate(forged):
            check(node.code("c", user="ann", password=text) == 0x86, f"forged token {number} got in")
        after = sum(node.refused(reason) for reason in ("denied", "unknown_user"))
        check(after >= before + len(forged), f"{after - before} refusals counted of {len(forged)}")


MUTUAL = """
[auth]
allow_anonymous = true
[listeners.tls.default]
bind = "127.0.0.1:0"
cert_file = "{dir}/ours/server.pem"
key_file = "{dir}/ours/server.key"
ca_file = "{dir}/ours/ca.pem"
crl_file = "{dir}/ours/crl.pem"
verify = "peer"
fail_if_no_peer_cert = true
"""


@case
def a_certificate_of_another_authority(binary):
    node = Node(binary, MUTUAL)
    ours, theirs = Authority(node.dir, "ours"), Authority(node.dir, "theirs")
    ours.issue("server")
    context = trusting(ours.file, *theirs.issue("meter"))
    with node, Probe(node):
        before = node.refused("tls")
        for _ in range(20):
            with refused_connection("a certificate of another authority"):
                Client(node.port("tls"), "c", tls=context).ping()
        with refused_connection("no certificate"):
            Client(node.port("tls"), "c", tls=trusting(ours.file)).ping()
        rises(node, "tls", before, 21)
        Client(node.port("tls"), "good", tls=trusting(ours.file, *ours.issue("good"))).end()


@case
def a_revoked_certificate(binary):
    node = Node(binary, MUTUAL)
    ours = Authority(node.dir, "ours")
    ours.issue("server")
    stolen = ours.issue("stolen")
    ours.revoke(stolen[0])
    context = trusting(ours.file, *stolen)
    with node, Probe(node):
        before = node.refused("tls")
        for _ in range(20):
            with refused_connection("a revoked certificate"):
                Client(node.port("tls"), "c", tls=context).ping()
        rises(node, "tls", before, 20)


@case
def a_client_id_taken_over_by_another_user(binary):
    with Node(binary, f"[auth]\nbind_client_id = true\n{FILE}", {"users": USERS}) as node, Probe(node, **PROBE):
        keeps = {"properties": {"session_expiry": 1000}, "clean": False}
        owner = node.client("meter", user="ann", password="secret", **keeps)
        owner.subscribe("to/meter")
        before = node.refused("bound_client_id")

        def attack(number):
            for _ in range(25):
                code = node.code("meter", user="mallory", password="secret", clean=number % 2 == 0)
                check(code == 0x87, f"mallory got {code:#x}")
            check(node.code("probe", user="mallory", password="secret") == 0x87, "mallory took the probe's place")

        in_threads(4, attack)
        owner.ping()
        rises(node, "bound_client_id", before, 104)


@case
def ten_thousand_wrong_passwords(binary):
    config = FILE + '[[auth.chain]]\nkind = "builtin"\n'
    with Node(binary, config, {"users": USERS}) as node:
        node.ctl("users", "add", "joe", "--password", "secret")
        with Probe(node, **PROBE):
            before = sum(node.refused(reason) for reason in ("denied", "unavailable"))

            def guess(number):
                # Argon2 costs what it costs: fewer of those.
                user, count = ("joe", 25) if number == 0 else ("ann", 1425)
                for n in range(count):
                    code = node.code(f"g{number}", user=user, password=f"guess{n}")
                    check(code in (0x86, 0x88), f"{user} with guess {n} got {code:#x}")

            in_threads(8, guess)
            after = sum(node.refused(reason) for reason in ("denied", "unavailable"))
            check(after - before >= 10_000, f"{after - before} refusals counted")
            check(node.code("c", user="ann", password="secret") == 0, "ann is let in with hers")


@case
def slow_loris_before_connect(binary):
    config = '[auth]\nallow_anonymous = true\n[mqtt]\nconnect_timeout = "3s"\n'
    with Node(binary, config) as node, Probe(node):
        before = node.refused("connect_timeout")
        packet = wire.connect("loris" * 100)
        socks = [socket.create_connection(("127.0.0.1", node.port("tcp")), 10) for _ in range(400)]
        begin = time.monotonic()
        alive = list(socks)
        for byte in packet:
            still = []
            for sock in alive:
                try:
                    sock.send(bytes([byte]))
                    still.append(sock)
                except OSError:
                    pass
            alive = still
            if not alive or time.monotonic() - begin > 15:
                break
            time.sleep(0.25)
        check(not alive, f"{len(alive)} of 400 are still served after {time.monotonic() - begin:.0f} s")
        rises(node, "connect_timeout", before, 400)
        for sock in socks:
            sock.close()


def client_hello():
    """The first bytes of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


@case
def a_flood_of_tls_handshakes(binary):
    config = """[auth]
allow_anonymous = true
[listeners.tls.default]
bind = "127.0.0.1:0"
handshake_timeout = "3s"
max_handshakes = 64
"""
    with Node(binary, config) as node, Probe(node):
        port, hello = node.port("tls"), client_hello()
        refused = lambda: sum(node.refused(it) for it in  # noqa: E731
                              ("handshake_timeout", "max_handshakes", "handshake_closed", "tls"))
        before = refused()
        held = []

        def flood(number):
            for n in range(150):
                try:
                    sock = socket.create_connection(("127.0.0.1", port), 10)
                    # A whole hello, half of one, nothing, or what is none.
                    sock.sendall((hello, hello[:60], b"", b"\x16\x03\x01\xff\xff" + bytes(2000))[n % 4])
                    held.append(sock)
                except OSError:
                    pass  # Refused: that is what the limit is for.

        in_threads(4, flood)
        until(lambda: refused() - before >= 500, "handshakes are refused and counted", 20)
        until(lambda: node.status()["listeners"]["tls:default"]["connections"] == 0, "none is held", 20)
        for sock in held:
            sock.close()
        with Client(port, "late", tls=trusting(node.ca_file())) as client:
            client.ping()


@case
def a_flood_of_connects(binary):
    config = FILE + '[limits.address]\nconnects = "200/s"\n'
    with Node(binary, config, {"users": USERS}) as node, Probe(node, **PROBE):
        def flood(number):
            for n in range(400):
                with socket.create_connection(("127.0.0.1", node.port("tcp")), 10,
                                              source_address=(f"127.0.1.{number + 1}", 0)) as sock:
                    sock.settimeout(10)
                    try:
                        sock.sendall(wire.connect(f"flood{number}-{n}", user="nobody", password="x"))
                        answer = sock.recv(200)
                    except ConnectionError:
                        continue
                    check(not answer or answer[3] in (0x86, 0x9F), f"CONNACK {answer!r}")

        in_threads(8, flood)
        check(node.refused("unknown_user") + node.refused("connects_over_rate") >= 3000, node.status()["refused"])
        # More from one address than it may: told so, and counted.
        codes = {node.code("c", user="nobody", password="x", source="127.0.2.1") for _ in range(1)}
        check(codes == {0x86}, codes)
