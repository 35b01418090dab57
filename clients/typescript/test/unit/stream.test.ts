import assert from "node:assert/strict";
import { test } from "node:test";
import {
  APIConnectionError,
  APITimeoutError,
  Client,
  type ClientOptions,
  IncompleteStreamError,
  ResponseFormatError,
  ServiceUnavailableError,
  type Stream,
  StreamError,
} from "causalrn-client";
import { HeldTimers } from "./held-timers.js";
import {
  type Answer,
  chunk,
  data,
  events,
  GENERATION,
  hangUp,
  LAST,
  refuse,
  ScriptedServer,
} from "./scripted-server.js";

async function streaming(
  answers: Answer[],
  use: (stream: Stream, server: ScriptedServer, client: Client) => Promise<unknown>,
  options: ClientOptions & { signal?: AbortSignal } = {},
): Promise<void> {
  await using server = await ScriptedServer.start(...answers);
  const { signal, ...rest } = options;
  const client = new Client({ baseUrl: server.url, ...rest });
  await use(client.stream("hé", { signal }), server, client);
}

const HE = events(chunk("h", [104]), chunk("", [195]), chunk("é", [169], LAST), "[DONE]");

/** Begins a stream, and goes no further. */
function beginning(response: Parameters<Answer>[0]): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(data(chunk("h", [104])));
}

async function texts(stream: Stream): Promise<string[]> {
  const seen: string[] = [];
  for await (const { text } of stream) {
    seen.push(text);
  }
  return seen;
}

test("a stream is its chunks, and then the whole", () =>
  streaming([HE], async (stream, server) => {
    assert.deepEqual(await texts(stream), ["h", "", "é"]);
    const { usage, ...rest } = await stream.result();
    assert.deepEqual(rest, {
      id: "gen-1",
      model: "copy-bytes",
      text: "hé",
      tokenIds: [104, 195, 169],
      finishReason: "stop",
      match: null,
      verified: null,
    });
    assert.equal(usage.totalTokens, 8);
    assert.deepEqual(await texts(stream), []);
    assert.deepEqual(JSON.parse(server.received[0]?.body ?? ""), { prompt: "hé", stream: true });
    assert.equal(server.received[0]?.headers.accept, "text/event-stream");
    assert.equal(server.received.length, 1);
  }));

test("nothing is sent before it is asked for, and the head of the answer can be", () =>
  streaming([HE], async (stream, server) => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(server.received.length, 0);
    assert.equal((await stream.response()).status, 200);
    assert.equal(
      (await stream.response()).headers.get("content-type")?.split(";")[0],
      "text/event-stream",
    );
    assert.deepEqual(await texts(stream), ["h", "", "é"]);
    assert.equal(server.received.length, 1);
  }));

test("samples and log-probabilities are added up", () => {
  const one = { token_id: 97, logprob: -0.5, top: [{ token_id: 98, logprob: -0.25 }] };
  const answer = events(
    chunk("b", [98], { index: 1, logprobs: [one] }),
    chunk("a", [97], { logprobs: [one] }),
    chunk("", [], { index: 1, finish_reason: "length", match: 0.25, verified: false }),
    chunk("c", [99], {
      logprobs: [one],
      ...LAST,
      match: 1,
      verified: true,
      session: { id: "s", n_tokens: 9 },
    }),
    "[DONE]",
  );
  return streaming([answer], async (stream) => {
    const generation = await stream.result();
    const logprob = { tokenId: 97, logprob: -0.5, top: [{ tokenId: 98, logprob: -0.25 }] };
    assert.deepEqual(generation.samples, [
      {
        index: 0,
        text: "ac",
        tokenIds: [97, 99],
        finishReason: "stop",
        match: 1,
        verified: true,
        logprobs: [logprob, logprob],
      },
      {
        index: 1,
        text: "b",
        tokenIds: [98],
        finishReason: "length",
        match: 0.25,
        verified: false,
        logprobs: [logprob],
      },
    ]);
    assert.equal(generation.match, 1);
    assert.equal(generation.verified, true);
    assert.equal(generation.text, "ac");
    assert.deepEqual(generation.session, { id: "s", nTokens: 9 });
  });
});

test("a recall that finds nothing is an answer without text", () => {
  const missed = { ...LAST, finish_reason: "not_found", match: 0.25, verified: null };
  return streaming([events(chunk("", [], missed), "[DONE]")], async (stream) => {
    const { text, finishReason, match, verified } = await stream.result();
    assert.deepEqual([text, finishReason, match, verified], ["", "not_found", 0.25, null]);
  });
});

