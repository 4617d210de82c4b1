"""Keep alive: PINGREQ, the limit of one and a half times, the server's own value."""

import asyncio
import time

import wire
from rows import check, row


@row(v="345", s4="3.12.4-1", s5="3.12.4-1")
async def pingreq(t):
    conn = await t.connect()
    for _ in range(3):
        await conn.ping()


@row(v="345")
async def pingreq_storm(t):
    """Ten thousand in a row are answered, each."""
    conn = await t.connect()
    for _ in range(100):
        conn.send(wire.pingreq() * 100)
    for _ in range(10000):
        await conn.expect(wire.PINGRESP)


@row(v="345", s4="3.1.2-24", s5="3.1.2-22", phase="timed")
async def silent_client_is_closed(t):
    """After 1.5 times the keep alive, within a second; 5.0 is told 0x8D."""
    conn = await t.connect(keep_alive=2)
    begin = time.monotonic()
    await conn.expect_end(0x8D)
    took = time.monotonic() - begin
    check(2.8 < took < 4.2, f"closed after {took:.2f} s")


@row(v="345", s4="3.1.2-24", s5="3.1.2-22", phase="timed")
async def any_packet_counts(t):
    """PUBLISH, SUBSCRIBE and acknowledgements keep a connection alive as PINGREQ does."""
    conn = await t.connect(keep_alive=1)
    for _ in range(3):
        conn.post(t.topic(), b"x")
        await asyncio.sleep(0.9)
        await conn.subscribe(t.topic("else"))
        await asyncio.sleep(0.9)
    await conn.ping()


@row(v="345", s4="3.1.2-24", s5="3.1.2-22", phase="timed")
async def deliveries_do_not_count(t):
    """What the server sends does not keep a silent client alive."""
    sub = await t.connect("sub", keep_alive=1)
    await sub.subscribe(t.topic())
    pub = await t.connect("pub")
    begin = time.monotonic()
    while time.monotonic() - begin < 4:
        pub.post(t.topic(), b"x")
        packet = await sub.recv(1)
        if packet is None or packet.kind == wire.DISCONNECT:
            break
        await asyncio.sleep(0.2)
    took = time.monotonic() - begin
    check(1.3 < took < 2.9, f"closed after {took:.2f} s")


@row(v="345", s4="3.1.2-24", s5="3.1.2-22", phase="timed")
async def keep_alive_0_never_closes(t):
    conn = await t.connect(keep_alive=0)
    await conn.quiet(4)


@row(v="5", profile="times", s5="3.1.2-21 3.2.2-21 3.1.2-22", phase="timed")
async def server_keep_alive(t):
    """server_keep_alive is 2 s here: told in CONNACK to a client that asked for more or for none, and kept."""
    for asked in (60, 0):
        conn = await t.connect(f"c{asked}", keep_alive=asked)
        check(conn.connack.properties.get("server_keep_alive") == 2, conn.connack)
        begin = time.monotonic()
        await conn.expect_end(0x8D)
        took = time.monotonic() - begin
        check(2.8 < took < 4.2, f"closed after {took:.2f} s")


@row(v="5", profile="times", s5="3.2.2-22", phase="timed")
async def server_keep_alive_is_a_cap(t):
    """A client that asks for less keeps its own value."""
    conn = await t.connect(keep_alive=1)
    check("server_keep_alive" not in conn.connack.properties, conn.connack)
    begin = time.monotonic()
    await conn.expect_end(0x8D)
    check(1.3 < time.monotonic() - begin < 2.9, "not its own value")


@row(v="34", profile="times", s4="3.1.2-24", phase="timed")
async def server_keep_alive_does_not_touch_3x(t):
    """3.x cannot be told: its own value holds and it is not refused."""
    conn = await t.connect(keep_alive=60)
    await conn.quiet(4)


@row(v="345", s4="3.1.2-24", s5="3.1.2-22", phase="timed")
async def half_a_packet_does_not_count(t):
    """A client that stops in the middle of a packet is closed as a silent one is."""
    conn = await t.connect(keep_alive=1)
    conn.send(wire.publish(t.topic(), bytes(100), v=t.v)[:20])
    begin = time.monotonic()
    await conn.expect_end(0x8D)
    check(1.3 < time.monotonic() - begin < 2.9, "not in time")
