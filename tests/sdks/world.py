#!/usr/bin/env python3
"""Fills a server with flags of every shape, and writes down what it answers by OFREP.

    world.py URL ADMIN_TOKEN CONTEXTS EXPECTED FILE

FILE gets the token of the environment and, for each of CONTEXTS contexts, the value and the reason of each flag as OFREP
answers them; the programs compare with it what their SDKs evaluate. The answers are kept in the file EXPECTED, and taken from
there if it is there: who gets what depends on no server. Needs nothing but Python 3.8.
"""

import http.client
import json
import os
import random
import sys
import urllib.parse

PROJECT = "/api/v1/projects/shop"
ENVIRONMENT = f"{PROJECT}/environments/production"
SEED = 20_261_123
FLAGS = 50
PLANS = ["free", "gold", "trial"]
COUNTRIES = ["DE", "AT", "FR", "CH"]


class Server:
    def __init__(self, url, token):
        self.connection, self.token = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc), token

    def send(self, method, path, body=None, token=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"}
        self.connection.request(method, path, data, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text or "null")

    def flag(self, key, kind, instructions):
        values = {
            "boolean": [True, False],
            "string": ["red", "", "grün"],
            "number": [1, 2.5, -3],
            "json": [{"a": [1, {"b": None}]}, [1, "two"], {}],
        }[kind]
        variations = [{"key": f"v{i}", "value": value} for i, value in enumerate(values)]
        self.send("POST", f"{PROJECT}/flags", {"key": key, "kind": kind, "variations": variations})
        if instructions:
            self.send("PATCH", f"{ENVIRONMENT}/flags/{key}", {"instructions": instructions})


def clause(op, attribute, values, kind="user", negate=False):
    if op == "segmentMatch":
        return {"op": op, "values": values, "negate": negate}
    return {"contextKind": kind, "attribute": attribute, "op": op, "values": values, "negate": negate}


def rule(clauses, variation="v0"):
    return {"kind": "addRule", "clauses": clauses, "variation": variation}


def rollout(weights, **more):
    names = {f"v{i}": weight for i, weight in enumerate(weights)}
    return {"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": names, **more}


ON = {"kind": "turnFlagOn"}
OTHERWISE = {"kind": "updateFallthroughVariationOrRollout", "variation": "v1"}

# Instructions by which a flag gets its shape; each is used with several kinds of values.
SHAPES = [
    [],
    [ON],
    [ON, OTHERWISE],
    [ON, {"kind": "addTargets", "variation": "v0", "values": ["u-1", "u-2", "u-3"]}, OTHERWISE],
    [ON, {"kind": "addTargets", "variation": "v0", "contextKind": "organization", "values": ["o-1", "o-2"]}, OTHERWISE],
    [ON, rule([clause("in", "plan", ["gold", "trial"])]), OTHERWISE],
    [ON, rule([clause("startsWith", "name", ["A", "B"]), clause("endsWith", "email", [".example"])]), OTHERWISE],
    [ON, rule([clause("contains", "email", ["1"], negate=True)]), OTHERWISE],
    [ON, rule([clause("matches", "email", ["^u-[0-9]+[02468]@"])]), OTHERWISE],
    [ON, rule([clause("lessThan", "age", [30])]), rule([clause("greaterThanOrEqual", "age", [60])], "v1")],
    [ON, rule([clause("before", "joined", ["2026-06-01T00:00:00Z"])]), OTHERWISE],
    [ON, rule([clause("after", "joined", [1_780_000_000_000])]), OTHERWISE],
    [ON, rule([clause("semVerLessThan", "app", ["2.0.0"])]), rule([clause("semVerEqual", "app", ["2.1"])]), OTHERWISE],
    [ON, rule([clause("in", "/address/country", ["DE", "FR"], "organization")]), OTHERWISE],
    [ON, rule([clause("in", "kind", ["organization"])]), OTHERWISE],
    [ON, rule([clause("in", "tags", ["beta"])]), rule([clause("in", "anonymous", [True])]), OTHERWISE],
    [ON, rule([clause("segmentMatch", "", ["listed"])]), OTHERWISE],
    [ON, rule([clause("segmentMatch", "", ["share"])]), OTHERWISE],
    [ON, rule([clause("segmentMatch", "", ["nested"], negate=True)]), OTHERWISE],
    [ON, rollout([50_000, 50_000])],
    [ON, rollout([10_000, 90_000], rolloutBucketBy="email")],
    [ON, rollout([33_333, 66_667], rolloutContextKind="organization")],
    [ON, rollout([25_000, 75_000], rolloutSeed=61)],
    [ON, rollout([25_000, 75_000], rolloutBucketBy="age")],
    [ON, {**rule([clause("in", "plan", ["free"])]), **rollout([1_000, 99_000]), "kind": "addRule"}, OTHERWISE],
]
for shape in SHAPES:
    for instruction in shape:
        if "rolloutWeights" in instruction:
            instruction.pop("variation", None)


def fill(server):
    server.send("POST", "/api/v1/projects", {"key": "shop"})
    environment = {"key": "production", "serverSdk": "launchdarkly"}
    server.send("POST", f"{PROJECT}/environments", environment)
    segments = f"{ENVIRONMENT}/segments"
    listed = {
        "key": "listed",
        "included": ["u-5", "u-6"],
        "excluded": ["u-7"],
        "includedContexts": [{"contextKind": "organization", "values": ["o-3"]}],
        "rules": [{"clauses": [clause("greaterThan", "age", [50])]}],
    }
    server.send("POST", segments, listed)
    share = {"clauses": [clause("in", "plan", PLANS)], "weight": 40_000}
    server.send("POST", segments, {"key": "share", "rules": [share]})
    nested = {"key": "nested", "rules": [{"clauses": [clause("segmentMatch", "", ["listed"])]}]}
    server.send("POST", segments, nested)
    kinds = ["boolean", "string", "number", "json"]
    for i in range(FLAGS - 3):
        server.flag(f"flag-{i:02}", kinds[i % len(kinds)], SHAPES[i % len(SHAPES)])
    # One that is fulfilled for some, one that is never, and one that asks for the first.
    for key, needed, variation in [("needs-05", "flag-05", "v0"), ("needs-00", "flag-00", "v0"), ("needs-needs", "needs-05", "v0")]:
        needs = {"kind": "addPrerequisite", "key": needed, "variation": variation}
        server.flag(key, "string", [ON, needs])
    token = {"name": "sdk", "kind": "server"}
    return server.send("POST", f"{ENVIRONMENT}/tokens", token)["token"]


def user(dice, i):
    return {
        "key": f"u-{i}",
        "name": dice.choice("ABCDE") + str(i),
        "email": f"u-{i}@{dice.choice(['a', 'b'])}.example",
        "plan": dice.choice(PLANS),
        "age": dice.randrange(90),
        "joined": f"2026-{dice.randrange(1, 13):02}-01T12:00:00+02:00",
        "app": f"{dice.randrange(4)}.{dice.randrange(3)}.{dice.randrange(3)}",
        "tags": dice.sample(["alpha", "beta", "gamma"], dice.randrange(3)),
        "anonymous": dice.random() < 0.1,
    }


def context(dice, i):
    organization = {
        "key": f"o-{dice.randrange(20)}",
        "address": {"country": dice.choice(COUNTRIES)},
    }
    of_user = user(dice, i)
    # Some lack what rules ask for.
    for attribute in dice.sample(["name", "email", "plan", "age", "joined", "app"], dice.randrange(3)):
        del of_user[attribute]
    form = dice.random()
    if form < 0.5:
        return {"kind": "user", **of_user}
    if form < 0.65:
        return {"kind": "organization", **organization}
    return {"kind": "multi", "user": of_user, "organization": organization}


def expectation(server, token, context):
    answer = server.send("POST", "/ofrep/v1/evaluate/flags", {"context": context}, token)
    flags = {}
    for flag in answer["flags"]:
        metadata = flag.get("metadata", {})
        reason = metadata.get("reason") or flag.get("errorCode")
        flags[flag["key"]] = [flag.get("value"), reason, metadata.get("ruleIndex")]
    return {"context": context, "flags": flags}


# Contexts so close to the edge of a slice that single and double precision differ; the server reckons in single precision, as
# LaunchDarkly's SDKs for Go, Java and Rust do.
EDGES = [
    ({"kind": "user", "key": "edge-104080359"}, "flag-19"),
    ({"kind": "user", "key": "edge-9123761"}, "flag-44"),
    ({"kind": "organization", "key": "edge-115757374"}, "flag-21"),
]


def evaluate(server, token, n_contexts):
    dice = random.Random(SEED)
    expected = [expectation(server, token, context(dice, i)) for i in range(n_contexts)]
    edges = []
    for edge, key in EDGES:
        value, _, _ = expectation(server, token, edge)["flags"][key]
        edges.append({"context": edge, "key": key, "value": value})
    return {"expected": expected, "edges": edges}


def main():
    url, admin, n_contexts, kept, path = sys.argv[1:]
    server = Server(url, admin)
    token = fill(server)
    if not os.path.exists(kept):
        with open(kept, "w", encoding="utf-8") as file:
            json.dump(evaluate(server, token, int(n_contexts)), file)
    with open(kept, encoding="utf-8") as file:
        expected = json.load(file)
    # What the programs change.
    for key in ["live-boolean", "live-rule", "live-segment", "live-gone"]:
        server.flag(key, "boolean", [ON, OTHERWISE])
    server.flag("live-string", "string", [ON])
    server.flag("live-number", "number", [ON])
    server.flag("live-json", "json", [ON])
    server.send("POST", f"{ENVIRONMENT}/segments", {"key": "live", "included": []})
    asks = [rule([clause("segmentMatch", "", ["live"])])]
    server.send("PATCH", f"{ENVIRONMENT}/flags/live-segment", {"instructions": asks})
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"url": url, "admin": admin, "token": token, **expected}, file)


main()