test("the connections of streams that were read are used again", () =>
  streaming([HE], async (_, server, client) => {
    for (let i = 0; i < 6; i++) {
      await client.stream("hé").result();
      assert.equal(await server.received[i]?.over, "answered");
    }
    // Node's fetch takes two in turn, one of which it has not put back yet.
    assert.ok(new Set(server.received.map(({ port }) => port)).size <= 2);
  }));

for (const [name, leave] of [
  [
    "a break",
    async (stream) => {
      for await (const { text } of stream) {
        assert.equal(text, "h");
        break;
      }
    },
  ],
  [
    "an error in the loop",
    async (stream) => {
      const loop = async () => {
        for await (const { text } of stream) {
          throw new Error(text);
        }
      };
      await assert.rejects(loop(), /^Error: h$/);
    },
  ],
  [
    "close",
    async (stream) => {
      await stream.next();
      await stream.close();
      await stream.close();
    },
  ],
  [
    "close before the first chunk",
    async (stream) => {
      await stream.response();
      await stream.close();
    },
  ],
  [
    "the end of a block",
    async (stream) => {
      await using inner = stream;
      await inner.next();
    },
  ],
] as [string, (stream: Stream) => Promise<void>][]) {
  test(`${name} closes the connection`, () =>
    streaming([beginning], async (stream, server) => {
      await leave(stream);
      assert.equal(await server.received[0]?.over, "left");
      assert.deepEqual(await texts(stream), []);
      await assert.rejects(stream.result(), IncompleteStreamError);
      assert.equal(server.received.length, 1);
    }));
}

test("close ends a loop that waits for the next chunk", () =>
  streaming([beginning], async (stream, server) => {
    assert.equal((await stream.next()).value?.text, "h");
    const waiting = texts(stream);
    await stream.close();
    assert.deepEqual(await waiting, []);
    assert.equal(await server.received[0]?.over, "left");
  }));

test("a stream that was closed first sends nothing", () =>
  streaming([HE], async (stream, server) => {
    await stream.close();
    assert.deepEqual(await texts(stream), []);
    await assert.rejects(stream.response(), IncompleteStreamError);
    await assert.rejects(stream.result(), IncompleteStreamError);
    assert.equal(server.received.length, 0);
  }));

test("a signal ends a stream with its reason, in the middle or before", () => {
  const controller = new AbortController();
  const { signal } = controller;
  return streaming(
    [beginning],
    async (stream, server, client) => {
      await stream.next();
      controller.abort(new Error("stop"));
      await assert.rejects(stream.next(), /^Error: stop$/);
      assert.equal(await server.received[0]?.over, "left");
      await assert.rejects(client.stream("a", { signal }).next(), /^Error: stop$/);
      assert.equal(server.received.length, 1);
    },
    { signal },
  );
});

test("a signal counts also for chunks that have come already", () => {
  const controller = new AbortController();
  const answer: Answer = (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(data(chunk("h", [104])) + data(chunk("é", [195, 169], LAST)) + data("[DONE]"));
  };
  return streaming(
    [answer],
    async (stream) => {
      await stream.next();
      controller.abort();
      await assert.rejects(stream.next(), { name: "AbortError" });
      await assert.rejects(stream.result(), IncompleteStreamError);
    },
    { signal: controller.signal },
  );
});

test("a stream that pauses too long is given up", () =>
  streaming(
    [beginning],
    async (stream, server) => {
      using timers = new HeldTimers(12_345);
      assert.equal((await stream.next()).value?.text, "h");
      const before = timers.count;
      const refused = assert.rejects(stream.next(), APITimeoutError);
      await timers.reached(before + 1);
      timers.ring();
      await refused;
      assert.equal(await server.received[0]?.over, "left");
    },
    { timeoutMs: 12_345 },
  ));

test("a reader may take longer than that", () => {
  let goOn: () => unknown = () => assert.fail("nobody has asked yet");
  const answer: Answer = (response) => {
    beginning(response);
    goOn = () =>
      response.end(data(chunk("", [195])) + data(chunk("é", [169], LAST)) + data("[DONE]"));
  };
  return streaming(
    [answer],
    async (stream) => {
      using timers = new HeldTimers(12_345);
      await stream.next();
      assert.ok(timers.count > 0);
      timers.ring(); // those that run while nobody asks for the next chunk
      goOn();
      assert.deepEqual(await texts(stream), ["", "é"]);
    },
    { timeoutMs: 12_345 },
  );
});

