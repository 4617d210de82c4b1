"""Properties of PUBLISH on their way, and what a client may ask the server to leave out."""

import wire
from rows import check, row

GIVEN = {
    "payload_format": 1,
    "content_type": "application/json; charset=\u00fctf",
    "response_topic": "answers/to/me",
    "correlation_data": bytes(range(256)),
    "user_property": [("z", "1"), ("a", "2"), ("z", "1"), ("", ""), ("\u00e9", "\U0001F321")],
}


@row(v="5", s5="3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20 3.3.2-13 3.3.2-19")
async def reach_subscribers_unaltered(t):
    """User properties in their order, repeated ones too; at each QoS."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic(), qos=2)
    pub = await t.connect("pub")
    for qos in (0, 1, 2):
        await pub.publish(t.topic(), b"{}", qos, properties=GIVEN)
        got = (await sub.message(t.topic(), b"{}", qos)).properties
        check(got == GIVEN, got)


@row(v="5", s5="3.3.2-4 3.3.2-17")
async def reach_an_absent_session_unaltered(t):
    sub = await t.keeper("sub")
    await sub.subscribe(t.topic(), qos=1)
    await sub.disconnect()
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1, properties=GIVEN)
    sub = await t.keeper("sub", present=True)
    check((await sub.message(t.topic(), b"x")).properties == GIVEN, "altered")


@row(v="5", s5="3.3.2-4")
async def payload_format_0_is_passed_or_left_out(t):
    """0 says the same as its absence."""
    sub = await t.connect("sub")
    await sub.subscribe(t.topic())
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"\xff", properties={"payload_format": 0})
    check((await sub.message(t.topic(), b"\xff")).properties.get("payload_format", 0) == 0, "changed")


@row(v="5")
async def none_for_3x_subscribers(t):
    """A 3.1.1 subscriber gets the same message without properties, well formed (the parser checks)."""
    sub = await t.connect("sub", v=4)
    await sub.subscribe(t.topic(), qos=1)
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", 1, properties=GIVEN)
    await sub.message(t.topic(), b"x", 1)


@row(v="5")
async def many_user_properties(t):
    sub = await t.connect("sub")
    await sub.subscribe(t.topic())
    pub = await t.connect("pub")
    pairs = [(f"key{i % 7}", f"value {i}") for i in range(1000)]
    await pub.publish(t.topic(), b"x", properties={"user_property": pairs})
    got = (await sub.message(t.topic(), b"x")).properties["user_property"]
    check(got == pairs, f"{len(got)} of 1000 user properties, or another order")


@row(v="5", s5="3.1.2-29")
async def problem_information_declined(t):
    """With Request Problem Information 0 no reason string or user property comes in any packet but
    CONNACK, PUBLISH and DISCONNECT."""
    conn = await t.connect(properties={"request_problem_info": 0})
    pid = conn.post("$SYS/forged", b"x", 1)
    answers = [await conn.expect(wire.PUBACK, pid=pid)]
    conn.send(wire.subscribe(5, [("a/#/b", 0)]))
    answers.append(await conn.recv())
    conn.send(wire.unsubscribe(6, ["never"]))
    if answers[-1].kind == wire.SUBACK:
        answers.append(await conn.expect(wire.UNSUBACK, pid=6))
        conn.send(wire.ack(wire.PUBREL, 99))
        answers.append(await conn.expect(wire.PUBCOMP, pid=99))
    for packet in answers:
        told = {"reason_string", "user_property"} & set(packet.properties)
        check(packet.kind == wire.DISCONNECT or not told, packet)


@row(v="5", s5="3.1.2-29")
async def user_properties_of_messages_come_all_the_same(t):
    sub = await t.connect("sub", properties={"request_problem_info": 0})
    await sub.subscribe(t.topic())
    pub = await t.connect("pub")
    await pub.publish(t.topic(), b"x", properties={"user_property": [("a", "b")]})
    check((await sub.message(t.topic())).properties.get("user_property") == [("a", "b")], "left out")


@row(v="5", s5="3.3.2-15 3.3.2-16")
async def request_and_response(t):
    """The round trip of the standard's section 4.10."""
    asker, server = await t.connect("asker"), await t.connect("server")
    await server.subscribe(t.topic("request"), qos=1)
    await asker.subscribe(t.topic("answer"), qos=1)
    await asker.publish(t.topic("request"), b"?", 1,
                        properties={"response_topic": t.topic("answer"), "correlation_data": b"17"})
    request = await server.message(t.topic("request"), b"?")
    await server.publish(request.properties["response_topic"], b"!", 1,
                         properties={"correlation_data": request.properties["correlation_data"]})
    answer = await asker.message(t.topic("answer"), b"!")
    check(answer.properties["correlation_data"] == b"17", answer)
