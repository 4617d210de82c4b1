"""Datagrams of any content and size: counted, never a panic, never a state change, no answer longer than the question."""

import random

import sn_client as sn
from harness import case, check, receives


def seeds():
    """One good datagram of each kind that a client may send, to be spoiled."""
    will = sn.Will("w", b"m")
    return [sn.connect("m"), sn.connect("m", will=True), sn.will_topic(will), sn.pack(sn.WILLMSG, b"m"),
            sn.register("a/b", 1), sn.publish(1, b"x"), sn.publish(1, b"x", qos=1, msg_id=1),
            sn.publish(sn.Predefined(1), b"x", qos=2, msg_id=1), sn.subscribe("a/#", 1), sn.subscribe(sn.Short(b"ab"), 1),
            sn.unsubscribe("a/#", 1), sn.pingreq(), sn.pingreq("m"), sn.disconnect(), sn.disconnect(5),
            sn.ack(sn.PUBACK, 1, 1, 0), sn.ack(sn.REGACK, 1, 1, 0), sn.with_msg_id(sn.PUBREC, 1), sn.searchgw(),
            sn.will_topic(will, sn.WILLTOPICUPD), sn.pack(sn.WILLMSGUPD, b"m"), sn.encapsulate(b"n", sn.pingreq())]


def cut_and_longer():
    """Each seed cut at each place and longer by one: of another length than it says."""
    for seed in seeds():
        for end in range(len(seed)):
            yield seed[:end]
        yield seed + b"\0"


def spoiled(dice, count):
    """Seeds with octets changed, and noise."""
    for _ in range(count):
        datagram = bytearray(dice.choice(seeds()) if dice.random() < 0.7 else dice.randbytes(dice.randrange(0, 64)))
        for _ in range(dice.randrange(0, 3)):
            if datagram:
                datagram[dice.randrange(len(datagram))] = dice.randrange(256)
        # It must not end the client that watches.
        if bytes(datagram) not in seeds():
            yield bytes(datagram)


@case("5.2.1-4", slow=True)
def no_answer_to_a_stranger_is_longer_than_what_came(t):
    """Each from a socket of its own, in turn: what comes back belongs to it."""
    dice = random.Random(t.number)
    for i, datagram in enumerate([*cut_and_longer(), *spoiled(dice, 400)]):
        stranger = t.stranger(host=2 + i % 250)
        stranger.send(datagram)
        answer = stranger.receive(0.004)
        stranger.close()
        kind = datagram[1] if len(datagram) > 1 and datagram[0] != 1 else None
        # CONNECT of a stranger is answered by 2 or 3 octets, SEARCHGW of 3 by 3.
        check(answer is None or len(answer) <= len(datagram), f"{answer!r} to {datagram!r} ({kind})")


@case("5.2.1-4", slow=True)
def every_size_of_datagram_is_taken(t):
    """Noise from 0 to 65,507 octets, between messages of a client that goes on."""
    dice = random.Random(t.number)
    c, m = t.connected(), t.mqtt()
    c.subscribe(t.topic(), qos=1)
    stranger = t.stranger(host=3)
    for size in [*range(0, 70), *(dice.randrange(70, 65507) for _ in range(60)), 255, 256, 257, 65507]:
        noise = dice.randbytes(size)
        c.send_raw(bytes([0, 0xFF]) + noise[2:])
        stranger.send(noise)
    stranger.all(0.05)
    m.publish(t.topic(), b"fine", 1)
    receives(c, t.topic(), b"fine")


@case("5.2.1-4", slow=True)
def what_is_spoiled_changes_nothing_of_the_client_it_comes_from(t):
    """Cut and longer ones are malformed whatever they say: no answer, no change, however many."""
    c, m = t.connected(clean=True), t.mqtt()
    c.subscribe(t.topic(), qos=1)
    topic_id = c.register(t.topic("up"))
    for datagram in cut_and_longer():
        # A cut encapsulation holds a shorter message, and a cut text may be a text.
        try:
            sn.decode(datagram)
        except sn.MqttSnError:
            if datagram[1:2] != b"\xfe":
                c.send_raw(datagram)
    check(c.next_message(0.4) is None, "an answer")
    m.publish(t.topic(), b"fine", 1)
    receives(c, t.topic(), b"fine")
    c.publish(topic_id, b"fine", qos=1)


@case("5.2.1-4", profile="sn")
def malformed_datagrams_are_counted(t):
    before = sum_of(t, "malformed")
    stranger = t.stranger()
    for _ in range(50):
        stranger.send(b"\x05\x18\x00")
    check(stranger.receive() is None, "an answer")
    counted = sum_of(t, "malformed") - before
    check(counted >= 50, f"{counted} of 50 counted")


def sum_of(t, word):
    """All counters whose name or labels hold the word, added up."""
    return sum(value for name, value in t.counters().items() if word in name)


@case("5.3.12-1", "5.3.14-1")
def text_that_is_not_utf_8_changes_nothing(t):
    c = t.connected()
    c.send(sn.pack(sn.REGISTER, b"\0\0\0\x07\xff\xfe"))
    c.send(sn.pack(sn.SUBSCRIBE, b"\x20\0\x07\xc3\x28"))
    c.send(sn.pack(sn.WILLTOPICUPD, b"\x00\xff"))
    check(c.next_message(0.4) is None, "an answer")
    c.ping()


@case("5.2.1-1")
def the_long_length_form_of_short_messages(t):
    c, watch = t.client(), t.watcher(t.topic())
    c.send(sn.pack(sn.CONNECT, b"\x04\x01\x00\x3c" + t.id("c").encode(), long_form=True))
    check(c.next_message(5).type == sn.CONNACK, "CONNACK")
    c.state = "active"
    topic_id = c.register(t.topic())
    c.send(sn.pack(sn.PUBLISH, b"\x20" + topic_id.to_bytes(2, "big") + b"\0\x09long", long_form=True))
    check(c.next_message(5).type == sn.PUBACK, "PUBACK")
    watch.expect(t.topic(), b"long")
