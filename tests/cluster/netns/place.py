"""Nodes in network namespaces of their own, behind one bridge, and what can be done to them.

All of it lives in namespaces of the run itself (`enter`): bridge, links, rules, mounts and processes are gone when the
run is, whatever ended it. Clients are on the bridge's side, so that a cut between nodes is none between a client and its
node.
"""

import datetime
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "outside"))

from blocking import Failed  # noqa: E402
from broker import Broker, clean_environment  # noqa: E402
from disk import Disk  # noqa: E402

INSIDE = "NJTEST_INSIDE"
LINK, MQTT, SN, API = 5369, 1883, 1884, 18083
# So often a line may stand in a log within ten seconds.
MANY = 20
NFT = """table inet test {{
  chain hear {{
    type filter hook input priority 0
    {hear}
  }}
  chain say {{
    type filter hook output priority 0
    {say}
  }}
}}
"""


def run(*words, check=True, text=None):
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=30, check=False)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(words)}: {done.stderr.strip()}")
    return done


def unshare():
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return words if os.getuid() == 0 else [*words, "--user", "--map-root-user"]


def missing():
    """Why namespaces cannot be had here; None if they can."""
    for program in ("unshare", "nsenter", "ip", "nft"):
        if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            return f"{program} is not installed"
    trial = ("ip link add tb type bridge && ip link add ta type veth peer name tc && unshare --net true && "
             "mount -t tmpfs none /mnt && nft add table inet test")
    done = run(*unshare(), "sh", "-c", trial, check=False)
    return None if done.returncode == 0 else f"namespaces are not permitted here: {done.stderr.strip()[-200:]}"


def enter():
    """Runs this program again in namespaces of its own and ends with its code."""
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if os.environ.get(INSIDE):
        run("ip", "link", "set", "lo", "up")
        return
    os.environ[INSIDE] = "1"
    os.execvp("unshare", [*unshare(), sys.executable, *sys.argv])


class Bridge:
    """The network of all nodes: 10.77.0.0/24, clients are .254."""

    def __init__(self):
        run("ip", "link", "add", "nj", "type", "bridge")
        run("ip", "addr", "add", "10.77.0.254/24", "dev", "nj")
        run("ip", "link", "set", "nj", "up")


