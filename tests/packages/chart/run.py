#!/usr/bin/env python3
"""The Helm chart, rendered with several sets of values, and the plain manifests: what they name in each other is there.

    python3 tests/packages/chart/run.py --bin target/debug/nightjar --render RENDER

RENDER is render.go, built. With helm installed, `helm lint --strict` and `helm template` have to agree. No cluster is
asked: what Kubernetes itself would say of a field is not tested.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "outside"))

from blocking import Failed, check  # noqa: E402
from broker import clean_environment  # noqa: E402
from results import Results  # noqa: E402

CHART = ROOT / "etc" / "kubernetes" / "helm" / "nightjar"
PLAIN = ROOT / "etc" / "kubernetes" / "nightjar.yaml"
VALUES = {
    "defaults": {"cookie": {"value": "a secret"}},
    "of-a-size": {"cookie": {"existingSecret": "mine"}, "replicaCount": 5, "persistence": {"size": "1Gi", "storageClassName": "fast"}},
    "everything": {
        "cookie": {"value": "a \"quoted\" secret"}, "image": {"repository": "registry.local:5000/nightjar", "tag": "1.2"},
        "nightjarConfig": {"NIGHTJAR_AUTH__ALLOW_ANONYMOUS": "true", "NIGHTJAR_MQTT__MAX_PACKET_SIZE": "4MiB"},
        "nightjarAclConfig": "{allow, {user, \"a\"}, all, [\"x/#\"]}.\n{deny, all}.\n",
        "service": {"type": "LoadBalancer", "nodePorts": {"mqtt": 31883}, "annotations": {"a/b": "c"}},
        "imagePullSecrets": [{"name": "pull"}], "nodeSelector": {"disk": "ssd"}, "podAnnotations": {"scrape": "true"},
        "extraEnv": [{"name": "TZ", "value": "UTC"}], "extraEnvFrom": [{"secretRef": {"name": "more"}}],
        "extraVolumes": [{"name": "certs", "secret": {"secretName": "certs"}}],
        "extraVolumeMounts": [{"name": "certs", "mountPath": "/certs", "readOnly": True}],
        "initContainers": [{"name": "wait", "image": "busybox", "command": ["true"]}],
        "tolerations": [{"key": "iot", "operator": "Exists"}],
    },
    "small": {"cookie": {"value": "x"}, "replicaCount": 1, "persistence": {"enabled": False}, "pdb": {"enabled": False},
              "service": {"mqttsn": 0}},
}


def run(*words):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, check=False, env=clean_environment())


def documents(render, *words):
    done = run(render, *words)
    check(done.returncode == 0, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_kind(docs, kind):
    return {doc["metadata"]["name"]: doc for doc in docs if doc["kind"] == kind}


def is_known(binary, name):
    """Is this variable a key, or a key in a file?"""
    keys = [name[len("NIGHTJAR_"):].lower().replace("__", ".")]
    keys += [keys[0].removesuffix("_file")]
    return any(run(binary, "config", "explain", key).returncode == 0 for key in keys)


def consistent(docs, binary, own=True):
    """What documents name in each other is there; the pod keeps to the restricted standard. Returns the pod."""
    (stateful,) = of_kind(docs, "StatefulSet").values()
    spec, labels = stateful["spec"], stateful["spec"]["template"]["metadata"]["labels"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    services, ports = of_kind(docs, "Service"), {port["name"]: port for port in container["ports"]}
    within = lambda selector: selector.items() <= labels.items()  # noqa: E731
    check(within(spec["selector"]["matchLabels"]), "the selector of the StatefulSet misses its pods")
    check(spec["serviceName"] in services and services[spec["serviceName"]]["spec"]["clusterIP"] == "None", "the headless service")
    check(services[spec["serviceName"]]["spec"].get("publishNotReadyAddresses"), "nodes find each other before they are ready")
    for name, service in services.items():
        check(within(service["spec"]["selector"]), f"{name} selects other pods")
        for port in service["spec"]["ports"]:
            target = ports.get(port["targetPort"])
            check(target, f"{name}: no port {port['targetPort']} of the container")
            check(target.get("protocol", "TCP") == port.get("protocol", "TCP"), f"{name}: {port}")
    for name, budget in of_kind(docs, "PodDisruptionBudget").items():
        check(within(budget["spec"]["selector"]["matchLabels"]), f"{name} selects other pods")
    check(pod["serviceAccountName"] in of_kind(docs, "ServiceAccount"), "the service account")
    volumes = {volume["name"]: volume for volume in pod.get("volumes") or []}
    claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or []}
    for mount in container["volumeMounts"]:
        check(mount["name"] in volumes or mount["name"] in claims, f"no volume {mount['name']}")
    secret = volumes["secret"]["secret"]["secretName"]
    check(not own or secret in of_kind(docs, "Secret"), f"no secret {secret}")
    if "config" in volumes:
        check(volumes["config"]["configMap"]["name"] in of_kind(docs, "ConfigMap"), "the ConfigMap")
    env = {one["name"]: one.get("value") for one in container["env"]}
    for name in env:
        check(not name.startswith("NIGHTJAR_") or is_known(binary, name), f"{name} is no key")
    seeds = json.loads(env["NIGHTJAR_CLUSTER__SEEDS"])
    check(len(seeds) == spec["replicas"] == int(env["NIGHTJAR_CLUSTER__EXPECT"]), f"{spec['replicas']} nodes, seeds {seeds}")
    for number, seed in enumerate(seeds):
        check(seed == f"{stateful['metadata']['name']}-{number}.{spec['serviceName']}:5369", f"seed {seed}")
    safe = container["securityContext"]
    check(safe["readOnlyRootFilesystem"] and not safe["allowPrivilegeEscalation"] and safe["capabilities"]["drop"] == ["ALL"], f"{safe}")
    check(pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001, f"{pod['securityContext']}")
    check(not pod.get("automountServiceAccountToken"), "a token is mounted")
    return pod


def rendered(name, render, binary):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        # JSON is YAML.
        json.dump(VALUES[name], file)
        file.flush()
        docs = documents(render, CHART, "--values", file.name)
        pod = consistent(docs, binary, own="value" in VALUES[name]["cookie"])
        if shutil.which("helm"):
            for words in (("lint", "--strict", CHART), ("template", "release", CHART)):
                done = run("helm", *words, "--values", file.name)
                check(done.returncode == 0, f"helm {words[0]}: {done.stdout}{done.stderr}")
    (container,) = pod["containers"]
    services = of_kind(docs, "Service")
    if name == "everything":
        check(container["image"] == "registry.local:5000/nightjar:1.2", container["image"])
        env = {one["name"]: one.get("value") for one in container["env"]}
        check(env["NIGHTJAR_MQTT__MAX_PACKET_SIZE"] == "4MiB" and env["TZ"] == "UTC", f"{env}")
        (rules,) = of_kind(docs, "ConfigMap").values()
        check(rules["data"]["acl.conf"].strip() == VALUES[name]["nightjarAclConfig"].strip(), f"{rules}")
        (secret,) = of_kind(docs, "Secret").values()
        check(secret["stringData"]["cookie"] == VALUES[name]["cookie"]["value"], f"{secret}")
        ports = {port["name"]: port for port in services["release"]["spec"]["ports"]}
        check(services["release"]["spec"]["type"] == "LoadBalancer" and ports["mqtt"]["nodePort"] == 31883, f"{ports}")
        check([one["name"] for one in pod["initContainers"]] == ["wait"] and pod["nodeSelector"] == {"disk": "ssd"}, "lists")
    if name == "small":
        check("release-mqttsn" not in services and not of_kind(docs, "PodDisruptionBudget"), f"{list(services)}")
        check({"name": "data", "emptyDir": {}} in pod["volumes"], f"{pod['volumes']}")
    if name == "of-a-size":
        check(not of_kind(docs, "Secret"), "a secret is made beside the one that is there")


def without_a_cookie_it_says_what_to_do(render, _):
    done = run(render, CHART)
    check(done.returncode != 0 and "openssl rand" in done.stderr, done.stdout + done.stderr)


def plain(render, binary):
    consistent(documents(render, PLAIN), binary, own=False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--render", required=True)
    args = parser.parse_args()
    results = Results(ci=os.environ.get("CI") == "true")
    cases = {f"chart/{name}": lambda name=name: rendered(name, args.render, args.bin) for name in VALUES}
    cases["chart/without_a_cookie"] = lambda: without_a_cookie_it_says_what_to_do(args.render, args.bin)
    cases["chart/plain_manifests"] = lambda: plain(args.render, args.bin)
    for name, fn in cases.items():
        begin = time.monotonic()
        try:
            fn()
            results.ok(name, time.monotonic() - begin)
        except (Failed, KeyError, ValueError, OSError, subprocess.SubprocessError) as error:
            results.fail(name, str(error) or repr(error), time.monotonic() - begin)
    return results.close("chart")


if __name__ == "__main__":
    sys.exit(main())
