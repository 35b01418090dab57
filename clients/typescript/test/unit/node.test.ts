/** What is peculiar to Node: its limits, its connections and its environment. */

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import {
  APIConnectionError,
  APITimeoutError,
  AuthenticationError,
  Client,
  IncompleteStreamError,
} from "causalrn-client";
import { IdleCutter } from "./idle-cutter.js";
import {
  type Answer,
  chunk,
  data,
  events,
  GENERATION,
  json,
  LAST,
  refuse,
  ScriptedServer,
  SESSION,
} from "./scripted-server.js";

const { CAUSALRN_BASE_URL: _, CAUSALRN_API_KEY: __, ...ENVIRONMENT } = process.env;
const GLOBAL = Symbol.for("undici.globalDispatcher.1");
const global = globalThis as { [GLOBAL]?: { constructor: new (options: object) => never } };
const SILENCE_MS = 2_000;

void new Headers(); // which makes Node load its undici
const undici = global[GLOBAL];

/** Node as it is after five minutes, already after a fifth of a second. */
function hurry(): void {
  assert.ok(undici !== undefined);
  global[GLOBAL] = new undici.constructor({ headersTimeout: 200, bodyTimeout: 200 });
}

afterEach(() => {
  process.env = { ...ENVIRONMENT };
  if (undici !== undefined) {
    global[GLOBAL] = undici;
  }
});

const late: Answer = (response, received) =>
  setTimeout(() => json(GENERATION)(response, received), SILENCE_MS);

const paused: Answer = (response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(data(chunk("h", [104])));
  setTimeout(() => response.end(data(chunk("é", [195, 169], LAST)) + data("[DONE]")), SILENCE_MS);
};

test("only the client's own timeout ends the wait for an answer", async () => {
  await using server = await ScriptedServer.start(late, paused);
  hurry();
  const client = new Client({ baseUrl: server.url, timeoutMs: null, maxRetries: 0 });
  assert.equal((await client.generate("hé")).text, "hé");
  assert.equal((await client.stream("hé").result()).text, "hé");
});

test("where fetch is not the client's, a limit of Node is a timeout and is not retried", async () => {
  await using server = await ScriptedServer.start(late, paused);
  hurry();
  const fetch: typeof globalThis.fetch = (...given) => globalThis.fetch(...given);
  const client = new Client({ baseUrl: server.url, timeoutMs: null, fetch });
  await assert.rejects(client.generate("hé"), APITimeoutError);
  assert.equal(server.received.length, 1);
  await assert.rejects(client.stream("hé").result(), APITimeoutError);
  assert.equal(server.received.length, 2);
});

test("comments are signs of life", async () => {
  const commenting: Answer = async (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(data(chunk("h", [104])));
    for (let i = 0; i < 10; i++) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      response.write(": still there\n\n");
    }
    response.end(data(chunk("é", [195, 169], LAST)) + data("[DONE]"));
  };
  await using server = await ScriptedServer.start(commenting);
  const client = new Client({ baseUrl: server.url, timeoutMs: 1_500 });
  assert.equal((await client.stream("hé").result()).text, "hé");
});

test("an answer that ends without its last event is an error", async () => {
  await using server = await ScriptedServer.start(events(chunk("h", [104]), chunk("é", [1], LAST)));
  const client = new Client({ baseUrl: server.url });
  await assert.rejects(client.stream("hé").result(), IncompleteStreamError);
});

test("a turn is not lost to a connection that the server closes, and is taken once", async () => {
  await using server = await ScriptedServer.start((response, received) => {
    const answer = received.url === "/generate" ? json(GENERATION) : json(SESSION);
    answer(response, received);
  });
  await using relay = await IdleCutter.start(server.url);
  const client = new Client({ baseUrl: relay.url, maxRetries: 0 });
  const session = await client.getSession(SESSION.id);
  await session.generate("one");
  await session.generate("two");
  await client.createSession();
  await session.fork();
  assert.deepEqual(
    server.received.map(({ url, headers }) => [url, headers.connection]),
    [
      [`/sessions/${SESSION.id}`, "keep-alive"],
      ["/generate", "close"],
      ["/generate", "close"],
      ["/sessions", "close"],
      [`/sessions/${SESSION.id}/fork`, "close"],
    ],
  );
  assert.equal(relay.cut, 0);
});

test("what can be repeated is so on a new connection", async () => {
  await using server = await ScriptedServer.start(json(GENERATION));
  await using relay = await IdleCutter.start(server.url);
  const client = new Client({ baseUrl: relay.url, maxRetries: 1 });
  let asked = 0;
  // Node's fetch puts a connection back only a moment after its answer was read.
  while (relay.cut < 2) {
    assert.equal((await client.generate("hé")).text, "hé");
    asked++;
  }
  assert.equal(server.received.length, asked);
});

test("address and key come from the environment", async () => {
  await using server = await ScriptedServer.start(json(GENERATION), refuse(401, "unauthorized"));
  process.env.CAUSALRN_BASE_URL = server.url;
  process.env.CAUSALRN_API_KEY = "from-the-environment";
  await new Client().generate("hé");
  await assert.rejects(new Client({ apiKey: "given" }).generate("hé"), AuthenticationError);
  assert.deepEqual(
    server.received.map(({ headers }) => headers.authorization),
    ["Bearer from-the-environment", "Bearer given"],
  );
  const elsewhere = new Client({ baseUrl: "http://127.0.0.1:9", maxRetries: 0 });
  await assert.rejects(elsewhere.models(), APIConnectionError);
  assert.equal(server.received.length, 2);
});

test("a variable that cannot be used is named, and an empty one does not count", () => {
  process.env.CAUSALRN_BASE_URL = "localhost:8000";
  assert.throws(() => new Client(), /^TypeError: CAUSALRN_BASE_URL must begin with http:/);
  process.env.CAUSALRN_BASE_URL = "";
  process.env.CAUSALRN_API_KEY = "two words";
  assert.throws(() => new Client(), /^TypeError: apiKey, or CAUSALRN_API_KEY, must be ASCII/);
  process.env.CAUSALRN_API_KEY = "";
  new Client();
});
