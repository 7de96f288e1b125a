#!/usr/bin/env python3
"""Fills a server with flags of every shape, and writes down what it answers by OFREP.

    world.py URL ADMIN_TOKEN CONTEXTS EXPECTED FILE

FILE gets the token of the environment and, for each of CONTEXTS contexts, the value and the reason of each flag as OFREP
answers them, and the whole reason; the programs compare with it what their SDKs evaluate. The answers are kept in the file EXPECTED, and taken from
there if it is there: who gets what depends on no server. Needs nothing but Python 3.8.
"""

import http.client
import json
import os
import random
import sys
import urllib.parse

import shapes
from shapes import ON, OTHERWISE, PLANS, clause, rule

PROJECT = "/api/v1/projects/shop"
ENVIRONMENT = f"{PROJECT}/environments/production"
SEED = 20_261_123
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
        variations = [{"key": f"v{i}", "value": value} for i, value in enumerate(shapes.VALUES[kind])]
        self.send("POST", f"{PROJECT}/flags", {"key": key, "kind": kind, "variations": variations})
        # Reasons name rules by their ids, which are to be the same on every server.
        named = [{**each, "id": f"rule-{i}"} if each["kind"] == "addRule" else each for i, each in enumerate(instructions)]
        if named:
            self.send("PATCH", f"{ENVIRONMENT}/flags/{key}", {"instructions": named})

    def load(self, file):
        done = self.send("POST", f"{ENVIRONMENT}/import/launchdarkly", file)
        if done["flags"]["refused"] or done["segments"]["refused"]:
            raise SystemExit(f"refused: {done['notes']}")


def fill(server):
    server.send("POST", "/api/v1/projects", {"key": "shop"})
    environment = {"key": "production", "serverSdk": "launchdarkly"}
    server.send("POST", f"{PROJECT}/environments", environment)
    for segment in shapes.SEGMENTS:
        server.send("POST", f"{ENVIRONMENT}/segments", segment)
    kinds = list(shapes.VALUES)
    for i, shape in enumerate(shapes.SHAPES):
        server.flag(f"flag-{i:02}", kinds[i % len(kinds)], shape)
    for key, (kind, i) in shapes.AGAIN.items():
        server.flag(key, kind, shapes.SHAPES[i])
    for key, needs in shapes.NEEDS.items():
        adds = [{"kind": "addPrerequisite", "key": needed, "variation": variation} for needed, variation in needs]
        server.flag(key, "string", [ON, *adds])
    server.load(shapes.exported(shapes.EXPORTED_FLAGS, shapes.EXPORTED_SEGMENTS))
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
        # A name with a slash, for what is of the time before there were kinds of contexts.
        "/team": dice.choice(["red", "blue", "green"]),
    }


def context(dice, i):
    organization = {
        "key": f"o-{dice.randrange(20)}",
        "address": {"country": dice.choice(COUNTRIES)},
    }
    of_user = user(dice, i)
    # Some lack what rules ask for.
    for attribute in dice.sample(["name", "email", "plan", "age", "joined", "app", "/team"], dice.randrange(3)):
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
    # OFREP has no words for all of a reason.
    whole = server.send("POST", "/api/v1/evaluate?detail=true", {"contexts": [context]}, token)
    for result in whole["results"][0]:
        flags[result["flag"]].append(result["reason"])
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
        value, *_ = expectation(server, token, edge)["flags"][key]
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
    server.load(shapes.exported(shapes.ODD_FLAGS, shapes.ODD_SEGMENTS))
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"url": url, "admin": admin, "token": token, **expected}, file)


main()
