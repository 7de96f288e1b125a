"""Flags and segments of every shape: written with the instructions of the API, and as LaunchDarkly exports them.

What they are asked about and who fills a server with them is in world.py.
"""

PLANS = ["free", "gold", "trial"]
ON = {"kind": "turnFlagOn"}
OTHERWISE = {"kind": "updateFallthroughVariationOrRollout", "variation": "v1"}
VALUES = {
    "boolean": [True, False],
    "string": ["red", "", "grün"],
    "number": [1, 2.5, -3],
    "json": [{"a": [1, {"b": None}]}, [1, "two"], {}],
}


def clause(op, attribute, values, kind="user", negate=False):
    if op == "segmentMatch":
        return {"op": op, "values": values, "negate": negate}
    return {"contextKind": kind, "attribute": attribute, "op": op, "values": values, "negate": negate}


def lacks(op, attribute, values, kind="user"):
    return clause(op, attribute, values, kind, negate=True)


def rule(clauses, variation="v0"):
    return {"kind": "addRule", "clauses": clauses, "variation": variation}


def rollout(weights, **more):
    names = {f"v{i}": weight for i, weight in enumerate(weights)}
    return {"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": names, **more}


def rule_rollout(clauses, weights, **more):
    return {**rollout(weights, **more), "kind": "addRule", "clauses": clauses}


def targets(variation, kind, values):
    return {"kind": "addTargets", "variation": variation, "contextKind": kind, "values": values}


# Instructions by which a flag gets its shape; the kind of its values goes round.
SHAPES = [
    [],
    [ON],
    [ON, OTHERWISE],
    [ON, {"kind": "addTargets", "variation": "v0", "values": ["u-1", "u-2", "u-3"]}, OTHERWISE],
    [ON, targets("v0", "organization", ["o-1", "o-2"]), OTHERWISE],
    [ON, rule([clause("in", "plan", ["gold", "trial"])]), OTHERWISE],
    [ON, rule([clause("startsWith", "name", ["A", "B"]), clause("endsWith", "email", [".example"])]), OTHERWISE],
    [ON, rule([lacks("contains", "email", ["1"])]), OTHERWISE],
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
    [ON, rule([lacks("segmentMatch", "", ["nested"])]), OTHERWISE],
    [ON, rollout([50_000, 50_000])],
    [ON, rollout([10_000, 90_000], rolloutBucketBy="email")],
    [ON, rollout([33_333, 66_667], rolloutContextKind="organization")],
    [ON, rollout([25_000, 75_000], rolloutSeed=61)],
    [ON, rollout([25_000, 75_000], rolloutBucketBy="age")],
    [ON, rule_rollout([clause("in", "plan", ["free"])], [1_000, 99_000]), OTHERWISE],
    # Balanced twice, so that a variation has several slices.
    [ON, rollout([10_000, 90_000]), rollout([60_000, 40_000]), rollout([30_000, 70_000])],
    [ON, rollout([40_000, 30_000, 30_000]), rollout([20_000, 70_000, 10_000]), rollout([50_000, 20_000, 30_000])],
    [ON, rule_rollout([clause("in", "plan", PLANS)], [45_000, 55_000], rolloutBucketBy="email"), OTHERWISE],
    [ON, rule_rollout([clause("in", "plan", PLANS)], [45_000, 55_000], rolloutContextKind="organization"), OTHERWISE],
    [
        ON,
        rule_rollout([], [70_000, 30_000], rolloutContextKind="organization", rolloutBucketBy="/address/country"),
    ],
    [
        ON,
        targets("v0", "organization", ["o-1", "o-2", "o-3"]),
        targets("v1", "organization", ["o-4", "o-5"]),
        targets("v1", "user", ["u-1", "u-2", "u-3", "u-4"]),
        targets("v0", "user", ["u-5", "u-6"]),
        targets("v0", "device", ["d-1"]),
        rollout([50_000, 50_000]),
    ],
    [ON, rule([lacks("lessThan", "age", [30]), lacks("greaterThan", "age", [60])]), OTHERWISE],
    [ON, rule([lacks("before", "joined", ["2026-06-01T00:00:00+02:00"])]), rule([lacks("after", "joined", ["2026-09-01T00:00:00.5Z"])], "v1")],
    [ON, rule([lacks("semVerGreaterThan", "app", ["2.0.0-rc.1"])]), OTHERWISE],
    [ON, rule([lacks("matches", "name", ["^(A|B)", "7$"])]), rule([lacks("startsWith", "name", [""])]), OTHERWISE],
    [ON, rule([lacks("in", "tags", ["alpha", "gamma"])]), rule([lacks("in", "kind", ["user"])], "v1"), OTHERWISE],
    [ON, rule([lacks("in", "/address/country", ["CH"], "organization"), clause("lessThanOrEqual", "age", [45])]), OTHERWISE],
    [ON, rule([clause("segmentMatch", "", ["by-email"])]), rule([clause("segmentMatch", "", ["of-organizations"])], "v1")],
    [ON, rule([clause("segmentMatch", "", ["not-them", "nested"])]), OTHERWISE],
    # Some have no organization, and are in no share of those.
    [ON, rule([clause("segmentMatch", "", ["share-of-organizations"])]), OTHERWISE],
]
# A second flag of a shape for which a context at the edge of a slice is known.
AGAIN = {"flag-44": ("boolean", 19)}