test("an error in mid-stream is one of the stream", () =>
  streaming(
    [events(chunk("h", [104]), { error: { type: "engine_error", message: "oh", param: null } })],
    async (stream, server) => {
      assert.equal((await stream.next()).value?.text, "h");
      await assert.rejects(stream.next(), (error) => {
        assert.ok(error instanceof StreamError);
        assert.equal(error.type, "engine_error");
        assert.equal(error.message, "oh");
        assert.equal(error.param, null);
        return true;
      });
      await assert.rejects(stream.result(), IncompleteStreamError);
      assert.equal(server.received.length, 1);
    },
  ));

test("a stream that breaks off is not sent again", async () => {
  const answers: Answer[] = [
    events(chunk("h", [104])),
    (response) => {
      beginning(response);
      response.write("data: {", () => response.socket?.destroy());
    },
  ];
  for (const answer of answers) {
    await streaming([answer], async (stream, server) => {
      assert.equal((await stream.next()).value?.text, "h");
      await assert.rejects(stream.next(), IncompleteStreamError);
      assert.equal(server.received.length, 1);
    });
  }
});

test("one that was not accepted is", () =>
  streaming(
    [refuse(503, "overloaded", { "retry-after": "0" }), hangUp, HE],
    async (stream, server) => {
      assert.equal((await stream.result()).text, "hé");
      assert.equal(server.received.length, 3);
    },
  ));

test("a refusal is thrown where the request is sent, and only there", () =>
  streaming(
    [refuse(503, "overloaded")],
    async (stream, server) => {
      await assert.rejects(stream.response(), ServiceUnavailableError);
      await assert.rejects(stream.next(), ServiceUnavailableError);
      assert.equal(server.received.length, 1);
    },
    { maxRetries: 0 },
  ));

test("what is not a stream of chunks is refused", async () => {
  const answers: Answer[] = [
    events("nonsense"),
    events("[1]"),
    events({ id: "gen-1" }),
    events({ error: "oh" }),
    events("[DONE]"),
    events(chunk("h", [104]), "[DONE]"),
    events(chunk("h", [104], { finish_reason: "stop" }), "[DONE]"),
    events(chunk("h", [104], { ...LAST, index: 1 }), "[DONE]"),
    (response) => response.setHeader("content-type", "text/html").end("<p>Welcome"),
  ];
  for (const answer of answers) {
    await streaming([answer], async (stream, server) => {
      await assert.rejects(stream.result(), ResponseFormatError);
      assert.notEqual(await server.received[0]?.over, undefined);
      assert.equal(server.received.length, 1);
    });
  }
});

test("events of other types, and what follows the end, are left alone", () => {
  const answer: Answer = (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`: hello\n\nevent: ping\n${data("x")}`);
    response.end(data(chunk("hé", [1, 2, 3], LAST)) + data("[DONE]") + data("x"));
  };
  return streaming([answer], async (stream) => {
    assert.deepEqual(await texts(stream), ["hé"]);
    assert.equal((await stream.result()).text, GENERATION.text);
  });
});

test("a stream is the same wherever its bytes are cut", async () => {
  const bytes = Buffer.from(
    data(chunk("h", [104])) + data(chunk("é🚄", [195, 169], LAST)) + data("[DONE]"),
  );
  for (let cut = 1; cut < bytes.length; cut += 1) {
    const pieces = [bytes.subarray(0, cut), bytes.subarray(cut)];
    const body = new ReadableStream({
      pull(controller) {
        const piece = pieces.shift();
        if (piece === undefined) {
          controller.close();
        } else {
          controller.enqueue(new Uint8Array(piece));
        }
      },
    });
    const client = new Client({
      fetch: async () => new Response(body, { headers: { "content-type": "text/event-stream" } }),
    });
    assert.deepEqual(await texts(client.stream("hé🚄")), ["h", "é🚄"], `cut at ${cut}`);
  }
});

test("a stream of nobody's is a connection error", async () => {
  const client = new Client({ baseUrl: "http://127.0.0.1:9", maxRetries: 0 });
  await assert.rejects(client.stream("a").result(), APIConnectionError);
});
