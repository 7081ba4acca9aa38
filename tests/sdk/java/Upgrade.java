import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/**
 * The sidecar through the JDK's own client, which offers HTTP/2 with `Upgrade: h2c` and `HTTP2-Settings` on each new connection
 * without TLS. The sidecar takes the offer when the body is of known length; the call has to work either way.
 */
final class Upgrade {
  private final HttpClient client =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_2).connectTimeout(Duration.ofSeconds(10)).build();
  private final String base;

  Upgrade(int port) {
    base = "http://127.0.0.1:" + port;
  }

  /** What came back: status, version of HTTP, body. */
  record Answer(int status, HttpClient.Version version, String body) {}

  Answer get(String path) throws Exception {
    return answer(client.send(request(path).GET().build(), BodyHandlers.ofString()));
  }

  Answer send(String verb, String path, String type, String body) throws Exception {
    HttpRequest request = request(path).header("content-type", type).method(verb, BodyPublishers.ofString(body)).build();
    return answer(client.send(request, BodyHandlers.ofString()));
  }

  /** A body of unknown length, which goes out in chunks. */
  Answer sendChunked(String path, String body) throws Exception {
    var publisher = BodyPublishers.fromPublisher(BodyPublishers.ofString(body));
    HttpRequest request = request(path).header("content-type", "text/plain").POST(publisher).build();
    return answer(client.send(request, BodyHandlers.ofString()));
  }

  /** Several at a time: each that finds no free connection opens one and offers the upgrade again. */
  List<Answer> together(int count, String path) throws Exception {
    List<CompletableFuture<HttpResponse<String>>> calls = new ArrayList<>();
    for (int number = 0; number < count; number++) {
      HttpRequest request = request(path + "/" + number).POST(BodyPublishers.ofString("n" + number)).build();
      calls.add(client.sendAsync(request, BodyHandlers.ofString()));
    }
    List<Answer> answers = new ArrayList<>();
    for (CompletableFuture<HttpResponse<String>> call : calls) {
      answers.add(answer(call.get()));
    }
    return answers;
  }

  private HttpRequest.Builder request(String path) {
    return HttpRequest.newBuilder(URI.create(base + path)).timeout(Duration.ofSeconds(20));
  }

  private static Answer answer(HttpResponse<String> response) {
    return new Answer(response.statusCode(), response.version(), response.body());
  }
}
