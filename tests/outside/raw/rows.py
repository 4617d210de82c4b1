"""The register of the raw tests: what a row is, and the bench that a row works on.

A row is an `async def` marked with `@row`, run once for each protocol version it names; a table of
byte sequences becomes rows by `table`. `s4` and `s5` name the normative statements of MQTT 3.1.1
and 5.0 that the row proves ("3.1.2-24 4.4.0-1", without the prefix MQTT-); tests/statements.toml is
checked against them.
"""

import asyncio
import contextlib
import inspect
import itertools
import os

import wire
from conn import Conn, Failed

ROWS = []
_counter = itertools.count()


class Row:
    """One registered test: a function, its file, versions, statements and the broker profile it needs."""

    def __init__(self, name, fn, file, versions, s4, s5, profile, limit, phase="busy"):
        self.name, self.fn, self.file, self.versions = name, fn, file, versions
        self.statements = {"4": s4.split(), "5": s5.split()}
        self.profile, self.limit, self.phase = profile, limit, phase

    @property
    def path(self):
        """How tests/statements.toml names it."""
        return f"tests/outside/raw/{self.file}::{self.name}"


def row(v="5", s4="", s5="", profile="default", limit=45, phase="busy"):
    """Registers an `async def` as a row for the versions in `v` (a string of "3", "4", "5"). `phase` is "timed" for
    rows that measure how long something takes, "slow" for those that wait for a minute."""

    def register(fn):
        file = os.path.basename(inspect.getsourcefile(fn))
        ROWS.append(Row(fn.__name__, fn, file, [int(c) for c in v], s4, s5, profile, limit, phase))
        return fn

    return register


def table(file, name, entries, runner, v="5", s4="", s5="", profile="default"):
    """Registers each entry of a table as a row of `file`: (case name, statements, *arguments of runner).
    The statements of an entry go to those of the table, for the newest version in `v`."""
    for case, statements, *arguments in entries:
        def run(t, arguments=arguments):
            return runner(t, *arguments)

        key4, key5 = (s4, f"{s5} {statements}") if "5" in v else (f"{s4} {statements}", s5)
        ROWS.append(Row(f"{name}_{case}", run, os.path.basename(file), [int(c) for c in v], key4, key5, profile, 45))


class Bench:
    """What a row gets: the version, fresh names, and connections that are closed at its end."""

    def __init__(self, version, broker):
        self.v, self.broker, self.endpoints = version, broker, broker.endpoints
        self.key = f"{os.getpid() % 10000}x{next(_counter)}"
        self.conns = []

    def topic(self, name="t"):
        return f"raw/{self.key}/{name}"

    def cid(self, name="c"):
        """A client identifier within the 23 characters of MQTT 3.1."""
        return f"r{self.key}{name}".replace("/", "")[:23]

    async def open(self, name="c", v=None, listener="tcp:default"):
        """A network connection on which nothing has been sent."""
        host, _, port = self.endpoints[listener].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 22)
        conn = Conn(reader, writer, v or self.v, name)
        self.conns.append(conn)
        return conn

    async def connect(self, name="c", v=None, rc=0, expiry=None, properties=None, present=None, cid=None,
                      listener="tcp:default", **more):
        """A connected client. `expiry` is 5.0's session expiry; a 3.x client keeps its session when
        clean is False. `present` is what session present must be (by default not checked)."""
        conn = await self.open(name, v, listener)
        given = dict(properties or {})
        if expiry is not None and conn.v == 5:
            given["session_expiry"] = expiry
        conn.send(wire.connect(self.cid(name) if cid is None else cid, conn.v, properties=given, **more))
        connack = await conn.connected(rc)
        if present is not None and conn.v != 3 and connack.session_present != present:
            raise Failed(f"{name}: session present is {connack.session_present}")
        return conn

    async def keeper(self, name="c", present=None, clean=False, **more):
        """A client whose session outlives its connection, in every version."""
        return await self.connect(name, clean=clean, expiry=300, present=present, **more)

    async def end(self):
        for conn in self.conns:
            with contextlib.suppress(Exception):
                conn.writer.transport.abort()


async def run_row(one, version, broker):
    """Runs a row for one version; returns None or what went wrong."""
    bench = Bench(version, broker)
    try:
        await asyncio.wait_for(one.fn(bench), one.limit)
        return None
    except (Failed, wire.WireError) as e:
        return str(e) or type(e).__name__
    except asyncio.TimeoutError:
        return f"not done after {one.limit} s"
    except Exception as e:  # a defect of the row itself, or a refused connection: reported, never hidden
        return f"{type(e).__name__}: {e} ({_where(e)})"
    finally:
        await bench.end()


def _where(e):
    frames = []
    tb = e.__traceback__
    while tb:
        frames.append(f"{os.path.basename(tb.tb_frame.f_code.co_filename)}:{tb.tb_lineno}")
        tb = tb.tb_next
    return " < ".join(reversed(frames[-3:]))


async def read_or_closed(reader, limit=64, timeout=5):
    """Up to `limit` bytes, b"" when the connection is closed or reset."""
    try:
        return await asyncio.wait_for(reader.read(limit), timeout)
    except (ConnectionError, OSError):
        return b""
    except asyncio.TimeoutError:
        raise Failed(f"nothing came within {timeout:g} s") from None


def check(condition, what):
    """An expectation with words for its failure."""
    if not condition:
        raise Failed(what)
