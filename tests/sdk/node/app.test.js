// An app made with the SDK's server, over HTTP and over gRPC: invocation through two sidecars, publish and subscribe.
"use strict";

const assert = require("node:assert/strict");
const { after, before, describe, test } = require("node:test");
const { DaprPubSubStatusEnum, HttpMethod } = require("@dapr/dapr");
const { Received, Sidecar, appWithSidecar, eventually, failure, isOurs } = require("./sidecar");

const pubsub = "pubsub";

for (const protocol of ["http", "grpc"]) {
  describe(`invocation of an app over ${protocol}`, () => {
    let app, caller, client;
    const callee = `node-echo-${protocol}`;
    before(async () => {
      app = await appWithSidecar(callee, protocol, async (server) => {
        for (const method of [HttpMethod.GET, HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE]) {
          const echo = async ({ body, query, headers }) => ({ method, body, query, custom: headers?.["x-custom"] });
          await server.invoker.listen("echo", echo, { method });
        }
        if (protocol === "http") {
          const express = server.daprServer.getServer();
          express.all("/fail/:status", (request, response) => {
            response.status(Number(request.params.status)).json({ why: "asked for" });
          });
        }
      });
      caller = await Sidecar.start(`node-caller-${protocol}`);
      client = caller.client(protocol);
      await client.start();
      await eventually(() => client.invoker.invoke(callee, "echo", HttpMethod.POST, { ready: true }));
    });
    after(async () => {
      await client.stop();
      await caller.stop();
      await app.stop();
    });

    test("verbs with a body", async () => {
      for (const method of [HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE]) {
        const echo = await client.invoker.invoke(callee, "echo", method, { n: 1 });
        assert.equal(echo.method, method);
        assert.deepEqual(JSON.parse(echo.body), { n: 1 });
      }
    });

    test("get", async () => {
      const echo = await client.invoker.invoke(callee, "echo", HttpMethod.GET);
      assert.equal(echo.method, HttpMethod.GET);
    });

    if (protocol === "http") {
      test("query and header", async () => {
        const headers = { "x-custom": "mine" };
        const echo = await client.invoker.invoke(callee, "echo?q=a%20b&r=1", HttpMethod.GET, undefined, { headers });
        assert.equal(echo.query, "/echo?q=a%20b&r=1");
        assert.equal(echo.custom, "mine");
      });

      test("status of the app is passed on", async () => {
        for (const status of [400, 404, 418, 503]) {
          const { code, text } = await failure(() => client.invoker.invoke(callee, `fail/${status}`, HttpMethod.POST));
          assert.equal(code, status);
          assert.deepEqual(JSON.parse(text), { why: "asked for" });
        }
      });

      test("a client over grpc reaches the HTTP app", async () => {
        const other = caller.client("grpc");
        const echo = await other.invoker.invoke(callee, "echo", HttpMethod.POST, { n: 2 });
        assert.deepEqual(JSON.parse(echo.body), { n: 2 });
        await other.stop();
      });
    } else {
      test("a client over HTTP reaches the gRPC app", async () => {
        const echo = await caller.client("http").invoker.invoke(callee, "echo", HttpMethod.PUT, { n: 2 });
        assert.equal(echo.method, HttpMethod.PUT);
        assert.deepEqual(JSON.parse(echo.body), { n: 2 });
      });
    }

    test("an app that is not there", async () => {
      const { code } = await failure(() => client.invoker.invoke("node-nobody", "echo", HttpMethod.POST, { n: 1 }));
      assert.equal(code, protocol === "http" ? 500 : 13);
    });
  });

  describe(`publish and subscribe with an app over ${protocol}`, () => {
    let app, client;
    const received = new Received();
    before(async () => {
      app = await appWithSidecar(`node-subscriber-${protocol}`, protocol, async (server) => {
        await server.pubsub.subscribe(pubsub, "plain", async (data) => received.push("plain", data));
        const route = {
          default: "/other",
          rules: [
            { match: 'event.type == "small"', path: "/small" },
            { match: "event.data.n > 100", path: "/large" },
          ],
        };
        await server.pubsub.subscribeWithOptions(pubsub, "ruled", { route });
        for (const path of ["other", "small", "large"]) {
          server.pubsub.subscribeToRoute(pubsub, "ruled", path, async (data) => received.push(path, data));
        }
        await server.pubsub.subscribeWithOptions(pubsub, "dropped", {
          deadLetterTopic: "buried",
          callback: async () => DaprPubSubStatusEnum.DROP,
        });
        await server.pubsub.subscribeWithOptions(pubsub, "retried", {
          deadLetterTopic: "buried",
          callback: async () => DaprPubSubStatusEnum.RETRY,
        });
        await server.pubsub.subscribe(pubsub, "buried", async (data) => received.push("buried", data));
        await server.pubsub.subscribeBulk(pubsub, "batch", async (data) => received.push("batch", data), {
          maxMessagesCount: 10,
          maxAwaitDurationMs: 100,
        });
      });
      client = app.server.client;
    });
    after(() => app.stop());

    const publish = async (topic, data, options) => {
      const { error } = await client.pubsub.publish(pubsub, topic, data, options);
      assert.equal(error, undefined);
    };
    const expect = async (...expected) => assert.deepEqual(await received.next(), expected);

    test("object and text", async () => {
      await publish("plain", { n: 1, text: "grüße" });
      await expect("plain", { n: 1, text: "grüße" });
      await publish("plain", "only text");
      await expect("plain", "only text");
    });

    test("a cloud event of the publisher", async () => {
      const event = { specversion: "1.0", id: "1", source: "test", type: "mine", data: { n: 5 } };
      await publish("plain", { ...event, datacontenttype: "application/json" });
      await expect("plain", { n: 5 });
    });

    test("raw payload to a subscriber of cloud events", async () => {
      await publish("plain", { n: 6 }, { metadata: { rawPayload: "true" } });
      const [topic] = await received.next();
      assert.equal(topic, "plain");
    });

    test("rules", async () => {
      await publish("ruled", { n: 1 }, { metadata: { "cloudevent.type": "small" } });
      await expect("small", { n: 1 });
      await publish("ruled", { n: 101 });
      await expect("large", { n: 101 });
      await publish("ruled", { n: 2 });
      await expect("other", { n: 2 });
    });

    test("dropped and retried events are buried", async () => {
      await publish("dropped", { n: 3 });
      await expect("buried", { n: 3 });
      await publish("retried", { n: 4 });
      await expect("buried", { n: 4 });
    });

    test("bulk publish", async () => {
      const messages = [
        { entryID: "first", event: { n: 1 }, contentType: "application/json" },
        { n: 2 },
        { event: { n: 3 } },
      ];
      const { failedMessages } = await client.pubsub.publishBulk(pubsub, "plain", messages);
      assert.deepEqual(failedMessages.map(({ error }) => error.message), []);
      const got = [];
      for (const _ of messages) got.push((await received.next())[1].n);
      assert.deepEqual(got.sort(), [1, 2, 3]);
    });

    // The SDK's gRPC server ends the stream of a method it does not know without an answer, and the original gives up then.
    const unanswered = protocol === "grpc" && !isOurs && "the original and this SDK do not agree";
    test("bulk subscription", { skip: unanswered }, async () => {
      const { failedMessages } = await client.pubsub.publishBulk(pubsub, "batch", [{ n: 1 }, { n: 2 }]);
      assert.deepEqual(failedMessages.map(({ error }) => error.message), []);
      const got = [(await received.next())[1].n, (await received.next())[1].n];
      assert.deepEqual(got.sort(), [1, 2]);
    });

    test("a pubsub that is not there", async () => {
      const { code, text } = await failure(() => client.pubsub.publish("no-pubsub", "topic", { n: 1 }));
      assert.equal(code, protocol === "http" ? 404 : 3);
      assert.match(text, /no-pubsub/);
      const bulk = await client.pubsub.publishBulk("no-pubsub", "topic", [{ n: 1 }, { n: 2 }]);
      assert.equal(bulk.failedMessages.length, 2);
    });

    test("metadata shows the subscriptions", async () => {
      const response = await fetch(`http://127.0.0.1:${app.sidecar.ports.http}/v1.0/metadata`);
      const topics = (await response.json()).subscriptions.map(({ topic }) => topic);
      assert.deepEqual(topics.sort(), ["batch", "buried", "dropped", "plain", "retried", "ruled"]);
    });
  });
}
