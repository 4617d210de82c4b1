"""Flow control: receive maximum both ways, the window towards 3.x clients, slow and silent readers."""

import asyncio

import wire
from rows import check, row


@row(v="5", s5="3.3.4-9 4.9.0-1 4.9.0-2")
async def receive_maximum_of_the_client(t):
    """Never more unacknowledged deliveries than the client allows; each acknowledgement lets one more through."""
    sub = await t.connect("sub", properties={"receive_maximum": 3})
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    for i in range(9):
        await pub.publish(t.topic(), b"%d" % i, 1 + i % 2)
    window = [await sub.message(ack=False) for _ in range(3)]
    await sub.quiet()
    for i in range(3, 9):
        packet = window.pop(0)
        await sub_ack_and_next(sub, packet, window, i)
    await sub.quiet()


async def sub_ack_and_next(sub, packet, window, i):
    if packet.qos == 1:
        sub.send(wire.ack(wire.PUBACK, packet.pid))
    else:
        sub.send(wire.ack(wire.PUBREC, packet.pid))
        await sub.expect(wire.PUBREL, pid=packet.pid, rc=0)
        await sub.quiet(0.05)
        sub.send(wire.ack(wire.PUBCOMP, packet.pid))
    window.append(await sub.message(payload=b"%d" % i, ack=False))


@row(v="5", s5="3.3.4-10 4.9.0-3")
async def other_packets_pass_a_full_window(t):
    """QoS 0, SUBACK, PINGRESP, acknowledgements of the own publishes: none waits for the window."""
    sub = await t.connect("sub", properties={"receive_maximum": 1})
    await sub.subscribe((t.topic("q1"), 1), (t.topic("q0"), 0))
    pub = await t.connect("pub")
    for i in range(3):
        await pub.publish(t.topic("q1"), b"%d" % i, 1)
    held = await sub.message(t.topic("q1"), b"0", ack=False)
    await pub.publish(t.topic("q0"), b"passes")
    await sub.message(t.topic("q0"), b"passes")
    await sub.ping()
    await sub.subscribe(t.topic("more"))
    await sub.publish(t.topic("else"), b"x", 1)
    await sub.publish(t.topic("else"), b"x", 2)
    await sub.unsubscribe(t.topic("more"))
    await sub.acknowledge(held)
    await sub.message(t.topic("q1"), b"1")


@row(v="5", s5="4.9.0-1 4.4.0-1")
async def receive_maximum_after_a_reconnect(t):
    """The new connection's value counts, for what is sent again too."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    for i in range(5):
        await pub.publish(t.topic(), b"%d" % i, 1)
    for _ in range(5):
        await sub.message(ack=False)
    await sub.drop()
    sub = await t.keeper("sub", present=True, properties={"receive_maximum": 2})
    window = [await sub.message(payload=b"%d" % i, dup=True, ack=False) for i in range(2)]
    await sub.quiet()
    for i in range(2, 5):
        await sub.acknowledge(window.pop(0))
        window.append(await sub.message(payload=b"%d" % i, dup=None, ack=False))


@row(v="345", profile="small")
async def max_inflight_bounds_the_window(t):
    """max_inflight is 3 here, for a 5.0 client that allows 65,535 and for 3.x."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    for i in range(6):
        await pub.publish(t.topic(), b"%d" % i, 1)
    window = [await sub.message(ack=False) for _ in range(3)]
    await sub.quiet()
    for packet in window:
        await sub.acknowledge(packet)
    for i in range(3, 6):
        await sub.message(payload=b"%d" % i)


@row(v="5", profile="small", s5="3.3.4-7")
async def receive_maximum_of_the_server(t):
    """receive_maximum is 5 here: told in CONNACK."""
    conn = await t.connect()
    check(conn.connack.properties.get("receive_maximum") == 5, conn.connack)


@row(v="5", s5="3.3.4-7")
async def receive_maximum_exceeded(t):
    """One exchange more than announced: DISCONNECT 0x93."""
    conn = await t.connect()
    top = conn.connack.properties["receive_maximum"]
    for pid in range(1, top + 1):
        conn.post(t.topic(), b"x", 2, pid)
        await conn.expect(wire.PUBREC, pid=pid)
    await conn.ping()
    conn.post(t.topic(), b"x", 2, top + 1)
    await conn.expect_end(0x93)


