"""The 100 flags that the server is given, of mixed shapes, and what is known of the contexts."""

N_FLAGS = 100
ATTRIBUTES = {"email": "ada@example.com", "country": "DE", "plan": "gold", "age": 34, "appVersion": "2.14.0"}

RULE_CLAUSES = [
    {"contextKind": "user", "attribute": "country", "op": "in", "values": ["AT", "CH", "DE"]},
    {"contextKind": "user", "attribute": "age", "op": "greaterThan", "values": [18]},
]
PATTERN_CLAUSES = [{"contextKind": "user", "attribute": "email", "op": "matches", "values": [r"@example\.(com|org)$"]}]
TEXTS = [{"key": key, "value": f"the text of {key}"} for key in ("a", "b", "c")]
CONFIGURATIONS = [
    {"key": "normal", "value": {"maxResults": 100, "timeoutSeconds": 2.0, "indexes": ["products", "articles"]}},
    {"key": "reduced", "value": {"maxResults": 20, "timeoutSeconds": 0.5, "indexes": ["products"]}},
]
ON = {"kind": "turnFlagOn"}


def all_flags():
    """Each flag's definition and the instructions that configure it."""
    return [flag(i) for i in range(N_FLAGS)]


def flag(i):
    shape = i % 10
    key = f"flag-{i:03}"
    boolean = {"key": key, "kind": "boolean"}
    texts = {"key": key, "kind": "string", "variations": TEXTS}
    fallthrough = {"kind": "updateFallthroughVariationOrRollout"}
    if shape == 0:
        return boolean, [ON]
    if shape in (1, 2):
        return boolean, [ON, {**fallthrough, "rolloutWeights": {"on": 25_000, "off": 75_000}}]
    if shape in (3, 4, 5):
        return texts, [ON, {**fallthrough, "rolloutWeights": {"a": 33_000, "b": 33_000, "c": 34_000}}]
    if shape == 6:
        return texts, [ON, {"kind": "addRule", "clauses": RULE_CLAUSES, "variation": "b"}]
    if shape == 7:
        return boolean, [ON, {"kind": "addRule", "clauses": PATTERN_CLAUSES, "variation": "on"}]
    if shape == 8:
        targets = [f"user-{k}" for k in range(20)]
        return texts, [ON, {"kind": "addTargets", "values": targets, "variation": "c"}]
    return {"key": key, "kind": "json", "variations": CONFIGURATIONS}, [ON]
