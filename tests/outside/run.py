#!/usr/bin/env python3
"""Runs the tests with outside clients against a broker that it starts itself.

    tests/outside/run.py [--bin target/debug/nightjar] [--broker mosquitto] [--only TEXT] [--list]

Every client goes through the scenarios of clients/scenarios.py over each transport and in each version it knows;
with Nightjar the cases of process.py run too. Last line: `N passed, N failed, N skipped`.
"""

import argparse
import concurrent.futures
import os
import pathlib
import signal
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import process  # noqa: E402
from broker import Broker, BrokerError  # noqa: E402
from clients.aiomqtt_client import AiomqttClient  # noqa: E402
from clients.base import Bench, Unavailable  # noqa: E402
from clients.gmqtt_client import GmqttClient  # noqa: E402
from clients.js_client import ChromiumClient, MqttJsClient  # noqa: E402
from clients.mosquitto_client import MosquittoClient  # noqa: E402
from clients.paho_client import PahoClient  # noqa: E402
from clients.scenarios import SCENARIOS  # noqa: E402
from results import Results  # noqa: E402

CLIENTS = [MosquittoClient, PahoClient, GmqttClient, AiomqttClient, MqttJsClient, ChromiumClient]

# Scenarios under way at once; each has clients of its own.
AT_ONCE = 8


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default="target/debug/nightjar", help="the broker's binary")
    p.add_argument("--broker", choices=["nightjar", "mosquitto"], default="nightjar")
    p.add_argument("--only", default="", help="run the cases whose name holds this text")
    p.add_argument("--list", action="store_true", help="print the cases and end")
    p.add_argument("--quiet", action="store_true", help="print failures and the counts only")
    return p.parse_args()


def cases(kind):
    for transport in kind.transports:
        for version in kind.versions:
            for name, fn, versions in SCENARIOS:
                if version in versions:
                    yield f"outside/{kind.name}/{transport}/{version}/{name}", fn, transport, version


def run_case(fn, bench):
    begin = time.monotonic()
    try:
        fn(bench)
        return None, time.monotonic() - begin
    except Exception as e:
        return f"{type(e).__name__}: {e}", time.monotonic() - begin
    finally:
        bench.end()


def run_client(kind, chosen, broker, results):
    """All cases of one client library; a library that is not here is one skip."""
    try:
        kind.start()
    except Unavailable as e:
        results.skip(f"outside/{kind.name}", str(e))
        return
    except Exception as e:
        results.fail(f"outside/{kind.name}", f"did not start: {type(e).__name__}: {e}")
        kind.stop()
        return
    try:
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            started = {pool.submit(run_case, fn, Bench(kind, broker, transport, version)): name
                       for name, fn, transport, version in chosen}
            for done in concurrent.futures.as_completed(started):
                why, seconds = done.result()
                if why is None:
                    results.ok(started[done], seconds)
                else:
                    results.fail(started[done], why, seconds)
    finally:
        kind.stop()


def main():
    args = parse_args()
    # An end by a signal runs the `finally` blocks too, which end the brokers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    binary = args.bin if args.broker == "nightjar" else None
    todo = [(kind, [case for case in cases(kind) if args.only in case[0]]) for kind in CLIENTS]
    own = [case for case in process.CASES if args.only in case[0]] if args.broker == "nightjar" else []
    if args.list:
        for _, chosen in todo:
            for case in chosen:
                print(case[0])
        for case in own:
            print(case[0])
        return 0

    results = Results(ci=os.environ.get("CI") == "true", quiet=args.quiet)
    broker = Broker(args.broker, os.path.abspath(binary) if binary else None)
    try:
        broker.start()
        for kind, chosen in todo:
            if chosen:
                run_client(kind, chosen, broker, results)
        if not broker.alive():
            results.fail("outside/broker", f"the broker died during the tests: {broker.tail()}")
        elif broker.panic():
            results.fail("outside/broker", broker.panic())
    except BrokerError as e:
        results.fail("outside/broker", str(e))
    finally:
        broker.remove()
    for name, fn in own:
        begin = time.monotonic()
        try:
            fn(os.path.abspath(binary))
            results.ok(name, time.monotonic() - begin)
        except Exception as e:
            results.fail(name, f"{type(e).__name__}: {e}", time.monotonic() - begin)
    return results.close("outside clients")


if __name__ == "__main__":
    sys.exit(main())
