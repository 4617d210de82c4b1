"""Limits, bans and times: what is refused, what pauses, what ends, and that nothing is lost by it."""

import socket
import threading
import time

from kit import Failed, Node, check, token, until, wire

CASES = []

OPEN = "[auth]\nallow_anonymous = true\n"


def case(fn):
    CASES.append((f"limits/{fn.__name__}", fn))
    return fn


@case
def connections_beyond_the_rate_of_an_address_are_refused(binary):
    with Node(binary, OPEN + '[limits.address]\nconnects = "5/m"\n') as node:
        codes = [node.code(f"c{n}", source="127.0.0.9") for n in range(8)]
        check(codes == [0] * 5 + [0x9F] * 3, codes)
        check(node.code("other", source="127.0.0.10") == 0, "another address is not concerned")
        check(node.code("c", v=4, source="127.0.0.9") == 3, "3.x is told: server unavailable")
        check(node.refused("connects_over_rate") == 4, node.status()["refused"])


@case
def connections_beyond_the_rate_of_a_client_or_user_are_refused_after_authentication(binary):
    config = '[[auth.chain]]\nkind = "builtin"\n[limits.user]\nconnects = "3/m"\n'
    with Node(binary, config) as node:
        for name in ("ann", "bob"):
            node.ctl("users", "add", name, "--password", "secret")
        # Who does not know the password cannot use up what is hers.
        codes = [node.code("c", user="ann", password="guess") for _ in range(5)]
        check(codes == [0x86] * 5, codes)
        codes = [node.code(f"c{n}", user="ann", password="secret") for n in range(4)]
        check(codes == [0, 0, 0, 0x9F], codes)
        check(node.code("c", user="bob", password="secret") == 0, "bob is not concerned")


@case
def messages_beyond_the_rate_pause_their_sender_and_none_is_lost(binary):
    with Node(binary, OPEN + '[limits.client]\nmessages = "20/s"\n') as node:
        reader = node.client("reader")
        reader.subscribe("a", 0)
        writer, other = node.client("writer"), node.client("other")
        begin = time.monotonic()
        writer.send(b"".join(wire.publish("a", str(n).encode(), 0) for n in range(60)))
        # Nobody else waits for it.
        for n in range(10):
            at = time.monotonic()
            other.publish("b", b"", 1)
            check(time.monotonic() - at < 1, "another client waits too")
        got = [int(reader.message().payload) for _ in range(60)]
        seconds = time.monotonic() - begin
        check(got == list(range(60)), got)
        check(1.5 < seconds < 6, f"60 messages at 20/s, 20 at once, in {seconds:.1f} s")
        check(node.refused("publisher_rate_pauses") > 0, "no pause was counted")


