import com.sun.net.httpserver.HttpServer;
import io.dapr.client.DaprClient;
import io.dapr.client.DaprHttp;
import io.dapr.client.DaprPreviewClient;
import io.dapr.client.domain.ConversationInput;
import io.dapr.client.domain.ConversationRequest;
import io.dapr.client.domain.DecryptRequestAlpha1;
import io.dapr.client.domain.DeleteJobRequest;
import io.dapr.client.domain.EncryptRequestAlpha1;
import io.dapr.client.domain.GetJobRequest;
import io.dapr.client.domain.HttpExtension;
import io.dapr.client.domain.JobSchedule;
import io.dapr.client.domain.ScheduleJobRequest;
import io.dapr.client.domain.State;
import io.dapr.client.domain.StateOptions;
import io.dapr.client.domain.TransactionalStateOperation;
import io.dapr.client.domain.TransactionalStateOperation.OperationType;
import io.dapr.exceptions.DaprException;
import io.dapr.utils.TypeRef;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** The sidecar through the Java SDK's client: a line for each test and one sum. */
public final class Suite {
  private static final String STORE = "statestore";
  private static final StateOptions FIRST_WRITE =
      new StateOptions(StateOptions.Consistency.STRONG, StateOptions.Concurrency.FIRST_WRITE);

  private static int passed;
  private static int failed;
  private static int skipped;
  private static Path work;
  private static Sidecar sidecar;
  private static DaprClient client;

  private interface Body {
    void run() throws Exception;
  }

  public static void main(String[] arguments) throws Exception {
    work = Files.createTempDirectory("pillion-sdk-");
    HttpServer app = Sidecar.echoApp();
    try (Sidecar callee = new Sidecar(work, "java-echo", app.getAddress().getPort(), null);
        Sidecar one = new Sidecar(work, "java-one", null, null);
        DaprClient calleeClient = callee.builder(null).build();
        DaprClient oneClient = one.builder(null).build()) {
      calleeClient.waitForSidecar(20_000).block();
      sidecar = one;
      client = oneClient;
      suite();
    } finally {
      app.stop(0);
      try (var files = Files.walk(work)) {
        files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
      }
    }
    System.out.printf("%d passed, %d failed, %d skipped%n", passed, failed, skipped);
    System.exit(failed == 0 ? 0 : 1);
  }

  private static void suite() throws Exception {
    test("wait for sidecar", () -> client.waitForSidecar(20_000).block());
    test("metadata", Suite::metadata);
    test("state: save, get, delete", Suite::state);
    test("state: a stale etag is aborted", Suite::etag);
    test("state: bulk", Suite::bulkState);
    test("state: transaction", Suite::transaction);
    test("state: expiry", Suite::expiry);
    test("state: a store that is not there", () -> {
      DaprException error = failure(client.getState("no-store", "key", String.class));
      equal("INVALID_ARGUMENT", error.getErrorCode());
      isTrue(error.getMessage().contains("no-store"), error.getMessage());
    });
    test("secrets", Suite::secrets);
    test("publish and streaming subscription", Suite::publish);
    test("bulk publish", Suite::bulkPublish);
    test("a pubsub that is not there", () ->
        equal("INVALID_ARGUMENT", failure(client.publishEvent("no-pubsub", "topic", "x")).getErrorCode()));
    test("invoke: verbs, query, body", Suite::invoke);
    test("invoke: status of the app is passed on", () -> {
      for (int status : new int[] {400, 404, 418, 503}) {
        equal(status, failure(client.invokeMethod("java-echo", "fail/" + status, "x", HttpExtension.POST)).getHttpStatusCode());
      }
    });
    test("invoke: an app that is not there", () -> {
      DaprException error = failure(client.invokeMethod("java-nobody", "method", "x", HttpExtension.POST));
      equal(500, error.getHttpStatusCode());
      equal("ERR_DIRECT_INVOKE", error.getErrorCode());
    });
    test("JDK client with an offer of h2c: GET", Suite::upgradeGet);
    test("JDK client with an offer of h2c: POST, PUT, DELETE", Suite::upgradePost);
    test("JDK client with an offer of h2c: many at a time", Suite::upgradeTogether);
    test("API token", Suite::token);
    test("shutdown ends the process", Suite::shutdown);
    test("blocks without components say so", Suite::withoutComponents);
  }