# What each of these flags needs: the flag and its variation.
NEEDS = {
    "needs-05": [("flag-05", "v0")],
    "needs-00": [("flag-00", "v0")],
    "needs-needs": [("needs-05", "v0")],
    "needs-two": [("needs-05", "v0"), ("flag-19", "v1")],
    "needs-chain": [("needs-needs", "v0"), ("flag-04", "v1"), ("needs-two", "v0")],
}

SEGMENTS = [
    {
        "key": "listed",
        "included": ["u-5", "u-6"],
        "excluded": ["u-7"],
        "includedContexts": [{"contextKind": "organization", "values": ["o-3"]}],
        "rules": [{"clauses": [clause("greaterThan", "age", [50])]}],
    },
    {"key": "share", "rules": [{"clauses": [clause("in", "plan", PLANS)], "weight": 40_000}]},
    {"key": "nested", "rules": [{"clauses": [clause("segmentMatch", "", ["listed"])]}]},
    {
        "key": "by-email",
        "rules": [
            {"clauses": [clause("in", "plan", ["gold"])], "weight": 30_000, "bucketBy": "email"},
            {"clauses": [clause("in", "plan", ["free"]), lacks("segmentMatch", "", ["listed"])], "weight": 60_000},
        ],
    },
    {
        "key": "of-organizations",
        "excludedContexts": [{"contextKind": "organization", "values": ["o-7", "o-8"]}],
        "rules": [
            {
                "clauses": [clause("in", "/address/country", ["DE", "CH"], "organization")],
                "weight": 55_000,
                "rolloutContextKind": "organization",
            }
        ],
    },
    {
        "key": "share-of-organizations",
        "rules": [{"clauses": [clause("in", "plan", PLANS)], "weight": 50_000, "rolloutContextKind": "organization"}],
    },
    {
        "key": "not-them",
        "excludedContexts": [{"contextKind": "organization", "values": ["o-1", "o-2", "o-3", "o-4"]}],
        "rules": [{"clauses": [lacks("in", "plan", ["trial"])]}],
    },
]


def slices(*pairs, untracked=()):
    return [
        {"variation": variation, "weight": weight, **({"untracked": True} if i in untracked else {})}
        for i, (variation, weight) in enumerate(pairs)
    ]


def divided(variations, **more):
    return {"rollout": {"variations": variations, **more}}


def old_clause(op, attribute, values, negate=False):
    """One without a kind of context, whose attribute is a name also with slashes in it."""
    return {"attribute": attribute, "op": op, "values": values, "negate": negate}


