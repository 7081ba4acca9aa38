// The tenant service on the JDK alone: java Tenant.java
//
// POST /tenant stores a tenant and has the notification service told by app ID through the sidecar
// (header `dapr-app-id` on a path the sidecar does not know), or straight when NOTIFY_URL is set.
// Switches: NOTIFY_MODE=sync|async|none, INVOKE=header|path, NOTIFY_URL=<url>.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Tenant {
    static final String MODE = choice("NOTIFY_MODE", "sync", "async", "none");
    static final String INVOKE = choice("INVOKE", "header", "path");
    static final String DIRECT = System.getenv().getOrDefault("NOTIFY_URL", "");
    static final String SIDECAR = "http://localhost:" + System.getenv().getOrDefault("DAPR_HTTP_PORT", "3500");

    static final Map<String, String> TENANTS = new ConcurrentHashMap<>();
    // Below 2^53, so that it survives every JSON number type; increasing across restarts.
    static final AtomicLong NUMBERS = new AtomicLong(System.currentTimeMillis() / 1000 * 1_000_000);
    static final AtomicLong CREATED = new AtomicLong();
    static final AtomicLong NOTIFIED = new AtomicLong();
    static final AtomicLong FAILED = new AtomicLong();
    static final ExecutorService BEHIND = Executors.newCachedThreadPool();
    static final HttpClient CLIENT = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(5)).build();

    record Answer(int status, String body) {}

    public static void main(String[] arguments) throws IOException {
        int port = Integer.parseInt(System.getenv().getOrDefault("APP_PORT", "8080"));
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 128);
        server.createContext("/", exchange -> {
            Answer answer;
            try {
                answer = route(exchange);
            } catch (RuntimeException | IOException error) {
                answer = refuse(500, error.toString());
            }
            byte[] body = answer.body().getBytes(StandardCharsets.UTF_8);
            exchange.getResponseHeaders().set("content-type", "application/json");
            exchange.sendResponseHeaders(answer.status(), body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        ExecutorService handlers = Executors.newFixedThreadPool(64);
        server.setExecutor(handlers);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> server.stop(0)));
        server.start();
        System.out.println("tenant-service listens on port " + port);
    }

    static Answer route(HttpExchange exchange) throws IOException {
        String path = exchange.getRequestURI().getPath();
        String body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
        if (exchange.getRequestMethod().equals("POST") && path.equals("/tenant")) {
            return create(body);
        }
        if (path.startsWith("/tenant/")) {
            String tenant = TENANTS.get(path.substring("/tenant/".length()));
            return tenant == null ? refuse(404, "no such tenant") : new Answer(200, tenant);
        }
        if (path.equals("/stats")) {
            return new Answer(200, "{\"created\":" + CREATED + ",\"notified\":" + NOTIFIED + ",\"failed\":" + FAILED + "}");
        }
        return path.equals("/healthz") ? new Answer(200, "{}") : refuse(404, "no such path");
    }

    static Answer create(String body) {
        String name = field(body, "name");
        String email = field(body, "emailId");
        String phone = field(body, "phone");
        if (name.isBlank()) {
            return refuse(400, "name: expected a non-empty text");
        }
        if (email.indexOf('@') < 1 || email.endsWith("@")) {
            return refuse(400, "emailId: expected an address such as a@b.c");
        }
        String id = Long.toString(NUMBERS.getAndIncrement());
        String answer = "{\"id\":\"" + id + "\",\"name\":\"" + name + "\",\"emailId\":\"" + email + "\"}";
        String tenant = phone.isBlank() ? answer : answer.substring(0, answer.length() - 1) + ",\"phone\":\"" + phone + "\"}";
        TENANTS.put(id, tenant);
        CREATED.incrementAndGet();
        switch (MODE) {
            case "async" -> BEHIND.submit(() -> report(id, notify(tenant)));
            case "sync" -> {
                String reason = notify(tenant);
                if (!reason.isEmpty()) {
                    report(id, reason);
                    return refuse(502, reason);
                }
            }
            default -> { }
        }
        return new Answer(201, answer);
    }

    /** Tells the notification service; an empty text is success, any other the reason of the failure. */
    static String notify(String tenant) {
        String url = !DIRECT.isEmpty() ? DIRECT
            : INVOKE.equals("path") ? SIDECAR + "/v1.0/invoke/notification-service/method/notification"
            : SIDECAR + "/notification";
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url))
            .timeout(Duration.ofSeconds(30))
            .header("content-type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(tenant));
        if (DIRECT.isEmpty() && INVOKE.equals("header")) {
            request.header("dapr-app-id", "notification-service");
        }
        try {
            HttpResponse<String> response = CLIENT.send(request.build(), HttpResponse.BodyHandlers.ofString());
            if (response.statusCode() / 100 == 2) {
                NOTIFIED.incrementAndGet();
                return "";
            }
            FAILED.incrementAndGet();
            return "notification answered " + response.statusCode() + ": " + response.body();
        } catch (IOException error) {
            FAILED.incrementAndGet();
            return error.toString();
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            FAILED.incrementAndGet();
            return "interrupted";
        }
    }

    static void report(String id, String reason) {
        if (!reason.isEmpty()) {
            System.err.println("notification of tenant " + id + ": " + reason);
        }
    }

    static Answer refuse(int status, String reason) {
        String text = reason.replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\p{Cntrl}", " ");
        return new Answer(status, "{\"error\":\"" + text + "\"}");
    }

    /** A text field of a flat JSON object, as written there (escapes stay), empty when absent. The JDK has no JSON parser. */
    static String field(String json, String name) {
        Matcher matcher = Pattern.compile("\"" + name + "\"\\s*:\\s*\"((?:[^\"\\\\]|\\\\.)*)\"").matcher(json);
        return matcher.find() ? matcher.group(1) : "";
    }

    static String choice(String variable, String... choices) {
        String value = System.getenv().getOrDefault(variable, "");
        for (String choice : choices) {
            if (choice.equalsIgnoreCase(value)) {
                return choice;
            }
        }
        if (!value.isEmpty()) {
            System.err.println("environment variable " + variable + " is \"" + value + "\": expected " + String.join(", ", choices));
            System.exit(1);
        }
        return choices[0];
    }
}