  private static void metadata() {
    var metadata = client.getMetadata().block();
    equal("java-one", metadata.getId());
    Map<String, String> types = new TreeMap<>();
    metadata.getComponents().forEach(each -> types.put(each.getName(), each.getType() + "/" + each.getVersion()));
    equal(Map.of("statestore", "state.in-memory/v1", "pubsub", "pubsub.in-memory/v1", "secrets", "secretstores.local.file/v1"), types);
  }

  private static void state() {
    client.saveState(STORE, "text", "grüße").block();
    equal("grüße", read("text"));
    client.saveState(STORE, "map", Map.of("n", 1)).block();
    equal(Map.of("n", 1), client.getState(STORE, "map", Map.class).block().getValue());
    client.deleteState(STORE, "text").block();
    equal(null, read("text"));
  }

  private static void etag() {
    client.saveState(STORE, "etag", "one").block();
    String etag = client.getState(STORE, "etag", String.class).block().getEtag();
    client.saveState(STORE, "etag", etag, "two", FIRST_WRITE).block();
    equal("ABORTED", failure(client.saveState(STORE, "etag", etag, "no", FIRST_WRITE)).getErrorCode());
    equal("ABORTED", failure(client.deleteState(STORE, "etag", etag, FIRST_WRITE)).getErrorCode());
    equal("two", read("etag"));
  }

  private static void bulkState() {
    List<State<?>> states = List.of(new State<>("bulk-1", "one", ""), new State<>("bulk-2", "two", ""));
    client.saveBulkState(STORE, states).block();
    Map<String, String> got = new TreeMap<>();
    client.getBulkState(STORE, List.of("bulk-1", "bulk-2", "bulk-3"), String.class).block()
        .forEach(each -> got.put(each.getKey(), "" + each.getValue()));
    equal(Map.of("bulk-1", "one", "bulk-2", "two", "bulk-3", "null"), got);
  }

  private static void transaction() {
    client.saveState(STORE, "old", "there").block();
    client.executeStateTransaction(STORE, List.of(
        new TransactionalStateOperation<>(OperationType.UPSERT, new State<>("new", "one", "")),
        new TransactionalStateOperation<>(OperationType.DELETE, new State<>("old")))).block();
    equal("one", read("new"));
    equal(null, read("old"));
  }

  private static void expiry() throws Exception {
    client.saveState(STORE, "short", null, "life", Map.of("ttlInSeconds", "1"), null).block();
    equal("life", read("short"));
    Thread.sleep(1500);
    equal(null, read("short"));
  }

  private static void secrets() {
    equal(Map.of("password", "open sesame"), client.getSecret("secrets", "password").block());
    equal(Map.of("password", Map.of("password", "open sesame"), "user", Map.of("user", "ali")),
        client.getBulkSecret("secrets").block());
    equal("INTERNAL", failure(client.getSecret("secrets", "nothing")).getErrorCode());
  }

  private static void publish() throws Exception {
    try (DaprPreviewClient preview = sidecar.builder(null).buildPreviewClient()) {
      BlockingQueue<String> events = new LinkedBlockingQueue<>();
      Disposable subscription = preview.subscribeToEvents("pubsub", "plain", TypeRef.STRING).subscribe(events::add);
      subscribed("plain");
      eventually(() -> {
        client.publishEvent("pubsub", "plain", "first").block();
        client.publishEvent("pubsub", "plain", "second").block();
        equal(new TreeSet<>(List.of("first", "second")), received(events, 2));
      });
      subscription.dispose();
    }
  }

  private static void bulkPublish() throws Exception {
    try (DaprPreviewClient preview = sidecar.builder(null).buildPreviewClient()) {
      BlockingQueue<String> events = new LinkedBlockingQueue<>();
      Disposable subscription = preview.subscribeToEvents("pubsub", "bulk", TypeRef.STRING).subscribe(events::add);
      subscribed("bulk");
      eventually(() -> {
        var answer = preview.publishEvents("pubsub", "bulk", "application/json", "one", "two", "three").block();
        equal(0, answer.getFailedEntries().size());
        equal(new TreeSet<>(List.of("one", "two", "three")), received(events, 3));
      });
      subscription.dispose();
    }
  }