class Node(Broker):
    """A node in a namespace, its data on a file system of its own."""

    def __init__(self, number, binary, seeds, expect, space, tcp=""):
        super().__init__("nightjar", binary)
        # More of its TCP listener's settings.
        self.tcp = tcp
        # None: it forms no cluster.
        self.number, self.seeds, self.expect, self.space = number, seeds, expect, space
        self.name, self.host = f"node{number}", f"10.77.0.{number}"
        self.ballast = self.data_dir / "ballast"
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
        self.disk = Disk(self.dir / "disk", self.data_dir)
        self._wire()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"size={space}m,mode=700", "none", str(self.data_dir))

    def _wire(self):
        here, there = f"nj{self.number}", f"ep{self.number}"
        own = os.readlink("/proc/self/ns/net")
        end = time.monotonic() + 10
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == own:
            if time.monotonic() > end:
                raise Failed("unshare made no namespace")
            time.sleep(0.01)
        run("ip", "link", "add", here, "type", "veth", "peer", "name", there)
        run("ip", "link", "set", there, "netns", str(self.holder.pid))
        run("ip", "link", "set", here, "master", "nj", "up")
        self.inside("ip", "addr", "add", f"{self.host}/24", "dev", there)
        self.inside("ip", "link", "set", there, "up")
        self.inside("ip", "link", "set", "lo", "up")

    def inside(self, *words, text=None):
        return run("nsenter", "--target", str(self.holder.pid), "--net", *words, text=text)

    def config(self):
        seeds = ", ".join(f'"{host}:{LINK}"' for host in self.seeds())
        return f"""
[node]
name = "{self.name}"
data_dir = "{self.data_dir}"
will_restart_grace = "1s"
[log]
level = "info"
[auth]
allow_anonymous = true
[acl]
no_match = "allow"
[mqtt]
max_queue_len = 1000000
max_queue_bytes = "256MiB"
[listeners.tcp.default]
bind = "{self.host}:{MQTT}"
{self.tcp}
[listeners.tls.default]
enable = false
[listeners.ws.default]
enable = false
[listeners.wss.default]
enable = false
[listeners.mqttsn.default]
bind = "{self.host}:{SN}"
auth = "off"
[api]
bind = "{self.host}:{API}"
[cluster]
bind = "{self.host}:{LINK}"
cookie = "the cookie of these tests"
discovery = "static"
seeds = [{seeds}]
{f"expect = {self.expect}" if self.expect else ""}
{"replicas = 5" if self.expect == 5 else ""}
"""

    def begin(self):
        """Starts without waiting to be ready."""
        config = self.dir / "nightjar.toml"
        config.write_text(self.config())
        disk = [f"{name}={value}" for name, value in self.disk.environment().items()]
        self._spawn(["nsenter", "--target", str(self.holder.pid), "--net", "env", *disk, str(self.binary), "serve",
                     "--config", str(config)])

    def ctl(self, *words):
        """(exit code, answer) of a verb."""
        done = subprocess.run([str(self.binary), "ctl", "--data-dir", str(self.data_dir), "--output", "json", *words],
                              capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
                              env=clean_environment())
        return done.returncode, done.stdout if done.returncode == 0 else done.stderr

    def status(self):
        """What `cluster status` says; state "down" if nobody answers."""
        import json
        if not self.lives():
            return {"state": "down", "error": "no process"}
        try:
            code, text = self.ctl("cluster", "status")
        except subprocess.TimeoutExpired:
            return {"state": "down", "error": "no answer"}
        return json.loads(text) if code == 0 else {"state": "down", "error": text}

    def ready(self):
        """What `/readyz` answers: (code, text)."""
        import http.client
        connection = http.client.HTTPConnection(self.host, API, timeout=5)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def lives(self):
        return self.process is not None and self.process.poll() is None

    def mqtt(self):
        return (self.host, MQTT)

    # ---- faults ----

    def deaf(self, hosts, hear=True, say=True):
        """Takes nothing from these hosts, and gives them nothing."""
        self.open_up()
        if not hosts:
            return
        those = ", ".join(hosts)
        rules = NFT.format(hear=f"ip saddr {{ {those} }} drop" if hear else "",
                           say=f"ip daddr {{ {those} }} drop" if say else "")
        self.inside("nft", "-f", "-", text=rules)

    def reset(self):
        """Each packet of a link is answered with RST."""
        rules = "\n".join(f"tcp {port} {LINK} reject with tcp reset" for port in ("dport", "sport"))
        self.open_up()
        self.inside("nft", "-f", "-", text=NFT.format(hear=rules, say=""))

    def open_up(self):
        self.inside("nft", "flush", "ruleset")

    def fill(self):
        """Leaves no space in the data directory."""
        # Unbuffered: what could not be written is not written again at the end.
        with open(self.ballast, "wb", buffering=0) as file:
            chunk = b"\0" * 65536
            try:
                while True:
                    file.write(chunk)
            except OSError:
                return

    def drain(self):
        self.ballast.unlink(missing_ok=True)

    def signal(self, number):
        self.process.send_signal(number)

    def used(self):
        """Bytes of the data directory."""
        total = 0
        for file in self.data_dir.rglob("*"):
            try:
                total += file.stat().st_size if file.is_file() else 0
            except FileNotFoundError:
                # The node lets go of files whenever it likes.
                pass
        return total

    def panics(self):
        log = self.dir / "stderr.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        return [line for line in text.splitlines() if "panicked at" in line]

    def repeats(self):
        """Lines that its log has again and again: more than `MANY` times the same within ten seconds."""
        log, seen, found = self.dir / "stderr.log", {}, {}
        for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
            stamp, _, text = line.partition(" ")
            try:
                at = datetime.datetime.fromisoformat(stamp).timestamp()
            except ValueError:
                continue
            times = seen.setdefault(text, [])
            times.append(at)
            while times[0] < at - 10:
                times.pop(0)
            if len(times) > MANY:
                found[text.strip()] = max(len(times), found.get(text.strip(), 0))
        return [f"{count} times within ten seconds: {text}" for text, count in found.items()]

    def remove(self):
        if self.lives():
            self.signal(signal.SIGCONT)
        self.kill()
        self.holder.kill()
        self.holder.wait()
        run("umount", "-l", str(self.data_dir), check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


class Cluster:
    """So many nodes."""

    def __init__(self, binary, count, space=256, tcp=""):
        Bridge()
        self.binary, self.space, self.tcp, self.expect = binary, space, tcp, count
        # Where all clients connect, if not to the nodes themselves.
        self.front = None
        self.nodes = {}
        for number in range(1, count + 1):
            self.add(number)

    def add(self, number):
        """One more node, not started; it joins the cluster there is."""
        node = Node(number, self.binary, self.hosts, self.expect, self.space, self.tcp)
        self.nodes[number] = node
        return node

    def hosts(self):
        return [node.host for node in self.nodes.values()]

    def grow(self, number):
        """A new node, until all serve."""
        node = self.add(number)
        node.begin()
        self.whole(60)
        return node

    def shrink(self, node):
        """A node leaves for good, and its clients go elsewhere."""
        code, text = node.ctl("--yes", "cluster", "leave")
        if code != 0:
            raise Failed(f"{node.name} cannot leave: {text}")
        del self.nodes[node.number]
        node.remove()
        end = time.monotonic() + 60
        while any(it["name"] == node.name for other in self.nodes.values() for it in other.status().get("nodes", ())):
            if time.monotonic() > end:
                raise Failed(f"{node.name} left and is still listed")
            time.sleep(0.2)
        self.whole(60)

    def others(self, *those):
        return [node for node in self.nodes.values() if node not in those]

    def start(self):
        for node in self.nodes.values():
            node.begin()
        self.whole(60)
        return self

    def what_lacks(self, nodes=None):
        """Why these nodes are not one whole cluster yet; "" if they are."""
        nodes = nodes or list(self.nodes.values())
        for node in nodes:
            status = node.status()
            if status["state"] != "serving":
                return f"{node.name} is {status['state']}: {status.get('problem') or status.get('error')}"
            up = {it["name"] for it in status["nodes"] if it["up"]}
            lacks = {it.name for it in nodes} - up
            if lacks:
                return f"{node.name} does not see {sorted(lacks)}"
            voters = sum(it["role"] in ("leader", "voter") for it in status["nodes"])
            if voters < min(3, len(nodes)):
                return f"{node.name} sees {voters} voters"
        return ""

    def whole(self, timeout, nodes=None):
        """Waits until these nodes, all unless given, serve and see each other; the seconds it took."""
        begin = time.monotonic()
        while True:
            lacks = self.what_lacks(nodes)
            if not lacks:
                return time.monotonic() - begin
            if time.monotonic() - begin > timeout:
                raise Failed(f"not whole within {timeout:g} s: {lacks}")
            time.sleep(0.2)

    def leader(self):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for node in self.nodes.values():
                status = node.status()
                for it in status.get("nodes", ()):
                    if it["number"] == status.get("leader") and it["up"]:
                        found = [n for n in self.nodes.values() if n.name == it["name"]]
                        if found:
                            return found[0]
            time.sleep(0.2)
        raise Failed("no leader within 30 s")

    def digests(self):
        """Digest of each node's routes, as each node knows them: {owner: {digest, ...}}."""
        out = {}
        for node in self.nodes.values():
            for row in node.status().get("routes", ()):
                out.setdefault(row["node"], set()).add(row["digest"])
        return out

    def remove(self):
        for node in self.nodes.values():
            node.remove()
