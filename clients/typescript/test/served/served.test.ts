/** What this package says of the server is what the server does. */

import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { after, before, test } from "node:test";
import {
  Client,
  DeadlineExceededError,
  InvalidSnapshotError,
  ModelNotFoundError,
  type Session,
  SessionBusyError,
  SessionNotFoundError,
  StreamError,
  UnprocessableEntityError,
} from "causalrn-client";
import { Server } from "./server.js";

globalThis.crypto ??= webcrypto as Crypto; // Node 18 has it under this name only

const TEXT = "Zürich → 東京 🚄";
const BYTES = [...new TextEncoder().encode(TEXT)];
/** More than anybody waits for. */
const ENDLESS = { ignoreEos: true, maxTokens: 10_000 };

let server: Server;
let client: Client;

before(async () => {
  server = await Server.start("exact-bytes");
  client = new Client({ baseUrl: server.url });
});

after(() => server[Symbol.asyncDispose]());

async function isIdle(): Promise<void> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const { running, waiting } = await client.health();
    if (running + waiting === 0) {
      return;
    }
    assert.ok(Date.now() < deadline, `${running} running and ${waiting} waiting`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test("generate copies", async () => {
  const generation = await client.generate(TEXT);
  assert.equal(generation.text, TEXT);
  assert.deepEqual(generation.tokenIds, BYTES);
  assert.equal(generation.finishReason, "stop");
  assert.equal(generation.model, "exact-bytes");
  assert.equal(generation.usage.completionTokens, BYTES.length);
  assert.deepEqual((await client.generate(BYTES)).tokenIds, BYTES);
});

test("stream copies, and never cuts a character", async () => {
  const stream = client.stream(TEXT);
  let text = "";
  for await (const chunk of stream) {
    assert.ok(!chunk.text.includes("\ufffd"));
    text += chunk.text;
  }
  assert.equal(text, TEXT);
  const { id: _, ...whole } = await stream.result();
  const { id: __, ...same } = await client.generate(TEXT);
  assert.deepEqual({ ...whole, usage: 0 }, { ...same, usage: 0 });
});

test("several samples, with log-probabilities, are the same streamed or not", async () => {
  const options = { n: 3, logprobs: 2, temperature: 1.5, seed: 7, maxTokens: 8, echo: true };
  const generation = await client.generate("both", options);
  const streamed = await client.stream("both", options).result();
  assert.equal(generation.samples?.length, 3);
  assert.deepEqual(streamed.samples, generation.samples);
  for (const { tokenIds, logprobs } of generation.samples) {
    assert.equal(logprobs?.length, tokenIds.length);
    assert.ok(logprobs.every(({ top }) => top.length === 2));
  }
});

test("what the server may be asked for", async () => {
  const [stopped, biased] = await Promise.all([
    client.generate("one, two", { stop: [","], minP: 0.1, topK: 5, topP: 0.9, priority: 1 }),
    client.generate("aaaa", { logitBias: { 97: -100, 98: 100 }, maxTokens: 2 }),
  ]);
  assert.equal(stopped.text, "one");
  assert.equal(biased.text, "bb");
});

test("leaving a loop ends the generation on the server", async () => {
  for await (const _ of client.stream(TEXT, ENDLESS)) {
    assert.equal((await client.health()).running, 1);
    break;
  }
  await isIdle();
});

test("so does a signal, streaming or not", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const whole = client.generate(TEXT, { ...ENDLESS, signal });
  const streamed = client.stream(TEXT, { ...ENDLESS, signal });
  await streamed.next();
  controller.abort();
  await assert.rejects(whole, { name: "AbortError" });
  await assert.rejects(streamed.result(), { name: "AbortError" });
  await isIdle();
});

test("a deadline is kept by the server", async () => {
  const options = { ...ENDLESS, deadlineMs: 100 };
  await assert.rejects(client.generate(TEXT, options), DeadlineExceededError);
  await assert.rejects(client.stream(TEXT, options).result(), (error) => {
    assert.ok(error instanceof StreamError);
    assert.equal(error.type, "deadline_exceeded");
    return true;
  });
});

test("a refusal says what is wrong", async () => {
  await assert.rejects(client.generate("a", { maxTokens: 0, requestId: "mine-1" }), (error) => {
    assert.ok(error instanceof UnprocessableEntityError);
    assert.equal(error.param, "max_tokens");
    assert.equal(error.requestId, "mine-1");
    assert.equal(error.type, "invalid_request");
    return true;
  });
  await assert.rejects(client.stream("a", { model: "none" }).response(), ModelNotFoundError);
});

