#!/usr/bin/env python3
"""Holds the HTTP API to its own OpenAPI description: schemathesis asks what the description allows and what it does not.

    python3 tests/api/fuzz.py --bin target/debug/nightjar --schemathesis target/test-schemathesis/bin/schemathesis

Bounded in time; exits with 0 if every answer is one that the description names, and no request made the node fail.
"""

import argparse
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "outside")]

from broker import Broker  # noqa: E402
from run import Api  # noqa: E402  # before mqtt, which puts a folder with another run.py in front
from mqtt import Client, Failed  # noqa: E402

# What every answer is held to. Whether odd but legal texts are taken is not in a description, so that is not asked.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# A logout would end the token of the run, and a login is limited to five wrong passwords a minute.
WITHOUT = ("/api/v1/logout", "/api/v1/login")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--schemathesis", required=True)
    parser.add_argument("--seconds", type=int, default=90)
    options = parser.parse_args()
    broker = Broker("nightjar", str(pathlib.Path(options.bin).resolve()), profile="limits")
    try:
        broker.start()
        api = Api(broker, options.bin)
        with Client(broker.port("tcp"), "fuzzed", keep_alive=0) as client:
            client.subscribe("a/#")
            command = [options.schemathesis, "--no-color", "run", f"http://127.0.0.1:{api.port}/api/v1/openapi.json",
                       "-H", f"Authorization: Bearer {api.token}", "--phases", "examples,coverage,fuzzing",
                       "--checks", CHECKS, "--max-time", str(options.seconds), "--max-examples", "30", "--seed", "7",
                       "--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off",
                       "--continue-on-failure", "--request-timeout", "10"]
            for path in WITHOUT:
                command += ["--exclude-path", path]
            code = subprocess.run(command, cwd=broker.dir, timeout=options.seconds * 4).returncode
            try:
                client.ping()
            except (Failed, OSError):
                # An administrator may end clients, ban them or stop their listener, and the fuzzer is one.
                print("the client was ended")
            answered, _, _ = api.raw("GET", "/status", None, {})
            if answered != 200:
                print(f"/status answers {answered}")
                code = 1
        if panic := broker.panic():
            print(panic)
            code = 1
        if broker.stop() != 0:
            print("the broker does not end well")
            code = 1
        if code:
            print(broker.tail(20))
        return code
    finally:
        broker.remove()


if __name__ == "__main__":
    sys.exit(main())
