// A line for each test, the error of each failure, and one sum at the end.
export default async function* report(source) {
  const count = { ok: 0, FAILED: 0, skipped: 0 };
  const path = [];
  for await (const { type, data } of source) {
    if (type === "test:start") path[data.nesting] = data.name;
    if (type !== "test:pass" && type !== "test:fail") continue;
    const failed = type === "test:fail";
    const children = data.details?.error?.failureType === "subtestsFailed";
    // A suite or a file is its tests, unless it failed by itself.
    if (data.details?.type === "suite" && (!failed || children)) continue;
    if (children) continue;
    const word = failed ? "FAILED" : data.skip !== undefined ? "skipped" : "ok";
    count[word] += 1;
    const name = [...path.slice(0, data.nesting), data.name].join(" > ");
    yield `${word.padEnd(7)} ${name} (${(data.details.duration_ms / 1000).toFixed(1)} s)\n`;
    if (failed) yield `${data.details.error.cause?.stack ?? data.details.error}\n`;
  }
  yield `${count.ok} passed, ${count.FAILED} failed, ${count.skipped} skipped\n`;
}
