"""A stand-in for MongoDB, because no registry has a server: OP_MSG and OP_QUERY, BSON, SCRAM-SHA-256, hello, insert and find.

It is true to the protocol as far as it goes: backends.py lets pymongo log in, write and read before it serves anything
else. Filters match by equality, and by $ne and $gt, so that a value which is taken for an operator would be seen.
"""

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
import threading

from kit import free_port

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
ITERATIONS = 4096


class Int64(int):
    """A number that is sent as eight bytes."""


# ---- BSON ----


def encode(document):
    out = b""
    for key, value in document.items():
        name = key.encode() + b"\0"
        if isinstance(value, bool):
            out += b"\x08" + name + (b"\1" if value else b"\0")
        elif isinstance(value, Int64):
            out += b"\x12" + name + struct.pack("<q", value)
        elif isinstance(value, int):
            out += b"\x10" + name + struct.pack("<i", value)
        elif isinstance(value, float):
            out += b"\x01" + name + struct.pack("<d", value)
        elif isinstance(value, str):
            text = value.encode() + b"\0"
            out += b"\x02" + name + struct.pack("<i", len(text)) + text
        elif isinstance(value, bytes):
            out += b"\x05" + name + struct.pack("<i", len(value)) + b"\0" + value
        elif isinstance(value, dict):
            out += b"\x03" + name + encode(value)
        elif isinstance(value, list):
            out += b"\x04" + name + encode({str(at): it for at, it in enumerate(value)})
        elif isinstance(value, tuple):
            kind, raw = value
            out += bytes([kind]) + name + raw
        elif value is None:
            out += b"\x0a" + name
        else:
            raise ValueError(type(value))
    return struct.pack("<i", len(out) + 5) + out + b"\0"


def decode(data, at=0):
    """The document at this place, and where it ends."""
    (size,) = struct.unpack_from("<i", data, at)
    end, at, document = at + size, at + 4, {}
    while data[at] != 0:
        kind = data[at]
        stop = data.index(b"\0", at + 1)
        key, at = data[at + 1:stop].decode(), stop + 1
        if kind == 1:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        elif kind == 2:
            (length,) = struct.unpack_from("<i", data, at)
            value, at = data[at + 4:at + 3 + length].decode(), at + 4 + length
        elif kind in (3, 4):
            value, at = decode(data, at)
            if kind == 4:
                value = list(value.values())
        elif kind == 5:
            (length,) = struct.unpack_from("<i", data, at)
            value, at = bytes(data[at + 5:at + 5 + length]), at + 5 + length
        elif kind == 8:
            value, at = data[at] == 1, at + 1
        elif kind == 10:
            value = None
        elif kind == 16:
            value, at = struct.unpack_from("<i", data, at)[0], at + 4
        elif kind == 18:
            value, at = Int64(struct.unpack_from("<q", data, at)[0]), at + 8
        else:
            # Kept as it is: object ids, dates, timestamps.
            length = {7: 12, 9: 8, 17: 8, 19: 16}[kind]
            value, at = (kind, bytes(data[at:at + length])), at + length
        document[key] = value
    return document, end


# ---- commands ----


def matches(document, wanted):
    for key, value in wanted.items():
        own = document.get(key)
        if isinstance(value, dict):
            for operator, operand in value.items():
                if operator == "$ne" and own == operand or operator == "$gt" and not own > operand:
                    return False
        elif own != value:
            return False
    return True


class Conversation:
    """The server's side of SCRAM-SHA-256."""

    def __init__(self, users, first):
        bare = first.partition(",,")[2]
        fields = dict(part.split("=", 1) for part in bare.split(","))
        name = fields["n"].replace("=2C", ",").replace("=3D", "=")
        self.salt = hashlib.sha256(name.encode()).digest()[:16]
        salted = hashlib.pbkdf2_hmac("sha256", users.get(name, os.urandom(8).hex()).encode(), self.salt, ITERATIONS)
        self.client_key = hmac.digest(salted, b"Client Key", "sha256")
        self.server_key = hmac.digest(salted, b"Server Key", "sha256")
        self.nonce = fields["r"] + base64.b64encode(os.urandom(18)).decode()
        self.challenge = f"r={self.nonce},s={base64.b64encode(self.salt).decode()},i={ITERATIONS}"
        self.signed = f"{bare},{self.challenge}"

    def finish(self, last):
        """The server's last message; `None` if the proof is wrong."""
        without, _, proof = last.rpartition(",p=")
        if without != f"c=biws,r={self.nonce}":
            return None
        signed = f"{self.signed},{without}".encode()
        signature = hmac.digest(hashlib.sha256(self.client_key).digest(), signed, "sha256")
        expected = bytes(a ^ b for a, b in zip(self.client_key, signature, strict=True))
        if not hmac.compare_digest(base64.b64decode(proof), expected):
            return None
        return "v=" + base64.b64encode(hmac.digest(self.server_key, signed, "sha256")).decode()


