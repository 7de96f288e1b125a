import com.fasterxml.jackson.databind.JsonNode;
import com.launchdarkly.sdk.ContextKind;
import com.launchdarkly.sdk.EvaluationDetail;
import com.launchdarkly.sdk.EvaluationReason;
import com.launchdarkly.sdk.LDContext;
import com.launchdarkly.sdk.LDValue;
import com.launchdarkly.sdk.json.JsonSerialization;
import com.launchdarkly.sdk.server.Components;
import com.launchdarkly.sdk.server.LDClient;
import com.launchdarkly.sdk.server.LDConfig;
import java.time.Duration;
import java.util.Map;

/** LaunchDarkly's server-side SDK for Java: `ServerSdk streaming|polling|data-system`. */
final class ServerSdk {
    private final Program program;
    private final String mode;
    private final boolean isPolling;
    private final LDContext user = LDContext.builder("live-user").set("plan", "gold").build();
    private final LDClient client;

    private ServerSdk(Program program, String mode) {
        this.program = program;
        this.mode = mode;
        isPolling = mode.equals("polling");
        if (isPolling) {
            // The shortest interval that the SDK allows is 30 s.
            program.patienceMillis = 75_000;
        }
        client = connect(false);
    }

    public static void main(String[] args) {
        Program.run(program -> {
            ServerSdk sdk = new ServerSdk(program, args[0]);
            sdk.evaluates();
            sdk.agrees();
            sdk.follows();
            sdk.survives();
            sdk.reports();
            sdk.client.close();
        });
    }

    private LDClient connect(boolean sendsEvents) {
        return connect(program.world.get("url").asText(), Duration.ofSeconds(20), sendsEvents);
    }

    private LDClient connect(String url, Duration startWait, boolean sendsEvents) {
        LDConfig.Builder config = new LDConfig.Builder()
            .serviceEndpoints(Components.serviceEndpoints().relayProxy(url))
            .startWait(startWait)
            .logging(Components.noLogging())
            .diagnosticOptOut(true);
        if (sendsEvents) {
            config.events(Components.sendEvents().flushInterval(Duration.ofSeconds(1)));
        } else {
            config.events(Components.noEvents());
        }
        if (isPolling) {
            config.dataSource(Components.pollingDataSource());
        } else if (mode.equals("data-system")) {
            config.dataSystem(Components.dataSystem().defaultMode());
        }
        return new LDClient(program.world.get("token").asText(), config.build());
    }

    private EvaluationDetail<LDValue> detail(String flag, LDContext context) {
        return client.jsonValueVariationDetail(flag, context, LDValue.ofNull());
    }

    private Object value(String flag) {
        return detail(flag, user).getValue().toJsonString();
    }

    private Object kind(String flag) {
        return detail(flag, user).getReason().getKind().toString();
    }

    private void evaluates() throws Exception {
        program.check("initialised", client.isInitialized(), true);
        program.check("boolean", client.boolVariation("live-boolean", user, true), false);
        program.check("string", client.stringVariation("live-string", user, "none"), "red");
        program.check("whole number", client.intVariation("live-number", user, 0), 1);
        program.check("number", client.doubleVariation("live-number", user, 0), 1.0);
        program.check("json", value("live-json"), "{\"a\":[1,{\"b\":null}]}");
        EvaluationDetail<String> unknown = client.stringVariationDetail("unknown", user, "none");
        program.check("unknown flag", unknown.getReason().getErrorKind(), EvaluationReason.ErrorKind.FLAG_NOT_FOUND);
        EvaluationDetail<String> malformed = client.stringVariationDetail("live-malformed", user, "none");
        program.check("malformed", malformed.getReason().getErrorKind(), EvaluationReason.ErrorKind.MALFORMED_FLAG);
        EvaluationDetail<String> nobody = client.stringVariationDetail("live-string", LDContext.create(""), "none");
        program.check("for nobody", nobody.getReason().getErrorKind(), EvaluationReason.ErrorKind.USER_NOT_SPECIFIED);
        EvaluationDetail<LDValue> big = detail("live-big", user);
        program.check("a big segment, which is sent as an ordinary one", big.getReason(), EvaluationReason.fallthrough());
        // One whose server is not there.
        LDClient waiting = connect("http://127.0.0.1:1", Duration.ZERO, false);
        EvaluationDetail<String> early = waiting.stringVariationDetail("live-string", user, "none");
        waiting.close();
        program.check("before it is ready", early.getReason().getErrorKind(), EvaluationReason.ErrorKind.CLIENT_NOT_READY);
        EvaluationDetail<Boolean> mistyped = client.boolVariationDetail("live-string", user, true);
        program.check("wrong type", mistyped.getReason().getErrorKind(), EvaluationReason.ErrorKind.WRONG_TYPE);
    }

