"""The notification service with the published Dapr SDK: gRPC PublishEvent, the call the .NET SDK makes too.

POST /notification publishes the tenant to topic `tenants` of `my-pub-sub` and answers 202.
Switches: PUBLISH=dapr|none, PAYLOAD=object|int.
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def choice(variable, *choices):
    value = os.environ.get(variable, "") or choices[0]
    if value.lower() not in choices:
        sys.exit(f"environment variable {variable} is {value!r}: expected {', '.join(choices)}")
    return value.lower()


PUBLISH = choice("PUBLISH", "dapr", "none")
PAYLOAD = choice("PAYLOAD", "object", "int")


class Stats:
    """Counters shared by the request threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = {"received": 0, "published": 0, "failed": 0}

    def add(self, name):
        with self.lock:
            self.counts[name] += 1
            return self.counts[name]


class Sidecar:
    """The SDK's client, made at the first use: its constructor waits for a healthy sidecar,
    and the sidecar in turn waits for this service to listen."""

    def __init__(self):
        self.lock = threading.Lock()
        self.client = None

    def publish(self, message):
        with self.lock:
            if self.client is None:
                from dapr.clients import DaprClient

                self.client = DaprClient()
        self.client.publish_event(
            pubsub_name="my-pub-sub",
            topic_name="tenants",
            data=json.dumps(message),
            data_content_type="application/json",
        )


STATS = Stats()
SIDECAR = Sidecar()


def notify(body):
    """Returns status and answer for one notification."""
    serial = STATS.add("received")
    try:
        tenant = json.loads(body)
    except ValueError:
        tenant = None
    if not isinstance(tenant, dict):
        return 400, {"error": "expected a JSON object with id, name, emailId"}
    if PUBLISH == "none":
        return 202, {"published": False}
    message = tenant
    if PAYLOAD == "int":
        number = str(tenant.get("id", ""))
        message = int(number) if number.isdigit() else serial
    try:
        SIDECAR.publish(message)
    except Exception as error:  # the SDK raises its own and gRPC's errors: both mean "not published"
        STATS.add("failed")
        print(f"publish: {error}", file=sys.stderr, flush=True)
        return 502, {"error": str(error)}
    STATS.add("published")
    return 202, {"published": True}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            body = self.read_chunks()
        else:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path.split("?")[0] == "/notification":
            self.answer(*notify(body))
        else:
            self.answer(404, {"error": "no such path"})

    def do_GET(self):
        if self.path == "/stats":
            self.answer(200, STATS.counts)
        elif self.path == "/healthz":
            self.answer(200, {})
        else:
            self.answer(404, {"error": "no such path"})

    def read_chunks(self):
        """http.server leaves chunked bodies to the handler."""
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """No line per request."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    port = int(os.environ.get("APP_PORT", "8081"))
    server = Server(("127.0.0.1", port), Handler)
    stop = lambda *_: threading.Thread(target=server.shutdown).start()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"notification-service listens on port {port}", flush=True)
    server.serve_forever()
    print("notification-service stopped", flush=True)


if __name__ == "__main__":
    main()