test("text becomes tokens, and text again", async () => {
  const { count, tokens, maxModelLen, tokenStrs } = await client.tokenize(TEXT);
  assert.equal(count, BYTES.length + 2);
  assert.deepEqual(tokens.slice(1, -1), BYTES);
  assert.ok(maxModelLen > count);
  assert.equal(tokenStrs, null);
  const plain = await client.tokenize("hé", { addSpecialTokens: false, returnTokenStrs: true });
  assert.deepEqual(plain.tokens, [104, 195, 169]);
  assert.equal(plain.tokenStrs?.[0], "h");
  assert.equal(await client.detokenize(BYTES), TEXT);
  const { bosTokenId, sepTokenId, vocabSize } = await client.tokenizerInfo();
  assert.deepEqual([tokens[0], tokens.at(-1)], [bosTokenId, sepTokenId]);
  assert.ok(vocabSize > 256);
});

test("a copy is likely, anything else is not", async () => {
  const [copy, other] = await Promise.all([
    client.score("the same", "the same"),
    client.score("the same", "the s4me"),
  ]);
  assert.ok(copy.isLikeliest);
  assert.ok(copy.perplexity < 1.1, `${copy.perplexity}`);
  assert.ok(!other.isLikeliest);
  assert.ok(other.logprob < copy.logprob - 1);
  assert.deepEqual(
    other.tokens.map(({ tokenId }) => tokenId),
    [...new TextEncoder().encode("the s4me")],
  );
  // The same, as ids that are taken as they are.
  const { tokens } = await client.tokenize("the same");
  const ids = await client.score(tokens, tokens.slice(1, -1));
  assert.deepEqual(ids, copy);
});

test("the server and its models describe themselves", async () => {
  assert.ok(await client.ready());
  const info = await client.info({ model: "exact-bytes" });
  assert.equal(info.model, "exact-bytes");
  assert.ok(info.limits.maxSeqLen > 0);
  assert.equal(typeof info.config.d_model, "number");
  const [model] = await client.models();
  assert.equal(model?.id, "exact-bytes");
  assert.equal(model.fingerprint, info.fingerprint);
  assert.equal(model.maxModelLen, info.limits.maxSeqLen);
});

test("a session goes on, recalls, forks and ends", async () => {
  await using session = await client.createSession({ ttlSeconds: 600 });
  const read = await session.read("The ferry to Oslo leaves at 7:40 from pier 3.");
  assert.equal(read.text, "");
  const copy = await session.generate("Do copies still work?");
  assert.equal(copy.text, "Do copies still work?");
  assert.ok(copy.usage.cachedTokens > 0);
  const recalled = await session.recall("The ferry to Oslo leaves");
  assert.equal(recalled.text, " at 7:40 from pier 3.");
  assert.equal(recalled.verified, true);
  const streamed = await session.stream("again").result();
  assert.equal(streamed.text, "again");
  assert.equal(streamed.verified, true);
  const info = await session.info({ includeTokenIds: true });
  assert.equal(info.nTokens, streamed.session?.nTokens);
  assert.equal(info.tokenIds?.length, info.nTokens);
  assert.equal(info.ttlSeconds, 600);

  const child = await session.fork({ ttlSeconds: 60 });
  await child.read("What only the child has read.");
  assert.ok((await child.info()).nTokens > (await session.info()).nTokens);
  assert.equal((await client.getSession(child.id)).id, child.id);
  await child.delete();
  await assert.rejects(client.getSession(child.id), SessionNotFoundError);
  await assert.rejects(child.generate("a"), SessionNotFoundError);
});

test("a session has one turn at a time", async () => {
  await using session = await client.createSession();
  const impatient = new Client({ baseUrl: server.url, maxRetries: 0 });
  const stream = session.stream(TEXT, ENDLESS);
  await stream.next();
  await assert.rejects(
    (await impatient.getSession(session.id)).generate("a"),
    (error) => error instanceof SessionBusyError && error.retryAfter === 1,
  );
  const waiting = session.generate("my turn", { wait: true, deadlineMs: 60_000 });
  await stream.close();
  // What it says depends on where the turn before, which no longer copied anything, broke off.
  assert.match((await waiting).finishReason ?? "", /^(stop|length)$/);
});

test("a snapshot is a session again", async () => {
  await using session = await client.createSession();
  await session.read("What both have read.");
  const bytes: number[] = [];
  const snapshot = await session.snapshot({ onProgress: (done) => bytes.push(done) });
  assert.equal(bytes.at(-1), snapshot.size);
  await using restored = await client.restoreSession(snapshot);
  assert.notEqual(restored.id, session.id);
  assert.equal((await restored.recall("What both")).text, " have read.");

  const kept = await client.restoreSession(await snapshot.arrayBuffer(), { id: session.id });
  assert.equal(kept.id, session.id);
  await assert.rejects(client.restoreSession(snapshot.slice(0, -1)), InvalidSnapshotError);
});

test("sessions are listed a page at a time, in the order in which they were made", async () => {
  const made: Session[] = [];
  for (let i = 0; i < 5; i++) {
    made.push(await client.createSession());
  }
  const ids = made.map(({ id }) => id);
  const listed: string[] = [];
  for await (const info of client.listSessions({ limit: 2 })) {
    listed.push(info.id);
  }
  assert.deepEqual(
    listed.filter((id) => ids.includes(id)),
    ids,
  );
  await Promise.all(made.map((session) => session.delete()));
});
