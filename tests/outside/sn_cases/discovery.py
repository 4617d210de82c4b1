"""ADVERTISE, SEARCHGW, GWINFO (section 6.1), IPv6, several listeners, two processes on one machine."""

import signal
import socket
import struct

import sn_client as sn
from harness import case, check, listener, running
from exact import sn_port


@case("6.1-3")
def each_listener_answers_searchgw_as_itself(t):
    for name in ("default", "small", "open"):
        answer = t.stranger(name).ask(sn.searchgw())
        check(answer.type == sn.GWINFO, answer)


@case("6.1-3", "6.12-3")
def searchgw_is_answered_at_a_limited_rate(t):
    strangers = [t.stranger(host=201) for _ in range(4)]
    for _ in range(25):
        for one in strangers:
            one.send(sn.searchgw())
    answers = sum(len(one.all(0.3)) for one in strangers)
    check(1 <= answers <= 40, f"{answers} answers to 100 datagrams")


@case("6.1-1", profile="own")
def the_default_duration_is_900(t):
    """And the first one goes out when the gateway starts."""
    hears = sn.multicast_socket("239.77.2.1", sn_port())
    port = hears.getsockname()[1]
    with running(t.binary, listener("default", f'multicast = ["239.77.2.1:{port}"]\n')):
        heard = sn.listen(hears, sn.ADVERTISE, 2)
    hears.close()
    check([(one.gw_id, one.duration) for one in heard] == [(1, 900)], heard)


@case("6.1-2", profile="own", slow=True)
def no_advertise_after_the_end(t):
    hears = sn.multicast_socket("239.77.2.2", sn_port())
    port = hears.getsockname()[1]
    settings = f'advertise_interval = "1s"\nmulticast = ["239.77.2.2:{port}"]\n'
    with running(t.binary, listener("default", settings)) as broker:
        check(sn.listen(hears, sn.ADVERTISE, 1.5), "no ADVERTISE")
        broker.process.send_signal(signal.SIGTERM)
        broker.process.wait(10)
        sn.listen(hears, sn.ADVERTISE, 0.1)
        check(not sn.listen(hears, sn.ADVERTISE, 1.5), "ADVERTISE of a node that is gone")
    hears.close()


@case("6.1-1", "6.1-3", profile="own", slow=True)
def discovery_by_ipv6(t):
    group, port = "ff15::4d51", sn_port()
    settings = f'gateway_id = 6\nadvertise_interval = "1s"\nmulticast = ["[{group}]:{port}"]\n'
    with running(t.binary, listener("default", settings, bind=f"[::]:{port}")):
        hears = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        hears.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        hears.bind((group, port))
        membership = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", 0)
        hears.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
        check(sn.listen(hears, sn.ADVERTISE, 1.5), "no ADVERTISE")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asker:
            asker.sendto(sn.searchgw(1), (group, port))
            heard = sn.listen(hears, sn.GWINFO, 1.0)
        check([one.gw_id for one in heard] == [6], heard)
        hears.close()


@case("6.2-1", profile="own")
def a_client_over_ipv6(t):
    with running(t.binary, listener("default", "", bind="[::1]:0")) as broker:
        c = t.client(broker=broker)
        c.connect(clean=False)
        c.subscribe(t.topic(), qos=1)
        t.mqtt(broker=broker).publish(t.topic(), b"six", 1)
        got = c.receive()
        check(got is not None and got.data == b"six", got)


@case("6.2-1", profile="own")
def the_answer_leaves_from_the_address_that_was_asked(t):
    """Bound to all addresses; asked on 127.0.5.5, answered from there."""
    with running(t.binary, listener("default", "", bind="0.0.0.0:0")) as broker:
        _, port = t.gateway(broker=broker)
        for host in ("127.0.0.1", "127.0.5.5"):
            c = sn.Client(host, port, t.id("c") + host[-1], bind=("127.0.0.1", 0))
            t.open.append(c)
            c.connect()
            check(c.received(sn.CONNACK)[0].source[0] == host, c.received(sn.CONNACK)[0])
