#!/usr/bin/env python3
"""Self-test of sn_client.py: its bytes against the standard's tables, its procedures against a scripted gateway."""

import socket
import threading
import unittest

import sn_client as sn
from sn_client import Predefined, Short, Will


class Bytes(unittest.TestCase):
    def test_encoding(self):
        will = Will("w", b"", qos=1, retain=True)
        table = [
            (sn.searchgw(), "030100"),
            (sn.searchgw(3), "030103"),
            (sn.connect("s1"), "080404 01003c 7331"),
            (sn.connect("s1", clean=False, will=True, duration=0x1234), "080408 011234 7331"),
            (sn.connect("s1", clean=True, will=True), "08040c 01003c 7331"),
            (sn.will_topic(will), "040730 77"),
            (sn.will_topic(None), "0207"),
            (sn.will_topic(will, sn.WILLTOPICUPD), "041a30 77"),
            (sn.will_topic(None, sn.WILLTOPICUPD), "021a"),
            (sn.pack(sn.WILLMSG, b"gone"), "0609 676f6e65"),
            (sn.pack(sn.WILLMSGUPD, b"gone"), "061c 676f6e65"),
            (sn.register("a/b", 0x1234), "090a 0000 1234 612f62"),
            (sn.ack(sn.REGACK, 5, 6, 0), "070b 0005 0006 00"),
            (sn.ack(sn.PUBACK, 5, 6, 2), "070d 0005 0006 02"),
            (sn.publish(0x0102, b"hi"), "090c00 0102 0000 6869"),
            (sn.publish(0x0102, b"hi", qos=1, msg_id=7), "090c20 0102 0007 6869"),
            (sn.publish(0x0102, b"", qos=2, msg_id=7, dup=True, retain=True), "070cd0 0102 0007"),
            (sn.publish(Predefined(7), b"x", qos=-1), "080c61 0007 0000 78"),
            (sn.publish(Short(b"te"), b"x"), "080c02 7465 0000 78"),
            (sn.with_msg_id(sn.PUBREC, 7), "040f 0007"),
            (sn.with_msg_id(sn.PUBREL, 7), "0410 0007"),
            (sn.with_msg_id(sn.PUBCOMP, 7), "040e 0007"),
            (sn.subscribe("+/#", 1, qos=2), "081240 0001 2b2f23"),
            (sn.subscribe("a", 1, qos=1, dup=True), "0612a0 0001 61"),
            (sn.subscribe(Predefined(7), 1), "071201 0001 0007"),
            (sn.subscribe(Short(b"te"), 1), "071202 0001 7465"),
            (sn.unsubscribe("a", 1), "061400 0001 61"),
            (sn.unsubscribe(Predefined(7), 1), "071401 0001 0007"),
            (sn.unsubscribe(Short(b"te"), 1), "071402 0001 7465"),
            (sn.pingreq(), "0216"),
            (sn.pingreq("s1"), "0416 7331"),
            (sn.pack(sn.PINGRESP), "0217"),
            (sn.disconnect(), "0218"),
            (sn.disconnect(3600), "0418 0e10"),
            (sn.encapsulate(b"\xab\xcd", sn.pingreq(), radius=1), "05fe01 abcd 0216"),
            (sn.pack(sn.PINGRESP, long_form=True), "010004 17"),
        ]
        for got, expected in table:
            self.assertEqual(got, bytes.fromhex(expected))

    def test_the_length_field_grows_at_256_octets(self):
        self.assertEqual(sn.pack(sn.WILLMSG, bytes(253))[:2], b"\xff\x09")
        self.assertEqual(sn.pack(sn.WILLMSG, bytes(254))[:4], b"\x01\x01\x02\x09")
        self.assertEqual(len(sn.pack(sn.WILLMSG, bytes(65531))), 65535)
        self.assertRaises(sn.MqttSnError, sn.pack, sn.WILLMSG, bytes(65532))

    def test_decoding_in_both_length_forms(self):
        table = [
            ("0500 09 0384", sn.ADVERTISE, {"gw_id": 9, "duration": 900}),
            ("0302 09", sn.GWINFO, {"gw_id": 9, "gw_add": b""}),
            ("0502 09 7f01", sn.GWINFO, {"gw_id": 9, "gw_add": b"\x7f\x01"}),
            ("0305 01", sn.CONNACK, {"code": 1}),
            ("0206", sn.WILLTOPICREQ, {}),
            ("0208", sn.WILLMSGREQ, {}),
            ("090a 0005 0006 612f62", sn.REGISTER, {"topic_id": 5, "msg_id": 6, "topic_name": "a/b"}),
            ("070b 0005 0006 03", sn.REGACK, {"topic_id": 5, "msg_id": 6, "code": 3}),
            ("070d 0005 0006 02", sn.PUBACK, {"topic_id": 5, "msg_id": 6, "code": 2}),
            ("040f 0007", sn.PUBREC, {"msg_id": 7}),
            ("0410 0007", sn.PUBREL, {"msg_id": 7}),
            ("040e 0007", sn.PUBCOMP, {"msg_id": 7}),
            ("0813 40 0005 0006 00", sn.SUBACK, {"qos": 2, "topic_id": 5, "msg_id": 6, "code": 0}),
            ("0415 0007", sn.UNSUBACK, {"msg_id": 7}),
            ("0216", sn.PINGREQ, {"client_id": ""}),
            ("0217", sn.PINGRESP, {}),
            ("0218", sn.DISCONNECT, {"duration": None}),
            ("031b 00", sn.WILLTOPICRESP, {"code": 0}),
            ("031d 03", sn.WILLMSGRESP, {"code": 3}),
        ]
        for text, msg_type, fields in table:
            short = bytes.fromhex(text)
            long_form = bytes([1, 0, short[0] + 2]) + short[1:]
            for datagram in (short, long_form):
                message = sn.decode(datagram)
                self.assertEqual((message.type, message.fields), (msg_type, fields))
        published = sn.decode(bytes.fromhex("080cf2 7465 0007 78"))
        self.assertEqual((published.topic, published.qos), (Short(b"te"), -1))
        self.assertEqual((published.dup, published.retain, published.msg_id), (True, True, 7))
        self.assertEqual(sn.decode(bytes.fromhex("070c01 0007 0000")).topic, Predefined(7))

    def test_malformed_datagrams_are_refused(self):
        for text in ["", "02", "0317", "021700", "0103", "040500 00", "0318 00", "070c03 0001 0000", "0203", "0204", "060a 0000 00"]:
            self.assertRaises(sn.MqttSnError, sn.decode, bytes.fromhex(text))

    def test_encapsulation(self):
        self.assertEqual(sn.decapsulate(bytes.fromhex("05fe02 abcd 0217")), (b"\xab\xcd", 2, b"\x02\x17"))
        for text in ["0217", "02fe", "06fe00 abcd"]:
            self.assertRaises(sn.MqttSnError, sn.decapsulate, bytes.fromhex(text))


