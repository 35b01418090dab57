import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";
import {
  APIConnectionError,
  APIStatusError,
  APITimeoutError,
  AuthenticationError,
  Client,
  type ClientOptions,
  InvalidRequestError,
  ResponseFormatError,
  ServiceUnavailableError,
  SessionBusyError,
  UnprocessableEntityError,
} from "causalrn-client";
import { HeldTimers } from "./held-timers.js";
import {
  type Answer,
  GENERATION,
  hangUp,
  json,
  refuse,
  ScriptedServer,
  SESSION,
} from "./scripted-server.js";

const AT_ONCE = { "retry-after": "0" };

async function serving(
  answers: Answer[],
  use: (client: Client, server: ScriptedServer) => Promise<unknown>,
  options: ClientOptions = {},
): Promise<void> {
  await using server = await ScriptedServer.start(...answers);
  await use(new Client({ baseUrl: server.url, ...options }), server);
}

test("generate sends what it was given, and returns what came, by our names", () =>
  serving([json(GENERATION)], async (client, server) => {
    const generation = await client.generate("hé", {
      maxTokens: 5,
      topP: 0.5,
      stop: ["a", "b"],
      seed: undefined,
      deadlineMs: 1500,
      requestId: "mine",
    });
    assert.deepEqual(generation, {
      id: "gen-1",
      model: "copy-bytes",
      text: "hé",
      tokenIds: [104, 195, 169],
      finishReason: "stop",
      usage: { promptTokens: 5, completionTokens: 3, totalTokens: 8, cachedTokens: 0 },
    });
    const [received] = server.received;
    assert.equal(received?.method, "POST");
    assert.equal(received.url, "/generate");
    assert.deepEqual(JSON.parse(received.body), {
      prompt: "hé",
      max_tokens: 5,
      top_p: 0.5,
      stop: ["a", "b"],
      timeout: 1.5,
    });
    assert.equal(received.headers["content-type"], "application/json");
    assert.equal(received.headers.accept, "application/json");
    assert.equal(received.headers["x-request-id"], "mine");
    assert.equal(received.headers.authorization, undefined);
  }));

test("token ids are a prompt, too", () =>
  serving([json(GENERATION)], async (client, server) => {
    await client.generate([104, 105]);
    assert.deepEqual(JSON.parse(server.received[0]?.body ?? ""), { token_ids: [104, 105] });
  }));

test("the key, the headers and the path of the server go with every request", () =>
  serving([json(GENERATION)], async (_, server) => {
    const client = new Client({
      baseUrl: `${server.url}/behind/a/proxy/`,
      apiKey: "sk-1",
      headers: { "x-tenant": "me" },
    });
    await client.generate("a");
    await client.info().catch(() => undefined);
    for (const { url, headers } of server.received) {
      assert.match(url, /^\/behind\/a\/proxy\/(generate|info)$/);
      assert.equal(headers.authorization, "Bearer sk-1");
      assert.equal(headers["x-tenant"], "me");
    }
    assert.equal(server.received.length, 2);
  }));

test("the client's model is that of requests that name none, and of no session", () =>
  serving(
    [json(GENERATION)],
    async (client, server) => {
      await client.generate("a");
      await client.generate("a", { model: "other" });
      await client.generate("a", { sessionId: SESSION.id });
      const models = server.received.map(({ body }) => JSON.parse(body).model);
      assert.deepEqual(models, ["mine", "other", undefined]);
    },
    { model: "mine" },
  ));

test("a refusal is an error of its type", () =>
  serving(
    [refuse(422, "invalid_request", { "x-request-id": "r-1" }, "max_tokens")],
    async (client, server) => {
      const error: unknown = await client.generate("a").catch((error) => error);
      assert.ok(error instanceof UnprocessableEntityError);
      assert.equal(error.name, "UnprocessableEntityError");
      assert.equal(error.status, 422);
      assert.equal(error.type, "invalid_request");
      assert.equal(error.message, "invalid_request, alas");
      assert.equal(error.param, "max_tokens");
      assert.equal(error.requestId, "r-1");
      assert.equal(error.retryAfter, null);
      assert.equal(server.received.length, 1);
    },
  ));

test("a refusal that is not the server's is one by its status", () =>
  serving(
    [(response) => response.writeHead(401).end("<h1>Who are you?</h1>")],
    async (client, server) => {
      await assert.rejects(client.info(), (error) => {
        assert.ok(error instanceof AuthenticationError);
        assert.equal(error.type, null);
        assert.equal(error.message, "<h1>Who are you?</h1>");
        return true;
      });
      assert.equal(server.received.length, 1);
    },
  ));

for (const [name, answer] of [
  ["429", refuse(429, "rate_limited", AT_ONCE)],
  ["503", refuse(503, "overloaded", AT_ONCE)],
  ["a broken connection", hangUp],
] as [string, Answer][]) {
  test(`after ${name} a request is sent again`, () =>
    serving([answer, answer, json(GENERATION)], async (client, server) => {
      assert.equal((await client.generate("a")).text, "hé");
      assert.equal(server.received.length, 3);
      assert.equal(new Set(server.received.map(({ body }) => body)).size, 1);
    }));
}

