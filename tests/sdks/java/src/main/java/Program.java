import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;

/** What the programs in Java share: the world, the server, and checks. What each does is in ../../../../README.md. */
final class Program {
    static final ObjectMapper JSON = new ObjectMapper();
    private static final String PRODUCTION = "/environments/production";
    private static final String REASONS = "[FALLTHROUGH, OFF, PREREQUISITE_FAILED, RULE_MATCH, TARGET_MATCH]";

    final JsonNode world;
    long patienceMillis = 45_000;
    private final HttpClient http = HttpClient.newHttpClient();
    private int nChecks;
    private String note = "";

    private Program() throws Exception {
        world = JSON.readTree(Files.readString(Path.of(System.getenv("SDKS_WORLD"))));
    }

    /** The parts of a program. */
    interface Parts {
        void run(Program program) throws Exception;
    }

    /** Visits a flag of a context. */
    interface Visit {
        void visit(JsonNode context, String key, JsonNode expected) throws Exception;
    }

    static void run(Parts parts) {
        try {
            Program program = new Program();
            parts.run(program);
            System.out.println("passed " + program.nChecks + " checks" + program.note);
            System.exit(0);
        } catch (Throwable problem) {
            problem.printStackTrace();
            System.out.println("failed " + problem.getMessage());
            System.exit(1);
        }
    }

    void check(String what, Object is, Object expected) {
        if (!Objects.equals(is, expected)) {
            throw new AssertionError(what + ": " + is + " instead of " + expected);
        }
        nChecks++;
    }

    void becomes(String what, Callable<Object> ask, Object expected) throws Exception {
        long deadline = System.currentTimeMillis() + patienceMillis;
        Object is = ask.call();
        while (!Objects.equals(is, expected) && System.currentTimeMillis() < deadline) {
            Thread.sleep(20);
            is = ask.call();
        }
        check(what, is, expected);
    }

    JsonNode send(String method, String path, Object body) throws Exception {
        URI uri = URI.create(world.get("url").asText() + "/api/v1/projects/shop" + path);
        HttpRequest request = HttpRequest.newBuilder(uri)
            .header("Authorization", "Bearer " + world.get("admin").asText())
            .header("Content-Type", "application/json")
            .method(method, HttpRequest.BodyPublishers.ofString(body == null ? "" : JSON.writeValueAsString(body)))
            .build();
        HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() >= 300) {
            throw new AssertionError(method + " " + path + ": " + answer.statusCode() + " " + answer.body());
        }
        return JSON.readTree(answer.body());
    }

    void change(String flag, Map<String, Object> instruction) throws Exception {
        send("PATCH", PRODUCTION + "/flags/" + flag, Map.of("instructions", new Object[] {instruction}));
    }

    void serves(String flag, String variation) throws Exception {
        change(flag, Map.of("kind", "updateFallthroughVariationOrRollout", "variation", variation));
    }

    void addRule() throws Exception {
        Object clause = Map.of("contextKind", "user", "attribute", "plan", "op", "in", "values", new String[] {"gold"});
        change("live-rule", Map.of("kind", "addRule", "clauses", new Object[] {clause}, "variation", "v0"));
    }

    void enterSegment() throws Exception {
        send("PUT", PRODUCTION + "/segments/live", Map.of("key", "live", "included", new String[] {"live-user"}));
    }

    void deleteFlag() throws Exception {
        send("DELETE", "/flags/live-gone", null);
    }

    /** Keeps the server away for the outage, and looks again and again what is answered meanwhile. */
    void outage(String what, Callable<Object> ask, Object expected) throws Exception {
        server("kill");
        long end = System.currentTimeMillis() + (long) (Double.parseDouble(System.getenv("SDKS_OUTAGE_SECS")) * 1000);
        do {
            check(what, ask.call(), expected);
            Thread.sleep(200);
        } while (System.currentTimeMillis() < end);
        server("start");
    }

    private void server(String what) throws Exception {
        check("server " + what, new ProcessBuilder(System.getenv("SDKS_SERVER"), what).inheritIO().start().waitFor(), 0);
    }

    void eachExpected(Visit visit) throws Exception {
        TreeSet<String> kinds = new TreeSet<>();
        for (JsonNode each : world.get("expected")) {
            for (Map.Entry<String, JsonNode> flag : each.get("flags").properties()) {
                kinds.add(flag.getValue().get(1).asText());
                visit.visit(each.get("context"), flag.getKey(), flag.getValue());
            }
        }
        check("every reason was among them", kinds.toString(), REASONS);
    }

    /** Checks that the cases at the edge of a slice come out as on the server. */
    void checkEdges(Visit visit) throws Exception {
        for (JsonNode edge : world.get("edges")) {
            visit.visit(edge.get("context"), edge.get("key").asText(), edge.get("value"));
        }
        int n = world.get("edges").size();
        note = ", " + n + " of " + n + " at the edge of a slice as on the server";
    }

    /** Checks what the server has counted: 7 of `live-string`, 5 and 4 of `live-rule`, and an unknown flag. */
    void checkCounts() throws Exception {
        becomes("what was evaluated is counted", () -> counts("live-string"), "{v0=7}");
        becomes("each variation is counted", () -> counts("live-rule"), "{v0=5, v1=4}");
        becomes("an unknown flag is told",
            () -> send("GET", PRODUCTION + "/unknown-flags", null).get("items").findValuesAsText("flag").contains("nobody-has-it"),
            true);
    }

    String counts(String flag) throws Exception {
        TreeMap<String, Long> counts = new TreeMap<>();
        for (JsonNode each : send("GET", PRODUCTION + "/flags/" + flag + "/usage", null).get("variations")) {
            counts.put(each.get("variation").asText(), each.get("count").asLong());
        }
        return counts.toString();
    }

    /** JSON in a form in which 1 and 1.0 are equal. */
    static String plain(JsonNode value) {
        if (value == null || value.isNull()) {
            return "null";
        }
        if (value.isNumber()) {
            return Double.toString(value.asDouble());
        }
        if (value.isObject()) {
            TreeMap<String, String> fields = new TreeMap<>();
            value.properties().forEach(field -> fields.put(field.getKey(), plain(field.getValue())));
            return fields.toString();
        }
        if (value.isArray()) {
            StringBuilder items = new StringBuilder("[");
            value.forEach(item -> items.append(plain(item)).append(','));
            return items + "]";
        }
        return value.toString();
    }
}
