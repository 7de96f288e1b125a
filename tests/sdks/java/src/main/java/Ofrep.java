import com.fasterxml.jackson.databind.JsonNode;
import com.google.common.collect.ImmutableList;
import com.google.common.collect.ImmutableMap;
import dev.openfeature.contrib.providers.ofrep.OfrepProvider;
import dev.openfeature.contrib.providers.ofrep.OfrepProviderOptions;
import dev.openfeature.sdk.Client;
import dev.openfeature.sdk.EvaluationContext;
import dev.openfeature.sdk.FlagEvaluationDetails;
import dev.openfeature.sdk.ImmutableContext;
import dev.openfeature.sdk.MutableStructure;
import dev.openfeature.sdk.OpenFeatureAPI;
import dev.openfeature.sdk.Structure;
import dev.openfeature.sdk.Value;
import java.util.List;
import java.util.Map;

/** OpenFeature's SDK for Java with its provider for OFREP. */
final class Ofrep {
    /** OFREP's words for each reason. */
    private static final Map<String, List<String>> WORDS = Map.of(
        "OFF", List.of("DEFAULT"),
        "FALLTHROUGH", List.of("STATIC", "DEFAULT", "SPLIT"),
        "RULE_MATCH", List.of("TARGETING_MATCH", "SPLIT"),
        "TARGET_MATCH", List.of("TARGETING_MATCH"),
        "PREREQUISITE_FAILED", List.of("DEFAULT"));

    private final Program program;
    private final Client client;
    private final EvaluationContext user = new ImmutableContext("live-user", Map.of("plan", new Value("gold")));

    private Ofrep(Program program) {
        this.program = program;
        OfrepProviderOptions options = OfrepProviderOptions.builder()
            .baseUrl(program.world.get("url").asText())
            .headers(ImmutableMap.of("Authorization", ImmutableList.of("Bearer " + program.world.get("token").asText())))
            .build();
        OpenFeatureAPI.getInstance().setProviderAndWait(OfrepProvider.constructProvider(options));
        client = OpenFeatureAPI.getInstance().getClient();
    }

    public static void main(String[] args) {
        Program.run(program -> {
            Ofrep sdk = new Ofrep(program);
            sdk.evaluates();
            sdk.agrees();
            sdk.follows();
            sdk.survives();
        });
    }

    /** Evaluates a flag whose value is like another. */
    private FlagEvaluationDetails<?> detail(String flag, JsonNode like, EvaluationContext context) {
        if (like.isBoolean()) {
            return client.getBooleanDetails(flag, like.asBoolean(), context);
        }
        if (like.isTextual()) {
            return client.getStringDetails(flag, like.asText(), context);
        }
        // This provider gives whole numbers only to those who ask for them.
        if (like.isInt()) {
            return client.getIntegerDetails(flag, like.asInt(), context);
        }
        if (like.isNumber()) {
            return client.getDoubleDetails(flag, like.asDouble(), context);
        }
        return client.getObjectDetails(flag, new Value(new MutableStructure()), context);
    }

    private String reason(String flag, boolean otherwise) {
        return client.getBooleanDetails(flag, otherwise, user).getReason();
    }

    private static String code(FlagEvaluationDetails<?> found) {
        return found.getValue() + " " + found.getErrorCode();
    }

    private void evaluates() throws Exception {
        FlagEvaluationDetails<Boolean> found = client.getBooleanDetails("live-boolean", true, user);
        program.check("boolean", found.getValue() + found.getVariant() + found.getReason(), "falsev1STATIC");
        program.check("string", client.getStringValue("live-string", "none", user), "red");
        program.check("whole number", client.getIntegerValue("live-number", 0, user), 1);
        Value json = client.getObjectValue("live-json", new Value(), user);
        program.check("json", plain(json), "{a=[1.0,{b=null},]}");
        program.check("unknown flag", code(client.getStringDetails("unknown", "none", user)), "none FLAG_NOT_FOUND");
        program.check("wrong type", code(client.getBooleanDetails("live-string", true, user)), "true TYPE_MISMATCH");
        // This provider takes every answer 400 for a wrong context.
        program.check("malformed", code(client.getStringDetails("live-malformed", "none", user)), "none INVALID_CONTEXT");
        EvaluationContext nobody = new ImmutableContext(Map.of("plan", new Value("gold")));
        program.check("divided without a key", code(client.getBooleanDetails("flag-44", true, nobody)), "true INVALID_CONTEXT");
    }