class Scripted:
    """A gateway that follows a script of (datagram it expects, datagrams it answers); `None` expects anything."""

    def __init__(self, script):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.port = self.socket.getsockname()[1]
        self.problems = []
        self.thread = threading.Thread(target=self._run, args=(script,), daemon=True)
        self.thread.start()

    def _run(self, script):
        try:
            for expected, answers in script:
                got, client = self.socket.recvfrom(65535)
                if expected is not None and got != bytes.fromhex(expected):
                    self.problems.append(f"expected {expected}, got {got.hex()}")
                for answer in answers:
                    self.socket.sendto(bytes.fromhex(answer), client)
        except OSError as error:
            self.problems.append(str(error))

    def done(self, test):
        self.thread.join(6)
        self.socket.close()
        test.assertEqual(self.problems, [])


class Procedures(unittest.TestCase):
    def start(self, script, **options):
        gateway = Scripted(script)
        client = sn.Client("127.0.0.1", gateway.port, "s1", t_retry=0.4, **options)
        client._msg_id = 0x0F
        self.addCleanup(client.close)
        return gateway, client

    def test_connect_with_will_repeats_each_step_that_stays_without_answer(self):
        gateway, client = self.start(
            [
                ("080408 01003c 7331", []),
                ("080408 01003c 7331", ["0206"]),
                ("030700", []),
                ("030700", ["0208"]),
                ("0609 676f6e65", []),
                ("0609 676f6e65", ["030500"]),
            ]
        )
        client.connect(clean=False, will=Will("", b"gone"))
        gateway.done(self)
        self.assertEqual(client.state, "active")

    def test_connect_refused(self):
        gateway, client = self.start([(None, ["030503"])])
        with self.assertRaises(sn.Refused) as refused:
            client.connect()
        self.assertEqual(refused.exception.code, sn.NOT_SUPPORTED)
        gateway.done(self)

    def test_publish_registers_first_and_sets_dup_on_repeats_only(self):
        gateway, client = self.start(
            [
                ("090a 0000 0010 612f62", ["070b 0005 0010 00"]),
                ("080c40 0005 0011 78", []),
                ("080cc0 0005 0011 78", ["040f 0011"]),
                ("0410 0011", []),
                ("0410 0011", ["040e 0011"]),
                ("080c20 0005 0012 79", ["070d 0005 0012 00"]),
                ("080c00 0005 0000 7a", []),
                ("080c61 0007 0000 7a", []),
            ]
        )
        client.publish("a/b", b"x", qos=2)
        client.publish("a/b", b"y", qos=1)
        client.publish("a/b", b"z")
        client.publish(Predefined(7), b"z", qos=-1)
        gateway.done(self)

    def test_wildcard_subscription_takes_register_then_messages_once(self):
        gateway, client = self.start(
            [
                ("081220 0010 612f23", ["0813 20 0000 0010 00", "090a 0005 0001 612f62", "080c40 0005 0002 78"]),
                ("070b 0005 0001 00", []),
                ("040f 0002", ["080cc0 0005 0002 78"]),
                ("040f 0002", ["0410 0002"]),
                ("040e 0002", ["080c20 0006 0003 78"]),
                ("070d 0006 0003 02", []),
            ]
        )
        self.assertEqual(client.subscribe("a/#", qos=1).topic_id, 0)
        message = client.receive()
        self.assertEqual((message.topic, message.data, message.qos), ("a/b", b"x", 2))
        self.assertIsNone(client.receive(0.3))
        gateway.done(self)

    def test_sleep_and_wake(self):
        gateway, client = self.start(
            [
                ("0418 003c", ["0218"]),
                ("0416 7331", []),
                ("0416 7331", ["090a 0005 0001 612f62"]),
                ("070b 0005 0001 00", ["080c20 0005 0002 78"]),
                ("070d 0005 0002 00", ["0217"]),
            ]
        )
        client.sleep(60)
        self.assertEqual([m.data for m in client.wake()], [b"x"])
        self.assertEqual(client.state, "asleep")
        gateway.done(self)

    def test_will_updates_ping_unsubscribe_disconnect(self):
        gateway, client = self.start(
            [
                ("041a40 77", ["031b00"]),
                ("021a", ["031b00"]),
                ("041c 6279", ["031d00"]),
                ("0216", ["0216", "0217"]),
                ("0217", []),
                ("061400 0010 61", ["0415 0010"]),
                ("0218", ["0218"]),
            ]
        )
        client.update_will_topic(Will("w", b"", qos=2))
        client.update_will_topic(None)
        client.update_will_message(b"by")
        client.ping()
        client.unsubscribe("a")
        client.disconnect()
        gateway.done(self)

    def test_an_unasked_disconnect_ends_the_connection(self):
        gateway, client = self.start([("0216", ["0218"])])
        self.assertRaises(sn.Disconnected, client.ping)
        gateway.done(self)

    def test_behind_a_forwarder(self):
        gateway, client = self.start([("05fe00 abcd 0216", ["05fe00 abcd 0217"])], node_id=b"\xab\xcd")
        client.ping()
        gateway.done(self)

    def test_giving_up_after_n_retry(self):
        gateway, client = self.start([("0216", []), ("0216", []), ("0216", [])], n_retry=2)
        self.assertRaises(sn.Timeout, client.ping)
        gateway.done(self)

    def test_search_gateway(self):
        gateway, _ = self.start([("030100", ["0302 09"])])
        found = sn.search_gateway(("127.0.0.1", gateway.port), timeout=0.5)
        self.assertEqual([m.gw_id for m in found], [9])
        gateway.done(self)


def main():
    """Runs all of it; exit code 1 if something fails."""
    unittest.main(module="sn_client_selftest", argv=["sn_client"])


if __name__ == "__main__":
    main()
