"""A client is its client id, not its address (sections 4, 5.5, 6.14): roaming, policies of a listener, spoofing."""

import sn_client as sn
from harness import case, check, expect, quiet, receives, refused


def sleeper(t, listener, count=3, size=200):
    """A sleeper with so many messages waiting."""
    c = t.connected(listener=listener, clean=False)
    c.subscribe(t.topic(), qos=1)
    c.sleep(60)
    m = t.mqtt()
    for i in range(count):
        m.publish(t.topic(), b"%d" % i + bytes(size), 1)
    return c


def firsts(messages):
    return [one.data[:1] for one in messages]


@case("6.14-9")
def never_means_the_old_address_only(t):
    c = sleeper(t, "never")
    where = c.socket.getsockname()
    c.rebind((t.address(1), 0))
    c.send(sn.pingreq(t.id("c")))
    message = c.next_message(0.5)
    check(message is None or message.type == sn.DISCONNECT, message)
    c.rebind(where)
    check(firsts(c.wake()) == [b"0", b"1", b"2"], "the messages")


@case("6.14-9")
def same_ip_means_another_port(t):
    c = sleeper(t, "same_ip")
    thief = t.stranger("same_ip", host=9)
    thief.send(sn.pingreq(t.id("c")))
    check(all(sn.decode(d).type == sn.DISCONNECT for d in thief.all()), "the buffer went to another address")
    c.rebind((t.address(1), 0))
    check(firsts(c.wake()) == [b"0", b"1", b"2"], "the messages")


@case("6.14-9")
def same_prefix_means_another_host_of_the_network(t):
    c = sleeper(t, "same_prefix")
    c.rebind((t.address(9), 0))
    check(firsts(c.wake()) == [b"0", b"1", b"2"], "the messages")


@case("6.14-9")
def a_forged_pingreq_takes_nothing_from_the_client(t):
    """The address that did not answer does not become the client's."""
    c = sleeper(t, "default", size=400)
    thief = t.stranger(host=9)
    for _ in range(3):
        thief.send(sn.pingreq(t.id("c")))
    octets = sum(map(len, thief.all(1.0)))
    asked = 3 * len(sn.pingreq(t.id("c")))
    check(octets <= max(3 * asked, 420), f"{octets} octets for {asked}")
    check(firsts(c.wake()) == [b"0", b"1", b"2"], "the messages")


@case("6.14-9")
def a_wrong_answer_validates_nothing(t):
    c = sleeper(t, "default", size=400)
    thief = t.stranger(host=9)
    thief.send(sn.pingreq(t.id("c")))
    first = thief.receive(2)
    check(first is not None, "not one datagram")
    got = sn.decode(first)
    for guess in range(1, 4):
        thief.send(sn.ack(sn.PUBACK, got.fields.get("raw_topic", 1), (got.msg_id + guess) & 0xFFFF or 1, 0))
    check(all(sn.decode(d).fields.get("data", b"0")[:1] == b"0" for d in thief.all()), "the next message came")
    c.rebind((t.address(1), 0))
    check(firsts(c.wake()) == [b"0", b"1", b"2"], "the messages")


@case("6.14-9")
def msg_ids_do_not_begin_at_a_number_that_can_be_guessed(t):
    first = set()
    for i in range(6):
        c = t.connected(f"c{i}")
        c.subscribe(t.topic(str(i)), qos=1)
        t.mqtt(f"m{i}").publish(t.topic(str(i)), b"x", 1)
        first.add(expect(c, sn.PUBLISH).msg_id)
    check(len(first) >= 4 and 0 not in first, first)


@case("5.3.1-2")
def an_address_may_belong_to_another_client_later(t):
    """Two devices behind one NAT port, one after the other."""
    c = t.connected("a", clean=False)
    where = c.socket.getsockname()
    c.subscribe(t.topic("a"), qos=1)
    c.close()
    other = t.client("b", bind=where)
    other.connect()
    other.subscribe(t.topic("b"), qos=1)
    m = t.mqtt()
    m.publish(t.topic("a"), b"for a", 1)
    m.publish(t.topic("b"), b"for b", 1)
    got = other.receive()
    check(got is not None and got.data == b"for b", got)
    quiet(other)


@case("4-1", "5.5-5")
def a_client_moves_behind_a_forwarder_and_back(t):
    c = t.connected(clean=False)
    c.subscribe(t.topic(), qos=1)
    c.node_id = b"\x0a\x0b"
    c.rebind((t.address(1), 0))
    c.connect(clean=False, duration=61)
    m = t.mqtt()
    m.publish(t.topic(), b"wrapped", 1)
    receives(c, t.topic(), b"wrapped")
    c.ping()
    c.node_id = None
    c.rebind((t.address(1), 0))
    c.connect(clean=False, duration=62)
    m.publish(t.topic(), b"bare", 1)
    while (got := c.receive()) is not None and got.dup:
        pass  # its PUBACK may have been on the way to the disk
    check(got is not None and got.data == b"bare", got)


@case("5.5-5")
def sleep_and_wake_behind_a_forwarder(t):
    c = t.client(node_id=b"\x01\x02\x03")
    c.connect(clean=False)
    c.subscribe(t.topic("#"), qos=1)
    c.sleep(60)
    m = t.mqtt()
    for i in range(4):
        m.publish(t.topic(str(i)), b"%d" % i, i % 3)
    got = [(one.qos, one.data) for one in c.wake()]
    check(sorted(got) == [(0, b"0"), (0, b"3"), (1, b"1"), (1, b"2")], got)


@case("5.5-5", "5.2.1-5")
def the_encapsulation_counts_for_max_datagram(t):
    """60 with the wrapping of 3 + 8 octets: 42 of data fit behind the 7 of PUBLISH."""
    c, m = t.client(listener="small", node_id=bytes(range(8))), t.mqtt()
    c.connect()
    c.subscribe(sn.Short(b"ec"), qos=1)
    m.publish("ec", bytes(43), 1)
    m.publish("ec", b"z" * 42, 1)
    receives(c, sn.Short(b"ec"), b"z" * 42)


@case("5.5-5")
def an_empty_node_id_and_one_of_252_octets(t):
    for node in (b"", bytes(252)):
        c = t.client(f"n{len(node)}", node_id=node)
        c.connect()
        c.publish(t.topic(), b"x", qos=1)


@case("6.2-5")
def trusted_sources_only_where_it_says_so(t):
    refused(sn.NOT_SUPPORTED, t.client(listener="trusted").connect)
    t.client("d", listener="trusted", bind=("127.99.1.1", 0)).connect()