class Wrong(Exception):
    """What a command is refused with: a code and a text."""


class MongoStandIn:
    """Threads on a loopback port; `stop` and `start` keep the port and the documents."""

    name = "mongodb"

    def __init__(self, context=None, replica_set=None):
        self.port, self.context, self.replica_set = free_port(), context, replica_set
        self.users, self.collections, self.finds = {"nightjar": "change-me"}, {}, []
        self.listener, self.open = None, set()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        if self.listener:
            # Wakes the thread that accepts.
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        for sock in list(self.open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        self.open.add(sock)
        try:
            tls = sock
            if self.context:
                tls = self.context.wrap_socket(sock, server_side=True)
            with tls:
                self._talk(tls.makefile("rb"), tls)
        except (OSError, ssl.SSLError, struct.error, EOFError):
            pass
        finally:
            self.open.discard(sock)
            sock.close()

    def _talk(self, stream, sock):
        state = {"conversation": None, "user": None}
        while True:
            head = stream.read(16)
            if len(head) < 16:
                return
            size, request, _, opcode = struct.unpack("<iiii", head)
            body = stream.read(size - 16)
            if opcode == OP_QUERY:
                stop = body.index(b"\0", 4)
                command, _ = decode(body, stop + 9)
                answer = struct.pack("<iqii", 8, 0, 0, 1) + encode(self._answer(command, state))
                kind = OP_REPLY
            elif opcode == OP_MSG:
                command = self._sections(body)
                answer = struct.pack("<I", 0) + b"\0" + encode(self._answer(command, state))
                kind = OP_MSG
            else:
                return
            sock.sendall(struct.pack("<iiii", 16 + len(answer), 1, request, kind) + answer)

    def _sections(self, body):
        (flags,) = struct.unpack_from("<I", body, 0)
        end = len(body) - (4 if flags & 1 else 0)
        at, command = 4, {}
        while at < end:
            kind, at = body[at], at + 1
            if kind == 0:
                document, at = decode(body, at)
                command = document | command
            else:
                (size,) = struct.unpack_from("<i", body, at)
                stop, section = at + size, at + 4
                name_end = body.index(b"\0", section)
                name, section = body[section:name_end].decode(), name_end + 1
                command[name] = []
                while section < stop:
                    document, section = decode(body, section)
                    command[name].append(document)
                at = stop
        return command

    def _answer(self, command, state):
        try:
            return self._run(command, state) | {"ok": 1.0}
        except Wrong as wrong:
            code, text = wrong.args
            return {"ok": 0.0, "errmsg": text, "code": code, "codeName": "Error"}

    def _run(self, command, state):
        name = next(iter(command)).lower()
        if name in ("hello", "ismaster"):
            hello = {"helloOk": True, "isWritablePrimary": True, "ismaster": True, "maxBsonObjectSize": 16 << 20,
                     "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000, "minWireVersion": 0,
                     "maxWireVersion": 21, "readOnly": False, "connectionId": 1}
            if self.replica_set:
                set_name, hosts = self.replica_set
                hello |= {"setName": set_name, "hosts": hosts, "primary": hosts[0], "me": f"127.0.0.1:{self.port}"}
            return hello
        if name in ("ping", "endsessions"):
            return {}
        if name == "saslstart":
            if command["mechanism"] != "SCRAM-SHA-256" or command["$db"] != "admin":
                raise Wrong(18, "Authentication failed.")
            first = command["payload"].decode()
            state["name"] = first.split("n=", 1)[1].split(",")[0]
            state["conversation"] = Conversation(self.users, first)
            return {"conversationId": 1, "done": False, "payload": state["conversation"].challenge.encode()}
        if name == "saslcontinue":
            last = state["conversation"] and state["conversation"].finish(command["payload"].decode())
            state["conversation"] = None
            if not last:
                raise Wrong(18, "Authentication failed.")
            state["user"] = state["name"]
            return {"conversationId": 1, "done": True, "payload": last.encode()}
        if not state["user"]:
            raise Wrong(13, f"command {name} requires authentication")
        place = f"{command['$db']}.{command.get(name)}"
        if name == "insert":
            self.collections.setdefault(place, []).extend(command["documents"])
            return {"n": len(command["documents"])}
        if name == "find":
            self.finds.append(command["filter"])
            found = [it for it in self.collections.get(place, []) if matches(it, command["filter"])]
            projection = command.get("projection", {})
            left_out = [key for key, take in projection.items() if not take]
            wanted = [key for key, take in projection.items() if take]
            found = [{key: it[key] for key in it if key not in left_out and (not wanted or key in [*wanted, "_id"])}
                     for it in found]
            limit = command.get("limit", 0)
            return {"cursor": {"firstBatch": found[:limit] if limit else found, "id": Int64(0), "ns": place}}
        raise Wrong(59, f"no such command: '{name}'")