    private static String plain(Object value) throws Exception {
        Object open = value instanceof Value ? opened((Value) value) : value;
        return Program.plain(Program.JSON.valueToTree(open));
    }

    private static Object opened(Value value) {
        if (value.isStructure()) {
            Structure structure = value.asStructure();
            java.util.TreeMap<String, Object> fields = new java.util.TreeMap<>();
            structure.keySet().forEach(key -> fields.put(key, opened(structure.getValue(key))));
            return fields;
        }
        if (value.isList()) {
            return value.asList().stream().map(Ofrep::opened).toList();
        }
        return value.asObject();
    }

    private static EvaluationContext read(JsonNode context) {
        Map<String, Object> attributes = Program.JSON.convertValue(context, new com.fasterxml.jackson.core.type.TypeReference<>() {});
        Object key = attributes.remove("key");
        Map<String, Value> values = Structure.mapToStructure(attributes).asMap();
        return key == null ? new ImmutableContext(values) : new ImmutableContext(key.toString(), values);
    }

    private void agrees() throws Exception {
        program.eachExpected((context, key, expected) -> {
            FlagEvaluationDetails<?> found = detail(key, expected.get(0), read(context));
            Integer index = found.getFlagMetadata().getInteger("ruleIndex");
            String is = plain(found.getValue()) + " " + found.getFlagMetadata().getString("reason") + " " + index;
            String asked = Program.plain(expected.get(0)) + " " + expected.get(1).asText() + " "
                + (expected.get(2).isNull() ? null : expected.get(2).asInt());
            if (!is.equals(asked)) {
                program.check(key + " for " + context, is, asked);
            }
            if (!WORDS.get(expected.get(1).asText()).contains(found.getReason())) {
                program.check("why " + key + " for " + context, found.getReason(), WORDS.get(expected.get(1).asText()));
            }
        });
    }

    /** Each change is there as soon as it has been acknowledged. */
    private void follows() throws Exception {
        program.serves("live-boolean", "v0");
        program.check("another fallthrough", client.getBooleanValue("live-boolean", false, user), true);
        program.addRule();
        program.check("a rule", reason("live-rule", false), "TARGETING_MATCH");
        program.change("live-string", Map.of("kind", "turnFlagOff"));
        program.check("off", client.getStringDetails("live-string", "none", user).getReason(), "DEFAULT");
        program.change("live-string", Map.of("kind", "turnFlagOn"));
        program.check("on", client.getStringDetails("live-string", "none", user).getReason(), "STATIC");
        program.enterSegment();
        program.check("in the segment", reason("live-segment", false), "TARGETING_MATCH");
        program.deleteFlag();
        program.check("a flag that was deleted", code(client.getBooleanDetails("live-gone", true, user)), "true FLAG_NOT_FOUND");
    }

    private void survives() throws Exception {
        program.outage("the default and an error in an outage", () -> {
            FlagEvaluationDetails<Boolean> found = client.getBooleanDetails("live-boolean", false, user);
            return code(found) + " " + found.getReason();
        }, "false GENERAL ERROR");
        program.becomes("answers after an outage", () -> client.getBooleanValue("live-boolean", false, user), true);
        program.serves("live-boolean", "v1");
        program.check("follows after an outage", client.getBooleanValue("live-boolean", true, user), false);
    }
}