@row(v="5", s5="3.3.4-7")
async def completed_exchanges_give_their_place_back(t):
    conn = await t.connect()
    for _ in range(300):
        await conn.publish(t.topic(), b"x", 2)
    await conn.ping()


@row(v="345", profile="small")
async def max_awaiting_rel(t):
    """5 here, as the receive maximum: one more QoS 2 exchange without PUBREL is 0x93, in 3.x a close."""
    conn = await t.connect()
    for pid in range(1, 6):
        conn.post(t.topic(), b"x", 2, pid)
        await conn.expect(wire.PUBREC, pid=pid)
    conn.post(t.topic(), b"x", 2, 9)
    await conn.expect_end(0x93)


@row(v="45", limit=60)
async def a_reader_that_stops_holds_up_no_one_else(t):
    """One subscriber reads nothing; QoS 0 and 1 keep flowing to another."""
    stuck, live = await t.connect("stuck"), await t.connect("live")
    await stuck.subscribe(t.topic(), qos=0)
    await live.subscribe(t.topic(), qos=1)
    stuck.writer.transport.pause_reading()
    pub = await t.connect("pub")
    payload = bytes(20000)
    for i in range(400):
        pub.post(t.topic(), b"%d " % i + payload, 0)
        packet = await live.message(ack=False)
        check(packet.payload.startswith(b"%d " % i), "lost for the reading one")
    await pub.publish(t.topic(), b"end", 1)
    await live.message(t.topic(), b"end", 1)


@row(v="5", profile="reject", limit=60, phase="timed")
async def queue_policy_reject(t):
    """max_queue_len is 5 here: the publisher into a full queue of an absent session is told 0x97."""
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1)
    await sub.disconnect()
    pub = await t.connect("pub")
    outcomes = []
    for i in range(8):
        pid = pub.post(t.topic(), b"%d" % i, 1)
        outcomes.append((await pub.expect(wire.PUBACK, 10, pid=pid)).rc)
    check(outcomes == [0] * 5 + [0x97] * 3, [hex(o) for o in outcomes])
    sub = await t.keeper("sub", present=True)
    for i in range(5):
        await sub.message(payload=b"%d" % i)
    await sub.quiet()


@row(v="5", profile="reject", limit=60, phase="timed")
async def backpressure_before_loss(t):
    """A connected receiver whose queue is full slows its publisher down for a while before anything is lost:
    what it reads within backpressure_timeout arrives whole."""
    sub = await t.connect("sub", properties={"receive_maximum": 1})
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    for i in range(12):
        pub.post(t.topic(), b"%d" % i, 1)
    for i in range(12):
        packet = await sub.message(payload=b"%d" % i, ack=False)
        await asyncio.sleep(0.02)
        sub.send(wire.ack(wire.PUBACK, packet.pid))
    for _ in range(12):
        await pub.expect(wire.PUBACK, rc=0)


@row(v="45", profile="reject", limit=60, phase="timed")
async def a_silent_receiver_costs_its_publisher_a_bounded_time(t):
    """It never acknowledges: its queue (5 here) fills, the publisher waits at most backpressure_timeout (1 s) for each
    stall, and then the policy decides. Everything is answered."""
    stuck = await t.connect("stuck")
    await stuck.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    begin = asyncio.get_running_loop().time()
    for i in range(60):
        pub.post(t.topic(), b"%d" % i, 1)
    codes = [(await pub.expect(wire.PUBACK, 20)).rc for _ in range(60)]
    took = asyncio.get_running_loop().time() - begin
    check(codes[0] == 0, f"the first: {codes[0]:#x}")
    if t.v == 5:
        check(0x97 in codes, "nothing was refused although the queue is full")
    check(took < 12, f"{took:.1f} s")
    await pub.ping()


@row(v="45")
async def qos_0_to_a_full_queue_holds_up_nobody(t):
    """Dropped at once: the publisher is answered without delay."""
    stuck = await t.connect("stuck")
    await stuck.subscribe(t.topic(), qos=0)
    stuck.writer.transport.pause_reading()
    pub = await t.connect("pub")
    payload = bytes(4000)
    for _ in range(5000):
        pub.post(t.topic(), payload)
    await pub.writer.drain()
    begin = asyncio.get_running_loop().time()
    await pub.ping()
    check(asyncio.get_running_loop().time() - begin < 4, "the publisher was held up")