ALL = {"id": "all", "clauses": []}
MEASURED = slices((0, 30_000), (1, 30_000), (0, 20_000), (1, 20_000), untracked=(2, 3))
# Flags that only an export can have, as what differs from one that is on and serves its first variation.
EXPORTED_FLAGS = {
    "experiment": {"fallthrough": divided(MEASURED, kind="experiment", contextKind="user", seed=61)},
    "experiment-of-organizations": {
        # An experiment divides by the key, whatever it says.
        "rules": [{**ALL, **divided(MEASURED, kind="experiment", contextKind="organization", bucketBy="/address/country")}],
    },
    "experiment-in-a-rule": {
        "rules": [{"id": "golden", "clauses": [clause("in", "plan", ["gold"])], **divided(MEASURED, kind="experiment", seed=-7)}],
        "fallthrough": divided(slices((0, 50_000), (1, 50_000)), kind="experiment"),
    },
    "slices": {"fallthrough": divided(slices((0, 10_000), (1, 20_000), (0, 5_000), (2, 30_000), (1, 35_000)), contextKind="user")},
    "weights-that-lack": {"fallthrough": divided(slices((1, 0), (0, 10_000), (1, 20_000), (2, 30_000)), contextKind="user")},
    "old-rollout": {"fallthrough": divided(slices((0, 30_000), (1, 70_000)), bucketBy="/team")},
    "old-clauses": {
        "rules": [
            {"id": "a", "clauses": [old_clause("in", "/team", ["red", "blue"])], "variation": 1},
            {"id": "b", "clauses": [old_clause("in", "plan", ["gold"], negate=True)], "variation": 2},
        ],
    },
    "old-targets": {
        "targets": [{"values": ["u-1", "u-2"], "variation": 1}, {"values": ["u-3"], "variation": 2}],
        "rules": [{"id": "share", "clauses": [old_clause("segmentMatch", "", ["old-share"])], "variation": 1}],
    },
    "targets-of-kinds": {
        "targets": [{"values": ["u-1", "u-2", "u-3"], "variation": 1}],
        "contextTargets": [
            {"contextKind": "organization", "values": ["o-1", "o-2"], "variation": 2},
            {"contextKind": "user", "values": [], "variation": 1},
            {"contextKind": "organization", "values": ["o-3"], "variation": 1},
        ],
    },
    "both-of-variation-and-rollout": {"fallthrough": {"variation": 2, **divided(slices((0, 100_000)))}},
    "unheard-of": {
        "rules": [
            {"id": "op", "clauses": [clause("unheardOf", "plan", ["gold"])], "variation": 1},
            {"id": "segment", "clauses": [clause("segmentMatch", "", ["nowhere"])], "variation": 1},
            {"id": "not-op", "clauses": [lacks("unheardOf", "plan", ["gold"])], "variation": 2},
        ],
    },
    "needs-experiment": {"prerequisites": [{"key": "experiment", "variation": 1}, {"key": "slices", "variation": 1}]},
}
EXPORTED_SEGMENTS = {
    "old-share": {
        "rules": [
            {"id": "team", "clauses": [old_clause("in", "/team", ["red"])], "weight": 50_000, "bucketBy": "/team"},
            {"id": "plan", "clauses": [old_clause("in", "plan", ["free"])], "weight": 25_000},
        ],
    },
}


# A flag that leads to nothing, and one that asks for a segment whose keys LaunchDarkly keeps elsewhere.
ODD_FLAGS = {
    "live-malformed": {"fallthrough": {}},
    "live-big": {"rules": [{"id": "big", "clauses": [clause("segmentMatch", "", ["big"])], "variation": 1}]},
}
ODD_SEGMENTS = {"big": {"unbounded": True, "unboundedContextKind": "user", "generation": 1}}


def exported(of_flags, of_segments):
    """The file as LaunchDarkly serves it to its server-side SDKs."""
    usual = {"version": 1, "on": True, "salt": "salty", "offVariation": 1, "fallthrough": {"variation": 0}}
    kinds = list(VALUES)[1:]
    flags = {
        key: {"key": key, "variations": VALUES[kinds[i % len(kinds)]], **usual, **shape}
        for i, (key, shape) in enumerate(of_flags.items())
    }
    segments = {key: {"key": key, "version": 1, "salt": "pepper", **shape} for key, shape in of_segments.items()}
    return {"flags": flags, "segments": segments}