  /** The stream is opened in the background: metadata shows when the sidecar knows it, a little before it delivers. */
  private static void subscribed(String topic) throws Exception {
    eventually(() -> isTrue(client.getMetadata().block().getSubscriptions().stream()
        .anyMatch(each -> each.getTopic().equals(topic)), "no subscription to " + topic));
  }

  private static void invoke() throws Exception {
    eventually(() -> call("ready", "", HttpExtension.GET));
    Map<String, HttpExtension> verbs = Map.of("POST", HttpExtension.POST, "PUT", HttpExtension.PUT, "PATCH", HttpExtension.PATCH);
    verbs.forEach((verb, extension) -> equal(verb + " /a/b body", call("a/b", "body", extension)));
    // The SDK sends no body with this verb.
    equal("DELETE /a/b ", call("a/b", "", HttpExtension.DELETE));
    HttpExtension query = new HttpExtension(DaprHttp.HttpMethods.GET, Map.of("q", List.of("a b")), null);
    equal("GET /look?q=a+b ", call("look", "", query).replace("%20", "+"));
  }

  private static String call(String method, String body, HttpExtension extension) {
    Map<String, String> headers = Map.of("content-type", "text/plain");
    return new String(client.invokeMethod("java-echo", method, body.getBytes(), extension, headers).block());
  }

  private static void upgradeGet() throws Exception {
    // A client of its own each time: the offer is made on a connection's first request only.
    Upgrade jdk = new Upgrade(sidecar.httpPort);
    var health = jdk.get("/v1.0/healthz");
    equal("204 ", health.status() + " " + health.body());
    equal("HTTP_2", health.version().name());
    var metadata = new Upgrade(sidecar.httpPort).get("/v1.0/metadata");
    equal(200, metadata.status());
    isTrue(metadata.body().contains("\"id\":\"java-one\""), metadata.body());
    equal(404, new Upgrade(sidecar.httpPort).get("/v1.0/nothing-here").status());
    equal("200 GET /look?q=1 ", text(jdk.get("/v1.0/invoke/java-echo/method/look?q=1")));
    equal("200 GET /again ", text(jdk.get("/v1.0/invoke/java-echo/method/again")));
  }

  private static void upgradePost() throws Exception {
    Upgrade jdk = new Upgrade(sidecar.httpPort);
    equal("204 ", text(jdk.send("POST", "/v1.0/state/statestore", "application/json", "[{\"key\":\"jdk\",\"value\":{\"n\":1}}]")));
    equal("200 {\"n\":1}", text(jdk.get("/v1.0/state/statestore/jdk")));
    equal("204 ", text(jdk.send("DELETE", "/v1.0/state/statestore/jdk", "text/plain", "")));
    equal("204 ", text(jdk.get("/v1.0/state/statestore/jdk")));
    String path = "/v1.0/invoke/java-echo/method/a/b";
    equal("200 POST /a/b body", text(new Upgrade(sidecar.httpPort).send("POST", path, "text/plain", "body")));
    equal("200 PUT /a/b grüße", text(new Upgrade(sidecar.httpPort).send("PUT", path, "text/plain", "grüße")));
    String large = "x".repeat(1 << 20);
    equal("200 POST /a/b " + large, text(new Upgrade(sidecar.httpPort).send("POST", path, "text/plain", large)));
    equal("200 POST /a/b " + large, text(new Upgrade(sidecar.httpPort).sendChunked(path, large)));
    equal(418, new Upgrade(sidecar.httpPort).send("POST", "/v1.0/invoke/java-echo/method/fail/418", "text/plain", "x").status());
  }

  private static void upgradeTogether() throws Exception {
    var answers = new Upgrade(sidecar.httpPort).together(32, "/v1.0/invoke/java-echo/method/many");
    for (int number = 0; number < answers.size(); number++) {
      equal("200 POST /many/" + number + " n" + number, text(answers.get(number)));
    }
  }

  private static String text(Upgrade.Answer answer) {
    return answer.status() + " " + answer.body();
  }

  private static void token() throws Exception {
    try (Sidecar guarded = new Sidecar(work, "java-token", null, "right");
        DaprClient right = guarded.builder("right").build();
        DaprClient wrong = guarded.builder("wrong").build()) {
      right.waitForSidecar(20_000).block();
      right.saveState(STORE, "key", "value").block();
      equal("value", right.getState(STORE, "key", String.class).block().getValue());
      equal("UNAUTHENTICATED", failure(wrong.getState(STORE, "key", String.class)).getErrorCode());
    }
  }