@case
def bytes_beyond_the_rate_of_a_user_pause_all_its_clients_together(binary):
    config = '[auth]\nallow_anonymous = true\n[limits.user]\nbytes = "100KB/s"\n'
    with Node(binary, config) as node:
        clients = [node.client(f"w{n}", user="ann") for n in range(2)]
        begin = time.monotonic()
        threads = [threading.Thread(target=lambda it=it: [it.publish("a", bytes(10_000)) for _ in range(15)])
                   for it in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - begin
        check(1.5 < seconds < 8, f"300 KB at 100 KB/s, 100 at once, in {seconds:.1f} s")


@case
def a_client_that_flaps_is_banned_for_a_time_and_others_are_not(binary):
    config = OPEN + '[limits.flapping]\nenable = true\nconnects = 5\nwindow = "1m"\nban = "2s"\n'
    with Node(binary, config) as node:
        codes = []
        for _ in range(12):
            codes.append(node.code("flapper"))
            if codes[-1]:
                break
        check(codes[:5] == [0] * 5 and codes[-1] == 0x8A, codes)
        check(node.code("calm") == 0, "another client of the address is not concerned")
        check("flapping" in node.ctl("ban", "list"), "the list says who banned")
        until(lambda: node.code("flapper") == 0, "the ban is over")


@case
def a_token_that_expires_ends_the_connection_it_came_with(binary):
    config = '[[auth.chain]]\nkind = "jwt"\nsecret = "topsecret"\nleeway = "0s"\n'
    with Node(binary, config) as node:
        short = token(b"topsecret", {"exp": time.time() + 2})
        client = node.client("c", user="ann", password=short)
        begin = time.monotonic()
        last = client.packet(10)
        check(last is not None and last.kind == wire.DISCONNECT and last.rc == 0xA0, last)
        check(1 < time.monotonic() - begin < 5, "at its time")
        check(node.refused("token_expired") == 1, node.status()["refused"])
        check(node.code("c", user="ann", password=short) == 0x86, "and it does not come back")
        with node.client("d", user="ann", password=token(b"topsecret", {"exp": time.time() + 100})) as client:
            time.sleep(2.5)
            client.ping()


@case
def a_bound_client_id_stays_with_its_user_over_connections_and_restarts(binary):
    config = '[auth]\nbind_client_id = true\n[[auth.chain]]\nkind = "builtin"\n'
    with Node(binary, config) as node:
        for name in ("ann", "eve"):
            node.ctl("users", "add", name, "--password", name)
        ann, eve = ({"user": name, "password": name} for name in ("ann", "eve"))
        keeps = {"properties": {"session_expiry": 1000}, "clean": False}
        owner = node.client("meter", **ann, **keeps)
        owner.subscribe("to/meter")
        check(node.code("meter", **eve) == 0x87, "taken over while it is connected")
        owner.ping()
        owner.end()
        for clean in (True, False):
            check(node.code("meter", **eve, clean=clean) == 0x87, "taken over while it is away")
        check(node.refused("bound_client_id") == 3, node.status()["refused"])
        check(node.stop() == 0, "it stops")
        node.start()
        check(node.code("meter", **eve) == 0x87, "taken over after a restart")
        with node.client("meter", **ann, **keeps) as owner:
            check(owner.connack.session_present, "her session is there")
        # Its end frees the name.
        node.client("meter", **ann, clean=True).end()
        until(lambda: node.code("meter", **eve) == 0, "the name is free again")
        check(node.refused("bound_client_id") >= 1, node.status()["refused"])


@case
def a_banned_user_is_asked_for_no_password(binary):
    with Node(binary, '[[auth.chain]]\nkind = "builtin"\n') as node:
        node.ctl("users", "add", "ann", "--password", "secret")
        client = node.client("c", user="ann", password="secret")
        node.ctl("ban", "add", "--user", "ann", "--reason", "test")
        last = client.packet(10)
        check(last is not None and last.kind == wire.DISCONNECT and last.rc == 0x98, last)
        check(node.code("c", user="ann", password="guess") == 0x8A, "banned, whatever the password")
        check(node.refused("denied") == 0, "the authenticator was asked")
        node.ctl("ban", "rm", "--user", "ann")
        check(node.code("c", user="ann", password="secret") == 0, "lifted")


@case
def a_name_of_a_certificates_alternative_names_is_the_user(binary):
    from kit import Authority, refused_connection, trusting
    config = """
[listeners.tls.default]
bind = "127.0.0.1:0"
cert_file = "{dir}/server.pem"
key_file = "{dir}/server.key"
ca_file = "{dir}/ca.pem"
verify = "peer"
[[auth.chain]]
kind = "x509"
field = "san_uri"
[[acl.sources]]
kind = "file"
path = "rules.conf"
"""
    rules = '{allow, {user, "urn:meter:7"}, all, ["meter/7/#"]}.\n'
    node = Node(binary, config, {"rules.conf": rules})
    authority = Authority(node.dir, "authority")
    cert, key = authority.issue("server")
    for source, name in ((cert, "server.pem"), (key, "server.key"), (authority.file, "ca.pem")):
        (node.dir / name).write_bytes(source.read_bytes())
    with node:
        meter = trusting(authority.file, *authority.issue("m7", "subjectAltName=URI:urn:meter:7,DNS:m7.example"))
        plain = trusting(authority.file, *authority.issue("plain"))
        with node_client(node, "c", meter) as client:
            check(client.publish("meter/7/t") in (0, 16), "its own topic")
            code = client.publish("meter/8/t")
            check(code == 0x87, f"the topic of another: {code:#x}")
        with node_client(node, "c", meter, user="urn:meter:7") as client:
            client.ping()
        with refused_connection("another name"):
            node_client(node, "c", meter, user="urn:meter:8")
        with refused_connection("a certificate without a URI"):
            node_client(node, "c", plain)


def node_client(node, cid, context, **options):
    from kit import Client
    return Client(node.port("tls"), cid, tls=context, **options)


@case
def certificates_and_revocations_are_read_again_and_connections_stay(binary):
    from kit import Authority, refused_connection, trusting
    config = """
[auth]
allow_anonymous = true
[listeners.tls.default]
bind = "127.0.0.1:0"
cert_file = "{dir}/server.pem"
key_file = "{dir}/server.key"
ca_file = "{dir}/ca.pem"
crl_file = "{dir}/crl.pem"
verify = "peer"
fail_if_no_peer_cert = true
"""
    node = Node(binary, config)
    authority = Authority(node.dir, "authority")

    def lay(cert, key):
        for source, name in ((cert, "server.pem"), (key, "server.key"), (authority.file, "ca.pem"),
                             (authority.dir / "crl.pem", "crl.pem")):
            (node.dir / name).write_bytes(source.read_bytes())

    lay(*authority.issue("server"))
    with node:
        good, bad = authority.issue("good"), authority.issue("bad")
        contexts = [trusting(authority.file, *pair) for pair in (good, bad)]
        stays = node_client(node, "stays", contexts[1])
        authority.revoke(bad[0])
        lay(*authority.issue("renewed"))
        node.ctl("reload")
        with refused_connection("a revoked certificate"):
            node_client(node, "late", contexts[1]).ping()
        with node_client(node, "good", contexts[0]) as client:
            client.ping()
            name = dict(pair[0] for pair in client.sock.getpeercert()["subject"])
            check(name == {"commonName": "renewed"}, name)
        stays.ping()
        check(node.refused("tls") > 0, node.status()["refused"])
        # A broken file leaves what is in force, and is named.
        (node.dir / "server.pem").write_text("nonsense\n")
        answer = node.ctl("reload", code=1)
        check("server.pem" in answer, answer)
        with node_client(node, "good", contexts[0]) as client:
            client.ping()


@case
def a_proxys_unique_id_is_in_the_log(binary):
    config = OPEN + """[log]
level = "debug"
[listeners.tcp.default]
bind = "127.0.0.1:0"
proxy_protocol = "required"
trusted_proxies = ["127.0.0.1"]
"""
    tlv = b"request-7\n"
    body = bytes([192, 0, 2, 1, 127, 0, 0, 1, 1, 2, 7, 91]) + b"\x05" + len(tlv).to_bytes(2, "big") + tlv
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(body).to_bytes(2, "big") + body
    with Node(binary, config) as node:
        with socket.create_connection(("127.0.0.1", node.port("tcp")), 5) as sock:
            sock.settimeout(10)
            sock.sendall(header + wire.connect("behind"))
            check(sock.recv(100)[3] == 0, "a client behind the proxy")
        text = node.output().decode(errors="replace")
        check("request-7\\n" in text and "192.0.2.1" in text, node.tail())


@case
def a_verdict_is_explained_without_a_running_node_and_by_it(binary):
    config = '[auth]\nallow_anonymous = true\n[[acl.sources]]\nkind = "file"\npath = "rules.conf"\n'
    rules = '{allow, {user, "ann"}, publish, ["a/#"]}.\n{deny, {ipaddr, "10.0.0.0/8"}, subscribe, ["$SYS/#"]}.\n'
    with Node(binary, config, {"rules.conf": rules}) as node:
        asked = [
            (["--user", "ann", "publish", "a/b"], "allow", "rules.conf:1"),
            (["--user", "bob", "publish", "a/b"], "deny", "acl.no_match"),
            (["--ip", "10.1.2.3", "subscribe", "$SYS/x"], "deny", "rules.conf:2"),
            (["--user", "ann", "--qos", "1", "--retain", "publish", "c"], "deny", "acl.no_match"),
        ]
        for args, verdict, place in asked:
            for answer in (node.run("acl", "test", "--config", "nightjar.toml", *args), node.ctl("acl", "test", *args)):
                check(verdict in answer and place in answer, f"{args}: {answer}")
        # A broken file leaves the old rules, and says where it is broken; clients' caches follow a good one.
        with node.client("c", user="ann") as client:
            check(client.publish("a/x") in (0, 16), "by rule 1")
            (node.dir / "rules.conf").write_text('{allow, {user, "ann"}, publish, ["a/#"]}.\n{deny, everyone}.\n')
            answer = node.ctl("acl", "reload", code=1)
            check("rules.conf:2" in answer, answer)
            check(client.publish("a/x") in (0, 16), "the old rules are in force")
            (node.dir / "rules.conf").write_text("{deny, all}.\n")
            node.ctl("acl", "reload")
            check(client.publish("a/x") == 0x87, "the new rules are in force")
            node.ctl("acl", "cache-clean")
            check(client.publish("a/x") == 0x87, "still")


__all__ = ["CASES", "Failed"]
