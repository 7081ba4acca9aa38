// Starts sidecars of the binary under test for the suites beside this file, and clients of the published SDK.
// Every sidecar and file made here is gone when the process ends.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { CommunicationProtocolEnum, DaprClient, DaprServer } = require("@dapr/dapr");

const binary = process.env.PILLION_BIN ?? "";
// What only our own binary promises is skipped for a foreign one.
const isOurs = path.basename(fs.realpathSync(binary)) !== "daprd";

const secrets = { password: "open sesame", user: "ali" };
const protocols = { http: CommunicationProtocolEnum.HTTP, grpc: CommunicationProtocolEnum.GRPC };
const quiet = () => {};
const logger = { service: { error: quiet, warn: quiet, info: quiet, verbose: quiet, debug: quiet } };
// Tests hand tokens over explicitly, and the clients read the rest from the environment too.
for (const name of Object.keys(process.env)) if (name.startsWith("DAPR_")) delete process.env[name];

const running = new Set();
const work = fs.mkdtempSync(path.join(os.tmpdir(), "pillion-sdk-"));
process.on("exit", () => {
  for (const sidecar of running) sidecar.process.kill("SIGKILL");
  fs.rmSync(work, { recursive: true, force: true });
});

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

function resources() {
  const directory = path.join(work, "resources");
  if (fs.existsSync(directory)) return directory;
  fs.mkdirSync(directory);
  const secretsFile = path.join(work, "secrets.json");
  fs.writeFileSync(secretsFile, JSON.stringify(secrets));
  for (const [name, type, metadata] of [
    ["statestore", "state.in-memory", []],
    ["pubsub", "pubsub.in-memory", []],
    ["secrets", "secretstores.local.file", [{ name: "secretsFile", value: secretsFile }]],
  ]) {
    const component = {
      apiVersion: "dapr.io/v1alpha1",
      kind: "Component",
      metadata: { name },
      spec: { type, version: "v1", metadata },
    };
    fs.writeFileSync(path.join(directory, `${name}.yaml`), JSON.stringify(component));
  }
  return directory;
}

class Sidecar {
  static async start(appId, { appPort, appProtocol = "http", token } = {}) {
    const sidecar = new Sidecar();
    sidecar.appId = appId;
    sidecar.ports = { http: await freePort(), grpc: await freePort() };
    const parameters = [
      ...(path.basename(binary) === "daprd" ? [] : ["daprd"]),
      `--app-id=${appId}`,
      `--app-protocol=${appProtocol}`,
      `--dapr-http-port=${sidecar.ports.http}`,
      `--dapr-grpc-port=${sidecar.ports.grpc}`,
      `--dapr-internal-grpc-port=${await freePort()}`,
      `--metrics-port=${await freePort()}`,
      "--dapr-listen-addresses=127.0.0.1",
      "--metrics-listen-address=127.0.0.1",
      "--dapr-graceful-shutdown-seconds=1",
      `--resources-path=${resources()}`,
      "--mode=standalone",
      ...(appPort ? [`--app-port=${appPort}`] : []),
    ];
    const environment = { ...process.env, ...(token ? { DAPR_API_TOKEN: token } : {}) };
    const log = fs.openSync(path.join(work, `${appId}.log`), "w");
    sidecar.process = spawn(binary, parameters, { env: environment, stdio: ["ignore", log, log] });
    fs.closeSync(log);
    sidecar.ended = new Promise((resolve) => sidecar.process.on("exit", (code) => resolve(code)));
    running.add(sidecar);
    return sidecar;
  }

  options(protocol, more = {}) {
    return {
      daprHost: "127.0.0.1",
      daprPort: String(this.ports[protocol]),
      communicationProtocol: protocols[protocol],
      logger,
      ...more,
    };
  }

  client(protocol, more) {
    return new DaprClient(this.options(protocol, more));
  }

  async stop() {
    this.process.kill("SIGTERM");
    const timer = setTimeout(() => this.process.kill("SIGKILL"), 10_000);
    await this.ended;
    clearTimeout(timer);
    running.delete(this);
  }
}

/** An app made with the SDK's server and its sidecar, both ready; `prepare` registers what the app serves. */
async function appWithSidecar(appId, protocol, prepare) {
  const appPort = await freePort();
  const sidecar = await Sidecar.start(appId, { appPort, appProtocol: protocol });
  const server = new DaprServer({
    serverHost: "127.0.0.1",
    serverPort: String(appPort),
    communicationProtocol: protocols[protocol],
    clientOptions: sidecar.options(protocol),
    logger,
  });
  await prepare(server);
  await server.start();
  // The sidecar answers metadata before it has asked the app for subscriptions.
  await eventually(async () => {
    const health = await fetch(`http://127.0.0.1:${sidecar.ports.http}/v1.0/healthz`);
    if (health.status !== 204) throw new Error(`health is ${health.status}`);
  });
  return {
    sidecar,
    server,
    async stop() {
      await sidecar.stop();
      await server.stop();
    },
  };
}

/** Repeats a check until it holds; its last error is the one that is reported. */
async function eventually(check, seconds = 15) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Events in the order of their arrival; `next` waits for one. */
class Received {
  #events = [];
  #waiting = [];

  push(...event) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter(event);
    else this.#events.push(event);
  }

  next(seconds = 10) {
    if (this.#events.length > 0) return Promise.resolve(this.#events.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no event within ${seconds} s`)), seconds * 1000);
      this.#waiting.push((event) => {
        clearTimeout(timer);
        resolve(event);
      });
    });
  }
}

/** What went wrong, in one form: the SDK throws, or returns `{error}`, with JSON of HTTP or a Connect error. */
async function failure(call) {
  let error;
  try {
    const result = await call();
    error = result?.error;
  } catch (thrown) {
    error = thrown?.error ?? thrown;
  }
  if (!error) throw new Error("the call did not fail");
  try {
    const { status, error_msg: text } = JSON.parse(error.message);
    return { code: status, text };
  } catch {
    return { code: error.code, text: error.message };
  }
}

module.exports = { Sidecar, Received, appWithSidecar, eventually, failure, isOurs, protocols, secrets };