  private static void shutdown() throws Exception {
    try (Sidecar ending = new Sidecar(work, "java-shutdown", null, null); DaprClient its = ending.builder(null).build()) {
      its.waitForSidecar(20_000).block();
      its.shutdown().block();
      isTrue(ending.process.waitFor(15, TimeUnit.SECONDS), "the process goes on");
      equal(0, ending.process.exitValue());
    }
  }

  private static void withoutComponents() throws Exception {
    try (DaprPreviewClient preview = sidecar.builder(null).buildPreviewClient()) {
      Flux<byte[]> text = Flux.just("text".getBytes());
      equal(false, client.unsubscribeConfiguration("id", "configstore").block().getIsUnsubscribed());
      String configuration = "FAILED_PRECONDITION|configuration stores not configured";
      String job = "INTERNAL|scheduler clients are disabled";
      String lock = "FAILED_PRECONDITION|lock store is not configured";
      String keys = "INTERNAL|crypto providers not configured";
      refused(configuration, client.getConfiguration("configstore", "key"));
      refused(configuration, client.subscribeConfiguration("configstore", "key").next());
      refused(job, client.scheduleJob(new ScheduleJobRequest("job", JobSchedule.daily())));
      refused(job, client.getJob(new GetJobRequest("job")));
      refused(job, client.deleteJob(new DeleteJobRequest("job")));
      refused(lock, preview.tryLock("lockstore", "resource", "owner", 5));
      refused(lock, preview.unlock("lockstore", "resource", "owner"));
      refused(keys, preview.encrypt(new EncryptRequestAlpha1("keys", text, "key", "RSA")).next());
      refused(keys, preview.decrypt(new DecryptRequestAlpha1("keys", text)).next());
      ConversationRequest question = new ConversationRequest("llm", List.of(new ConversationInput("hi")));
      refused("INVALID_ARGUMENT|failed finding conversation component llm", preview.converse(question));
    }
  }

  /** The code and the text of the error, with a bar between them. */
  private static void refused(String expected, Mono<?> call) {
    DaprException error = failure(call);
    // The SDK has a code of its own for a stream of bytes that fails; the sidecar's is in the text.
    String told = error.getErrorCode() + " " + error.getMessage();
    for (String part : expected.split("\\|")) {
      isTrue(told.contains(part), part + ": " + told);
    }
  }

  private static String read(String key) {
    return client.getState(STORE, key, String.class).block().getValue();
  }

  /** The events that come within a time that is enough for all. */
  private static TreeSet<String> received(BlockingQueue<String> events, int expected) throws InterruptedException {
    TreeSet<String> received = new TreeSet<>();
    String event = "";
    while (received.size() < expected && event != null) {
      event = events.poll(2, TimeUnit.SECONDS);
      if (event != null) {
        received.add(event);
      }
    }
    return received;
  }

  private static DaprException failure(Mono<?> call) {
    try {
      call.block();
    } catch (DaprException error) {
      return error;
    }
    throw new AssertionError("the call did not fail");
  }

  private static void eventually(Body check) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(15);
    while (true) {
      try {
        check.run();
        return;
      } catch (Exception | AssertionError error) {
        if (System.nanoTime() > deadline) {
          throw error;
        }
        Thread.sleep(100);
      }
    }
  }

  private static void test(String name, Body body) {
    long begin = System.nanoTime();
    Throwable failure = null;
    try {
      body.run();
      passed += 1;
    } catch (Throwable error) {
      failed += 1;
      failure = error;
    }
    System.out.printf("%-7s %s (%.1f s)%n", failure == null ? "ok" : "FAILED", name, (System.nanoTime() - begin) / 1e9);
    if (failure != null) {
      failure.printStackTrace(System.out);
    }
  }

  private static void equal(Object expected, Object actual) {
    isTrue(expected == null ? actual == null : expected.equals(actual), "expected " + expected + ", got " + actual);
  }

  private static void isTrue(boolean holds, String otherwise) {
    if (!holds) {
      throw new AssertionError(otherwise);
    }
  }
}
