// The e-mail service on the published SDK's DaprServer. Its subscriptions are declared in
// components/subscription*.yaml: topic `tenants` comes to /tenants, what nobody could process to /dead.
// GET /stats gives the count, the set of ids and the dead letters.

const { DaprServer, CommunicationProtocolEnum, HttpMethod } = require("@dapr/dapr");

const stats = { count: 0, ids: new Set(), skipped: 0, dead: 0, deadIds: new Set() };

/** The SDK hands a handler the CloudEvent's data; over a plain route it hands over the whole body. */
function tenantId(body) {
  const event = typeof body === "string" ? JSON.parse(body) : body;
  const data = event?.data ?? event;
  return String(data?.id ?? (typeof data === "number" ? data : event?.id));
}

async function main() {
  const port = process.env.APP_PORT ?? "8082";
  const server = new DaprServer({
    serverHost: "127.0.0.1",
    serverPort: port,
    communicationProtocol: CommunicationProtocolEnum.HTTP,
    clientOptions: { daprHost: "127.0.0.1", daprPort: process.env.DAPR_HTTP_PORT ?? "3500" },
    logger: { level: "warn" },
  });

  // Declarative subscriptions arrive as plain posts: the SDK's invoker gives the routes.
  const accept = async ({ body }) => {
    const id = tenantId(body);
    stats.count += 1;
    stats.ids.add(id);
    console.log(`e-mail for tenant ${id}`);
    return { status: "SUCCESS" };
  };
  const bury = async ({ body }) => {
    const id = tenantId(body);
    stats.dead += 1;
    stats.deadIds.add(id);
    console.log(`dead letter: tenant ${id}`);
    return { status: "SUCCESS" };
  };
  const show = async () => ({ ...stats, ids: [...stats.ids].sort(), deadIds: [...stats.deadIds].sort() });

  await server.invoker.listen("tenants", accept, { method: HttpMethod.POST });
  await server.invoker.listen("dead", bury, { method: HttpMethod.POST });
  await server.invoker.listen("stats", show, { method: HttpMethod.GET });
  await server.invoker.listen("healthz", async () => ({}), { method: HttpMethod.GET });

  for (const name of ["SIGTERM", "SIGINT"]) {
    process.once(name, () => {
      console.log("email-service stopped");
      process.exit(0);
    });
  }

  await server.start();
  console.log(`email-service listens on port ${port}`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