test("a request is sent again as often as was allowed, and no more", async () => {
  for (const maxRetries of [0, 1, 3]) {
    await serving(
      [refuse(503, "overloaded", AT_ONCE)],
      async (client, server) => {
        await assert.rejects(client.generate("a"), (error) => {
          assert.ok(error instanceof ServiceUnavailableError);
          assert.equal(error.retryAfter, 0);
          return true;
        });
        assert.equal(server.received.length, maxRetries + 1);
      },
      { maxRetries },
    );
  }
});

test("a wait before the next attempt ends with the signal", () =>
  serving([refuse(503, "overloaded", { "retry-after": "50" })], async (client, server) => {
    using timers = new HeldTimers(50_000);
    const controller = new AbortController();
    const generating = client.generate("a", { signal: controller.signal });
    await timers.reached(1); // the answer has come, and the wait has begun
    controller.abort(new Error("enough"));
    await assert.rejects(generating, /^Error: enough$/);
    assert.equal(timers.running, 0);
    assert.equal(server.received.length, 1);
  }));

test("a turn of a session is not sent again where it may have arrived", () =>
  serving([hangUp, json(GENERATION)], async (client, server) => {
    await assert.rejects(client.generate("a", { sessionId: SESSION.id }), (error) => {
      assert.ok(error instanceof APIConnectionError);
      assert.equal(error.mayHaveArrived, true);
      return true;
    });
    assert.equal(server.received.length, 1);
  }));

test("a turn of a session is sent again where it was refused", () =>
  serving(
    [refuse(409, "session_busy", AT_ONCE), refuse(503, "overloaded", AT_ONCE), json(GENERATION)],
    async (client, server) => {
      await client.generate("a", { sessionId: SESSION.id });
      assert.equal(server.received.length, 3);
    },
  ));

test("a session that stays busy is an error of its own", () =>
  serving([refuse(409, "session_busy", AT_ONCE)], async (client) => {
    await assert.rejects(client.generate("a", { sessionId: SESSION.id }), SessionBusyError);
  }));

test("nobody at the address", async () => {
  const unused = createServer();
  await new Promise<void>((resolve) => unused.listen(0, "127.0.0.1", resolve));
  const address = unused.address();
  assert.ok(typeof address === "object" && address !== null);
  await new Promise((resolve) => unused.close(resolve));
  const client = new Client({ baseUrl: `http://127.0.0.1:${address.port}`, maxRetries: 0 });
  await assert.rejects(client.generate("a", { sessionId: SESSION.id }), (error) => {
    assert.ok(error instanceof APIConnectionError);
    assert.equal(error.mayHaveArrived, false);
    assert.match(error.message, /ECONNREFUSED/);
    return true;
  });
  assert.equal(await client.ready(), false);
});

test("a server that says nothing is waited for so long, and asked once", () =>
  serving(
    [() => undefined],
    async (client, server) => {
      using timers = new HeldTimers(12_345);
      const refused = assert.rejects(client.generate("a"), (error) => {
        assert.ok(error instanceof APITimeoutError);
        assert.equal(error.mayHaveArrived, true);
        return true;
      });
      while (server.received.length === 0) {
        await new Promise(setImmediate);
      }
      timers.ring();
      await refused;
      assert.equal(timers.count, 1);
      assert.equal(await server.received[0]?.over, "left");
      assert.equal(server.received.length, 1);
    },
    { timeoutMs: 12_345 },
  ));

test("so is one that stops in the middle of its answer", () =>
  serving(
    [(response) => response.writeHead(200, { "content-type": "application/json" }).write('{"id')],
    async (client, server) => {
      using timers = new HeldTimers(12_345);
      const refused = assert.rejects(client.generate("a"), APITimeoutError);
      await timers.reached(3); // for the head, the first piece, and the next one
      timers.ring();
      await refused;
      assert.equal(await server.received[0]?.over, "left");
    },
    { timeoutMs: 12_345 },
  ));

test("an answer that breaks off is none", () =>
  serving(
    [
      (response) => {
        response.writeHead(200, { "content-type": "application/json", "content-length": "100" });
        response.write('{"id": "gen-1", ', () => response.socket?.destroy());
      },
    ],
    (client) => assert.rejects(client.generate("a"), APIConnectionError),
    { maxRetries: 0 },
  ));

test("a signal ends a request, with its reason", () =>
  serving([() => undefined], async (client, server) => {
    const controller = new AbortController();
    const generating = client.generate("a", { signal: controller.signal });
    while (server.received.length === 0) {
      await new Promise(setImmediate);
    }
    controller.abort();
    await assert.rejects(generating, { name: "AbortError" });
    assert.equal(await server.received[0]?.over, "left");
    await assert.rejects(client.generate("a", { signal: controller.signal }), {
      name: "AbortError",
    });
    assert.equal(server.received.length, 1);
    await assert.rejects(client.generate("a", { signal: AbortSignal.timeout(20) }), {
      name: "TimeoutError",
    });
  }));

