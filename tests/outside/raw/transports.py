"""The four transports below MQTT: TLS versions and certificates, the wrong protocol on a port."""

import asyncio
import ssl

import wire
import ws
from conn import Conn
from rows import check, read_or_closed, row

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


async def tls_conn(t, name="c", context=None):
    reader, writer = await ws.stream(t, "tls", context)
    conn = Conn(reader, writer, t.v, name)
    t.conns.append(conn)
    return conn


@row(v="345", s4="7.1.1-1", s5="4.2.0-1")
async def the_same_over_tls(t):
    """TLS 1.2 and 1.3 with the certificate made at the first start, checked by the name localhost."""
    for version in VERSIONS:
        context = ws.trusting(t.broker)
        context.minimum_version = context.maximum_version = version
        conn = await tls_conn(t, context=context)
        conn.send(wire.connect(t.cid(), t.v))
        await conn.connected()
        await conn.subscribe(t.topic(), qos=1)
        await conn.publish(t.topic(), b"x" * 50000, 0)
        await conn.message(t.topic(), b"x" * 50000, 0)
        await conn.disconnect()


@row(v="4")
async def old_tls_is_refused(t):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        await ws.stream(t, "tls", context)
    except (ssl.SSLError, ConnectionError):
        return
    check(False, "TLS 1.1 was accepted")


@row(v="4")
async def certificate_names_loopback(t):
    """The generated certificate is good for the address too."""
    context = ws.trusting(t.broker)
    host, _, port = t.endpoints["tls:default"].rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="127.0.0.1")
    writer.close()


@row(v="4")
async def alpn(t):
    """`mqtt` is chosen where it is offered; a client that offers none is served."""
    context = ws.trusting(t.broker)
    context.set_alpn_protocols(["mqtt"])
    _, writer = await ws.stream(t, "tls", context)
    check(writer.get_extra_info("ssl_object").selected_alpn_protocol() == "mqtt", "ALPN")


@row(v="4")
async def mqtt_on_the_tls_port(t):
    """Plain MQTT where TLS is expected ends in a close (perhaps after a TLS alert)."""
    for listener in ("tls:default", "wss:default"):
        conn = await t.open(listener=listener)
        conn.send(wire.connect(t.cid(), t.v))
        answer = await read_or_closed(conn.reader)
        check(answer == b"" or answer[0] == 21, answer)
        check(answer == b"" or await read_or_closed(conn.reader) == b"", "not closed")


@row(v="4")
async def half_closed_by_the_client(t):
    """A client that shuts its sending side down is treated as gone."""
    conn = await t.connect()
    conn.writer.write_eof()
    await conn.expect_close()


@row(v="5", s4="3.1.2-8", s5="3.1.2-8")
async def tls_client_that_vanishes_leaves_its_will(t):
    watcher = await t.connect("watcher")
    await watcher.subscribe(t.topic("will"))
    conn = await tls_conn(t)
    conn.send(wire.connect(t.cid(), t.v, will=(t.topic("will"), b"gone", 0, False)))
    await conn.connected()
    conn.writer.transport.abort()
    await watcher.message(t.topic("will"), b"gone")


@row(v="4")
async def junk_in_a_tls_stream(t):
    """A broken record after the handshake ends that connection only."""
    raw = await t.open(listener="tls:default")
    raw.send(bytes.fromhex("160301ffff") + bytes(300))
    while await read_or_closed(raw.reader, 4096, 16):
        pass
    await (await t.connect("other")).ping()


@row(v="4")
async def all_transports_meet(t):
    """One client on each of the four transports: each gets what the others publish."""
    conns = {"tcp": await t.connect("tcp")}
    conns["tls"] = await tls_conn(t, "tls")
    conns["tls"].send(wire.connect(t.cid("tls"), t.v))
    await conns["tls"].connected()
    conns["ws"] = await ws.connect_ws(t, "ws")
    conns["wss"] = await ws.connect_ws(t, "wss", listener="wss")
    for conn in conns.values():
        await conn.subscribe(t.topic(), qos=1)
    for name, conn in conns.items():
        conn.post(t.topic(), name.encode(), 0)
        for other in conns.values():
            await other.message(t.topic(), name.encode(), 0)


@row(v="4")
async def a_tls_hello_on_the_plain_port_is_named_in_the_log(t):
    conn = await t.open()
    conn.send(bytes.fromhex("16030100c8010000c40303") + bytes(200))
    await conn.expect_close()
    await asyncio.sleep(0.2)
    lines = [line for line in t.broker.output().decode(errors="replace").splitlines() if "speaks TLS" in line]
    check(lines, "no line says that a client speaks TLS")
