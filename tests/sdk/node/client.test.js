// The SDK's client over HTTP and over gRPC: health, metadata, state, secrets, shutdown, tokens, calls not built yet.
"use strict";

const assert = require("node:assert/strict");
const { after, before, describe, test } = require("node:test");
const { StateConcurrencyEnum, StateConsistencyEnum } = require("@dapr/dapr");
const { Sidecar, eventually, failure, secrets } = require("./sidecar");

const store = "statestore";
const firstWrite = {
  concurrency: StateConcurrencyEnum.CONCURRENCY_FIRST_WRITE,
  consistency: StateConsistencyEnum.CONSISTENCY_STRONG,
};
const codes = {
  http: { conflict: 409, badRequest: 400, unauthenticated: 401, internal: 500 },
  grpc: { conflict: 10, badRequest: 3, unauthenticated: 16, internal: 13 },
};

for (const protocol of ["http", "grpc"]) {
  const code = codes[protocol];

  describe(`client over ${protocol}`, () => {
    let sidecar, client;
    before(async () => {
      sidecar = await Sidecar.start(`node-${protocol}`);
      client = sidecar.client(protocol);
      await client.start();
    });
    after(async () => {
      await client.stop();
      await sidecar.stop();
    });
    const etagOf = async (key) => (await client.state.getBulk(store, [key]))[0].etag;

    test("healthy", async () => assert.equal(await client.health.isHealthy(), true));

    test("metadata names app and components", async () => {
      const metadata = await client.metadata.get();
      assert.equal(metadata.id, `node-${protocol}`);
      const types = Object.fromEntries(metadata.components.map(({ name, type, version }) => [name, [type, version]]));
      assert.deepEqual(types.statestore, ["state.in-memory", "v1"]);
      assert.deepEqual(types.pubsub, ["pubsub.in-memory", "v1"]);
      assert.deepEqual(types.secrets, ["secretstores.local.file", "v1"]);
    });

    test("metadata set is shown", async () => {
      assert.equal(await client.metadata.set("colour", "green"), true);
      assert.equal((await client.metadata.get()).extended.colour, "green");
    });

    test("state: save, get, delete", async () => {
      const saved = await client.state.save(store, [
        { key: "object", value: { a: [1, "grüße"] } },
        { key: "text", value: "plain" },
      ]);
      assert.equal(saved.error, undefined);
      assert.deepEqual(await client.state.get(store, "object"), { a: [1, "grüße"] });
      assert.equal(await client.state.get(store, "text"), "plain");
      assert.equal((await client.state.delete(store, "text")).error, undefined);
      assert.equal(await client.state.get(store, "text"), "");
    });

    test("state: a stale etag conflicts", async () => {
      await client.state.save(store, [{ key: "etag", value: "one" }]);
      const etag = await etagOf("etag");
      assert.ok(etag);
      const saved = await client.state.save(store, [{ key: "etag", value: "two", etag, options: firstWrite }]);
      assert.equal(saved.error, undefined);
      const save = () => client.state.save(store, [{ key: "etag", value: "no", etag, options: firstWrite }]);
      assert.equal((await failure(save)).code, code.conflict);
      const remove = () => client.state.delete(store, "etag", { etag, ...firstWrite });
      assert.equal((await failure(remove)).code, code.conflict);
      assert.equal(await client.state.get(store, "etag"), "two");
      assert.equal((await client.state.delete(store, "etag", { etag: await etagOf("etag") })).error, undefined);
      assert.equal(await client.state.get(store, "etag"), "");
    });

    test("state: bulk", async () => {
      await client.state.save(store, [0, 1, 2, 3].map((n) => ({ key: `bulk-${n}`, value: { n } })));
      const read = await client.state.getBulk(store, ["bulk-0", "bulk-1", "bulk-2", "bulk-3", "bulk-none"], {
        parallelism: 2,
      });
      const data = Object.fromEntries(read.map((item) => [item.key, item.data || undefined]));
      assert.deepEqual(data, {
        "bulk-0": { n: 0 },
        "bulk-1": { n: 1 },
        "bulk-2": { n: 2 },
        "bulk-3": { n: 3 },
        "bulk-none": undefined,
      });
    });

    test("state: transaction", async () => {
      await client.state.save(store, [{ key: "old", value: "there" }]);
      await client.state.transaction(store, [
        { operation: "upsert", request: { key: "new", value: "one" } },
        { operation: "upsert", request: { key: "new", value: "two" } },
        { operation: "delete", request: { key: "old" } },
      ]);
      assert.equal(await client.state.get(store, "new"), "two");
      assert.equal(await client.state.get(store, "old"), "");
    });

    test("state: expiry", async () => {
      await client.state.save(store, [{ key: "short", value: "life", metadata: { ttlInSeconds: "1" } }]);
      assert.equal(await client.state.get(store, "short"), "life");
      await eventually(async () => assert.equal(await client.state.get(store, "short"), ""), 3);
    });

    test("state: a store that is not there", async () => {
      const { code: got, text } = await failure(() => client.state.get("no-store", "key"));
      assert.equal(got, code.badRequest);
      assert.match(text, /no-store/);
    });

    test("secrets", async () => {
      assert.deepEqual(await client.secret.get("secrets", "password"), { password: "open sesame" });
      const expected = Object.fromEntries(Object.entries(secrets).map(([name, value]) => [name, { [name]: value }]));
      assert.deepEqual(await client.secret.getBulk("secrets"), expected);
      const missing = await failure(() => client.secret.get("secrets", "nothing"));
      assert.equal(missing.code, code.internal);
      assert.match(missing.text, /nothing/);
    });

    test("API token", async () => {
      const guarded = await Sidecar.start(`node-token-${protocol}`, { token: "right" });
      try {
        const right = guarded.client(protocol, { daprApiToken: "right" });
        await right.start();
        await right.state.save(store, [{ key: "key", value: "value" }]);
        assert.equal(await right.state.get(store, "key"), "value");
        for (const daprApiToken of ["wrong", undefined]) {
          const refused = guarded.client(protocol, { daprApiToken });
          refused.daprClient.setIsInitialized(true); // metadata, which start() asks for, is refused too
          const { code: got } = await failure(() => refused.state.get(store, "key"));
          assert.equal(got, code.unauthenticated, `token ${daprApiToken}`);
          assert.equal(await refused.health.isHealthy(), false);
        }
      } finally {
        await guarded.stop();
      }
    });

    test("shutdown ends the process", async () => {
      const ending = await Sidecar.start(`node-shutdown-${protocol}`);
      await ending.client(protocol).sidecar.shutdown();
      assert.equal(await ending.ended, 0);
      await ending.stop();
    });

    test("blocks without components say so", async () => {
      const lock = { http: 500, grpc: 9, text: "lock store is not configured" };
      const calls = [
        [lock, () => client.lock.lock("lockstore", "resource", "owner", 5)],
        [lock, () => client.lock.unlock("lockstore", "resource", "owner")],
      ];
      // The SDK has each of these over one protocol only.
      if (protocol === "http") {
        const placement = { http: 400, text: "placement service is not configured" };
        calls.push([placement, () => client.workflow.start("workflow", {}, "instance")]);
      } else {
        const encryption = { componentName: "keys", keyName: "key", keyWrapAlgorithm: "RSA" };
        const keys = { grpc: 13, text: "crypto providers not configured" };
        const none = { grpc: 9, text: "configuration stores not configured" };
        calls.push(
          [none, () => client.configuration.get("configstore", ["key"])],
          [keys, () => client.crypto.encrypt(Buffer.from("text"), encryption)],
          [keys, () => client.crypto.decrypt(Buffer.from("text"), { componentName: "keys" })],
        );
      }
      for (const [expected, call] of calls) {
        const { code: got, text } = await failure(call);
        assert.equal(got, expected[protocol], `${expected.text}: ${text}`);
        assert.ok(text.includes(expected.text), `${expected.text}: ${text}`);
      }
    });
  });
}
