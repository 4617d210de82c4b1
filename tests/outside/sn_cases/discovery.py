"""ADVERTISE, SEARCHGW, GWINFO (section 6.1), IPv6, several listeners, two processes on one machine."""

import contextlib
import signal
import socket
import struct
import time

import sn_client as sn
from harness import Failed, case, check, listener, running
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
    group = ("239.77.2.1", sn_port())
    ear = sn.multicast_socket(*group)
    with running(t.binary, listener("default", f'multicast = ["{group[0]}:{group[1]}"]\n')):
        heard = sn.listen(ear, sn.ADVERTISE, 2)
    ear.close()
    check([(one.gw_id, one.duration) for one in heard] == [(1, 900)], heard)


@case("6.1-2", profile="own", slow=True)
def no_advertise_after_the_end(t):
    group = ("239.77.2.2", sn_port())
    ear = sn.multicast_socket(*group)
    settings = f'advertise_interval = "1s"\nmulticast = ["{group[0]}:{group[1]}"]\n'
    with running(t.binary, listener("default", settings)) as broker:
        check(sn.listen(ear, sn.ADVERTISE, 1.5), "no ADVERTISE")
        broker.process.send_signal(signal.SIGTERM)
        broker.process.wait(10)
        sn.listen(ear, sn.ADVERTISE, 0.1)
        check(not sn.listen(ear, sn.ADVERTISE, 1.5), "ADVERTISE of a node that is gone")
    ear.close()


@case("6.1-1", profile="own", slow=True)
def advertise_by_ipv6(t):
    if not socket.has_ipv6 or not ipv6_multicast():
        raise Failed("this machine has no IPv6 multicast on loopback")
    port = sn_port()
    ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.bind(("::", port))
    loopback = socket.if_nametoindex("lo")
    ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                   socket.inet_pton(socket.AF_INET6, "ff11::77") + struct.pack("@I", loopback))
    settings = f'advertise_interval = "1s"\nmulticast = ["[ff11::77]:{port}"]\n'
    with running(t.binary, listener("default", settings, bind="[::1]:0")):
        heard = sn.listen(ear, sn.ADVERTISE, 2.5)
    ear.close()
    check(heard, "no ADVERTISE")


def ipv6_multicast():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.bind(("::1", 0))
        return True
    return False


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


@case("6.1-3", profile="own", slow=True)
def two_processes_one_group_one_gwinfo_each(t):
    """Two nodes of one machine in one group, each with its own port: each answers once."""
    group = ("239.77.2.3", sn_port())
    ear = sn.multicast_socket(*group)
    settings = 'gateway_id = {}\nadvertise_interval = "off"\nmulticast = ["%s:%d"]\n' % group
    with running(t.binary, listener("default", settings.format(1))), \
            running(t.binary, listener("default", settings.format(2))):
        time.sleep(0.3)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            asker.sendto(sn.searchgw(1), group)
            heard = sn.listen(ear, sn.GWINFO, 1.5)
    ear.close()
    check(sorted(one.gw_id for one in heard) == [1, 2], heard)