test("what is not the server's answer is refused", async () => {
  const cases: [Answer, RegExp][] = [
    [json([]), /not a JSON object: \[\]/],
    [json({}), /a generation: id is undefined, not string/],
    [json({ ...GENERATION, text: null }), /a generation: text is null, not string/],
    [json({ ...GENERATION, token_ids: {} }), /a generation: tokenIds is object, not array/],
    [
      (response) => response.setHeader("content-type", "application/json").end("{nope"),
      /not JSON: \{nope/,
    ],
    [
      (response) => response.setHeader("content-type", "text/html").end("<p>Welcome"),
      /not application\/json, but content-type text\/html/,
    ],
    [(response) => response.end(), /content-type missing/],
  ];
  for (const [answer, message] of cases) {
    await serving([answer], async (client, server) => {
      await assert.rejects(client.generate("a"), (error) => {
        assert.ok(error instanceof ResponseFormatError);
        assert.match(error.message, message);
        return true;
      });
      assert.equal(server.received.length, 1);
      assert.notEqual(await server.received[0]?.over, undefined);
    });
  }
});

test("a redirection is not followed", () =>
  serving(
    [(response) => response.writeHead(307, { location: "/elsewhere" }).end()],
    async (client, server) => {
      await assert.rejects(client.generate("a"), (error) => {
        assert.ok(error instanceof APIStatusError);
        assert.match(error.message, /redirection/);
        return true;
      });
      assert.equal(server.received.length, 1);
    },
  ));

test("what cannot be put on the wire is not sent", () =>
  serving([json(GENERATION)], async (client, server) => {
    const wrong: [Promise<unknown>, RegExp][] = [
      [client.generate("a", { temperature: Number.NaN }), /temperature is NaN/],
      [client.generate([1, Number.POSITIVE_INFINITY]), /1 is Infinity/],
      [client.generate("a\ud800b"), /prompt holds a lone surrogate at position 1/],
      [client.generate("a", { seed: 1n as unknown as number }), /seed is a bigint/],
      [client.generate("a", { requestId: "a\nb" }), /requestId/],
      [client.getSession(".."), /not the id of a session/],
      [client.getSession("\ud800"), /lone surrogate/],
    ];
    for (const [promise, message] of wrong) {
      await assert.rejects(promise, (error) => {
        assert.ok(error instanceof InvalidRequestError);
        assert.match(error.message, message);
        return true;
      });
    }
    assert.throws(() => client.stream("\udc00"), InvalidRequestError);
    assert.equal(server.received.length, 0);
  }));

test("connections are used again", () =>
  serving([json(GENERATION)], async (client, server) => {
    for (let i = 0; i < 6; i++) {
      await client.generate("a");
    }
    // Node's fetch takes two in turn, one of which it has not put back yet.
    assert.ok(new Set(server.received.map(({ port }) => port)).size <= 2);
  }));

test("the constructor says what is wrong, and never the key", () => {
  for (const baseUrl of [
    "",
    "nowhere",
    "ftp://host",
    "http://h?a=b",
    "http://h#a",
    "http://u:p@h",
  ]) {
    assert.throws(() => new Client({ baseUrl }), /^TypeError: baseUrl/);
  }
  for (const apiKey of ["", "secret key", "secrét", "secret\n"]) {
    assert.throws(
      () => new Client({ apiKey }),
      (error) => error instanceof TypeError && !error.message.includes("secr"),
    );
  }
  for (const timeoutMs of [0, -1, Number.NaN, 2 ** 31, Number.POSITIVE_INFINITY]) {
    assert.throws(() => new Client({ timeoutMs }), /^RangeError: timeoutMs/);
  }
  assert.throws(() => new Client({ maxRetries: -1 }), /^RangeError: maxRetries/);
  new Client({ timeoutMs: null, baseUrl: new URL("https://host:1/path/") });
});

test("another fetch sends the requests", async () => {
  const seen: string[] = [];
  const client = new Client({
    baseUrl: "http://example.org",
    fetch: async (url) => {
      seen.push(String(url));
      return Response.json(GENERATION);
    },
  });
  assert.equal((await client.generate("a")).text, "hé");
  assert.deepEqual(seen, ["http://example.org/generate"]);
});

test("ready and health ask once", () =>
  serving(
    [
      json({ status: "ready", running: 1, waiting: 2, pages_used: 3, pages_total: 4 }),
      refuse(503, "not_ready", AT_ONCE),
      refuse(503, "shutting_down", AT_ONCE),
      refuse(500, "internal_error"),
    ],
    async (client, server) => {
      assert.deepEqual(await client.health(), {
        status: "ready",
        running: 1,
        waiting: 2,
        pagesUsed: 3,
        pagesTotal: 4,
      });
      assert.equal(await client.ready(), false);
      await assert.rejects(client.health(), ServiceUnavailableError);
      await assert.rejects(client.ready(), APIStatusError);
      assert.equal(server.received.length, 4);
    },
  ));
