/** Runs in the browser, and reports what it saw. */

import {
  APIConnectionError,
  Client,
  type ClientOptions,
  UnprocessableEntityError,
} from "causalrn-client";

/** What the page tells. */
export interface Report {
  texts: string[];
  whole: string;
  idle: boolean;
  aborted: string;
  refused: unknown[];
  unreached: boolean | null;
  restored: string;
  failure: string | null;
}

const TEXT = "Zürich → 東京 🚄";

async function look(options: ClientOptions): Promise<Omit<Report, "failure">> {
  const client = new Client(options);

  const texts: string[] = [];
  const stream = client.stream(TEXT);
  for await (const { text } of stream) {
    texts.push(text);
  }
  const whole = (await stream.result()).text;

  const endless = { ignoreEos: true, maxTokens: 10_000 };
  for await (const _ of client.stream(TEXT, endless)) {
    break;
  }
  const controller = new AbortController();
  const aborting = client.stream(TEXT, { ...endless, signal: controller.signal });
  await aborting.next();
  controller.abort();
  const aborted = await aborting.next().then(
    () => "not at all",
    (error: Error) => error.name,
  );
  let idle = false;
  for (let attempt = 0; attempt < 1000 && !idle; attempt++) {
    const { running, waiting } = await client.health();
    idle = running + waiting === 0;
  }

  const refused = await client.generate("a", { maxTokens: 0, requestId: "page-1" }).then(
    () => [],
    (error: unknown) =>
      error instanceof UnprocessableEntityError
        ? [error.name, error.status, error.param, error.requestId]
        : [String(error)],
  );
  const nobody = new Client({ baseUrl: "http://127.0.0.1:9", maxRetries: 0 });
  const unreached = await nobody.generate("a").then(
    () => null,
    (error: unknown) => (error instanceof APIConnectionError ? error.mayHaveArrived : null),
  );

  const session = await client.createSession();
  await session.read("kept");
  const copy = await client.restoreSession(await session.snapshot());
  const restored = (await copy.generate("still here")).text;
  await Promise.all([session.delete(), copy.delete()]);

  return { texts, whole, idle, aborted, refused, unreached, restored };
}

const { searchParams } = new URL(location.href);
const report = await look({ baseUrl: searchParams.get("server") ?? "/" }).then(
  (seen) => ({ ...seen, failure: null }),
  (error: Error) => ({ failure: `${error.stack ?? error}` }),
);
await fetch("/report", { method: "POST", body: JSON.stringify(report) });
