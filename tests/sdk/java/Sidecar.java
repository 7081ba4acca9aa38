import com.sun.net.httpserver.HttpServer;
import io.dapr.client.DaprClientBuilder;
import io.dapr.config.Properties;
import java.io.File;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** A sidecar of the binary under test, and builders of the published SDK's clients for it. */
final class Sidecar implements AutoCloseable {
  static final String BINARY = System.getenv("PILLION_BIN");

  final int httpPort = freePort();
  final int grpcPort = freePort();
  final Process process;

  /** Whether the binary is ours: what only ours promises is skipped for a foreign one. */
  static boolean isOurs() throws IOException {
    return !Path.of(BINARY).toRealPath().endsWith("daprd");
  }

  Sidecar(Path work, String appId, Integer appPort, String token) throws IOException {
    List<String> command = new ArrayList<>(List.of(BINARY));
    if (!Path.of(BINARY).endsWith("daprd")) {
      command.add("daprd");
    }
    command.addAll(List.of(
        "--app-id=" + appId,
        "--dapr-http-port=" + httpPort,
        "--dapr-grpc-port=" + grpcPort,
        "--dapr-internal-grpc-port=" + freePort(),
        "--metrics-port=" + freePort(),
        "--dapr-listen-addresses=127.0.0.1",
        "--metrics-listen-address=127.0.0.1",
        "--dapr-graceful-shutdown-seconds=1",
        "--resources-path=" + resources(work),
        "--mode=standalone"));
    if (appPort != null) {
      command.add("--app-port=" + appPort);
    }
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    builder.redirectOutput(work.resolve(appId + ".log").toFile());
    builder.environment().keySet().removeIf(name -> name.startsWith("DAPR_"));
    if (token != null) {
      builder.environment().put("DAPR_API_TOKEN", token);
    }
    process = builder.start();
  }

  DaprClientBuilder builder(String token) {
    DaprClientBuilder builder = new DaprClientBuilder()
        .withPropertyOverride(Properties.HTTP_PORT, "" + httpPort)
        .withPropertyOverride(Properties.GRPC_PORT, "" + grpcPort);
    return token == null ? builder : builder.withPropertyOverride(Properties.API_TOKEN, token);
  }

  @Override
  public void close() throws InterruptedException {
    process.destroy();
    if (!process.waitFor(10, TimeUnit.SECONDS)) {
      process.destroyForcibly().waitFor();
    }
  }

  /** An app that answers its request's verb, path with query, and body; `/fail/<status>` answers that status. */
  static HttpServer echoApp() throws IOException {
    HttpServer app = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
    app.createContext("/", exchange -> {
      String body = new String(exchange.getRequestBody().readAllBytes());
      String path = exchange.getRequestURI().toString();
      int status = path.startsWith("/fail/") ? Integer.parseInt(path.substring(6)) : path.startsWith("/dapr/") ? 404 : 200;
      byte[] answer = (exchange.getRequestMethod() + " " + path + " " + body).getBytes();
      exchange.getResponseHeaders().add("content-type", "text/plain");
      exchange.sendResponseHeaders(status, answer.length);
      exchange.getResponseBody().write(answer);
      exchange.close();
    });
    app.start();
    return app;
  }

  private static int freePort() {
    try (ServerSocket probe = new ServerSocket(0)) {
      return probe.getLocalPort();
    } catch (IOException error) {
      throw new IllegalStateException(error);
    }
  }

  private static File resources(Path work) throws IOException {
    Path directory = work.resolve("resources");
    if (Files.exists(directory)) {
      return directory.toFile();
    }
    Files.createDirectory(directory);
    Path secrets = Files.writeString(work.resolve("secrets.json"), "{\"password\": \"open sesame\", \"user\": \"ali\"}");
    component(directory, "statestore", "state.in-memory", "[]");
    component(directory, "pubsub", "pubsub.in-memory", "[]");
    component(directory, "secrets", "secretstores.local.file", "[{name: secretsFile, value: '" + secrets + "'}]");
    return directory.toFile();
  }

  private static void component(Path directory, String name, String type, String metadata) throws IOException {
    Files.writeString(directory.resolve(name + ".yaml"), """
        apiVersion: dapr.io/v1alpha1
        kind: Component
        metadata: {name: %s}
        spec: {type: %s, version: v1, metadata: %s}
        """.formatted(name, type, metadata));
  }
}
