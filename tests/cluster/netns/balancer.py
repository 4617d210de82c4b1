"""HAProxy with etc/haproxy.cfg in front of the nodes, but without stickiness: a client comes to any node each time."""

import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

from place import MQTT, Failed

FILE = pathlib.Path(__file__).resolve().parent.parent.parent.parent / "etc" / "haproxy.cfg"
# What the file has for MQTT over TCP; the rest needs certificates and pages.
SECTIONS = ("global", "defaults", "resolvers system", "frontend mqtt", "backend mqtt_nodes")
# For the nodes: whose word about a client's address counts.
TRUST_TCP = """
proxy_protocol = "optional"
trusted_proxies = ["10.77.0.0/24"]
"""


def installed():
    return shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


class Balancer:
    def __init__(self, nodes):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="nightjar-test-balancer-"))
        kept, keep = [], False
        for line in FILE.read_text().splitlines():
            if re.match(r"[a-z]", line):
                keep = line.strip() in SECTIONS
            if keep and not line.strip().startswith("stick"):
                kept.append(line)
        text = "\n".join(kept) + "\n"
        for node in nodes:
            text, count = re.subn(rf"nightjar-{node.number}:1883\b", f"{node.host}:{MQTT}", text)
            if not count:
                raise Failed(f"etc/haproxy.cfg has no nightjar-{node.number}:1883 any more")
        if "stick" in text or "balance" not in text:
            raise Failed("etc/haproxy.cfg is not laid out as this test knows it")
        (self.dir / "haproxy.cfg").write_text(text)
        with open(self.dir / "out.log", "ab") as out:
            self.process = subprocess.Popen([installed(), "-db", "-f", str(self.dir / "haproxy.cfg")],
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(self.mqtt(), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise Failed(f"haproxy does not listen: {(self.dir / 'out.log').read_text()[-500:]}") from None
                time.sleep(0.05)

    @staticmethod
    def mqtt():
        return ("127.0.0.1", 1883)

    def remove(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