    private static LDContext read(JsonNode context) throws Exception {
        return JsonSerialization.deserialize(context.toString(), LDContext.class);
    }

    private void agrees() throws Exception {
        program.eachExpected((context, key, expected) -> {
            EvaluationDetail<LDValue> detail = detail(key, read(context));
            String value = Program.plain(Program.JSON.readTree(detail.getValue().toJsonString()));
            String is = value + Program.plain(Program.JSON.readTree(JsonSerialization.serialize(detail.getReason())));
            String asked = Program.plain(expected.get(0)) + Program.plain(expected.get(3));
            if (!is.equals(asked)) {
                program.check(key + " for " + context, is, asked);
            }
        });
        program.checkEdges((context, key, expected) -> program.check(
            "at the edge of a slice of " + key, detail(key, read(context)).getValue().toJsonString(), expected.toString()));
    }

    private void turn(String flag, String kind) throws Exception {
        program.change(flag, Map.of("kind", kind));
    }

    private void follows() throws Exception {
        program.serves("live-boolean", "v0");
        if (!isPolling) {
            program.becomes("another fallthrough", () -> value("live-boolean"), "true");
        }
        program.addRule();
        if (!isPolling) {
            program.becomes("a rule", () -> kind("live-rule"), "RULE_MATCH");
        }
        turn("live-number", "turnFlagOff");
        program.becomes("off", () -> kind("live-number"), "OFF");
        program.becomes("another fallthrough", () -> value("live-boolean"), "true");
        program.becomes("a rule", () -> kind("live-rule"), "RULE_MATCH");
        program.check("not in the segment", kind("live-segment"), "FALLTHROUGH");
        program.enterSegment();
        program.deleteFlag();
        turn("live-number", "turnFlagOn");
        program.becomes("in the segment", () -> kind("live-segment"), "RULE_MATCH");
        program.becomes("a flag that was deleted", () -> kind("live-gone"), "ERROR");
        program.becomes("on", () -> kind("live-number"), "FALLTHROUGH");
    }

    private void survives() throws Exception {
        program.outage("values stay through an outage", () -> value("live-boolean"), "true");
        program.serves("live-boolean", "v1");
        program.becomes("catches up after an outage", () -> value("live-boolean"), "false");
        program.serves("live-boolean", "v0");
        if (!isPolling) {
            program.becomes("follows after an outage", () -> value("live-boolean"), "true");
        }
    }

    /** Uses a second client, because the first reports nothing. */
    private void reports() throws Exception {
        LDClient reporter = connect(true);
        LDContext shop = LDContext.create(ContextKind.of("organization"), "live-shop");
        LDContext other = LDContext.createMulti(LDContext.create("other-user"), shop);
        evaluate(reporter, 7, "live-string", user);
        evaluate(reporter, 5, "live-rule", user);
        reporter.flush();
        // Whoever flushes again before the first payload is taken up, and closes at once, loses the second: the SDK's queue has one place.
        program.becomes("what was flushed is counted", () -> program.counts("live-rule"), "{v0=5}");
        evaluate(reporter, 4, "live-rule", other);
        evaluate(reporter, 3, "nobody-has-it", other);
        for (int i = 0; i < 2; i++) {
            reporter.trackMetric("bought", user, LDValue.ofNull(), 19.5);
        }
        reporter.track("looked", other);
        reporter.close();
        program.checkCounts();
    }

    private static void evaluate(LDClient client, int times, String flag, LDContext context) {
        for (int i = 0; i < times; i++) {
            client.jsonValueVariation(flag, context, LDValue.ofNull());
        }
    }
}
