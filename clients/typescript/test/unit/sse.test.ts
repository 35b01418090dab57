import assert from "node:assert/strict";
import { test } from "node:test";
import { ResponseFormatError } from "../../dist/errors.js";
import { type ServerSentEvent, SSEDecoder } from "../../dist/sse.js";

const utf8 = new TextEncoder();

function decode(...pieces: Uint8Array[]): ServerSentEvent[] {
  const decoder = new SSEDecoder();
  return pieces.flatMap((piece) => decoder.feed(piece));
}

function event(data: string, event = "message", lastId = ""): ServerSentEvent {
  return { data, event, lastId };
}

const STREAMS: [string, string, ServerSentEvent[]][] = [
  ["data", "data: a\n\ndata:b\n\n", [event("a"), event("b")]],
  ["CR LF", "data: a\r\ndata: b\r\n\r\n", [event("a\nb")]],
  ["CR", "data: a\rdata: b\r\rdata: c\r\r", [event("a\nb"), event("c")]],
  ["mixed ends", "data: a\r\n\rdata: b\n\r\ndata: c\r\n\n", [event("a"), event("b"), event("c")]],
  ["comments", ": hello\n\n:\ndata: a\n: x\n\n", [event("a")]],
  ["UTF-8 of all lengths", "data: aé東🚄\n\n", [event("aé東🚄")]],
  ["other line separators", "data: a\u2028b\u0085c\u000bd\n\n", [event("a\u2028b\u0085c\u000bd")]],
  ["a byte order mark", "\ufeffdata: a\n\n", [event("a")]],
  ["one that is text", "data: \ufeffa\n\n", [event("\ufeffa")]],
  ["types", "event: ping\ndata: a\n\ndata: b\n\n", [event("a", "ping"), event("b")]],
  ["a type without data", "event: ping\n\ndata: a\n\n", [event("a")]],
  [
    "ids",
    "id: 1\ndata: a\n\ndata: b\n\nid: 2\0\nid\ndata: c\n\n",
    [event("a", "message", "1"), event("b", "message", "1"), event("c")],
  ],
  ["colons and spaces", "data::  a \n\ndata:  b\n\n", [event(":  a "), event(" b")]],
  ["no colon", "data\n\ndata\ndata\n\n", [event(""), event("\n")]],
  ["unknown fields", "retry: 10\nfoo: bar\n data: x\ndata: a\n\n", [event("a")]],
  ["the end", "data: a\n\ndata: [DONE]\n\n", [event("a"), event("[DONE]")]],
  ["an error", 'data: {"error": {}}\n\n', [event('{"error": {}}')]],
  ["cut short", "data: a\n\ndata: b\n", [event("a")]],
  ["nothing", "", []],
];

for (const [name, stream, events] of STREAMS) {
  test(`decodes ${name}, however it is cut`, () => {
    const bytes = utf8.encode(stream);
    assert.deepEqual(decode(bytes), events);
    assert.deepEqual(decode(...Array.from(bytes, (byte) => Uint8Array.of(byte))), events);
    for (let cut = 0; cut <= bytes.length; cut++) {
      for (let next = cut; next <= bytes.length; next++) {
        const pieces = [bytes.slice(0, cut), bytes.slice(cut, next), bytes.slice(next)];
        assert.deepEqual(decode(...pieces), events, `cut at ${cut} and ${next}`);
      }
    }
  });
}

test("dispatches an event as soon as it is complete, also where lines end in CR", () => {
  const decoder = new SSEDecoder();
  assert.deepEqual(decoder.feed(utf8.encode("data: a\r\r")), [event("a")]);
  assert.deepEqual(decoder.feed(utf8.encode("\ndata: b\n\n")), [event("b")]);
});

test("replaces bytes that are not UTF-8", () => {
  const head = utf8.encode("data: a");
  const tail = utf8.encode("b\n\n");
  assert.deepEqual(decode(head, Uint8Array.of(0xff), tail), [event("a\ufffdb")]);
  assert.deepEqual(decode(head, Uint8Array.of(0xe6, 0x9d), tail), [event("a\ufffdb")]);
});

test("gives up on an event that never ends, in one line or in many", () => {
  for (const piece of ["x", "data: x\n", "data\n"]) {
    const decoder = new SSEDecoder(100);
    assert.throws(() => {
      for (let i = 0; i < 101; i++) {
        decoder.feed(utf8.encode(piece));
      }
    }, ResponseFormatError);
  }
});

test("takes any number of events of the longest length", () => {
  const decoder = new SSEDecoder(100);
  const stream = utf8.encode(`data: ${"x".repeat(90)}\n\n: ${"x".repeat(90)}\n`);
  for (let i = 0; i < 10; i++) {
    assert.equal(decoder.feed(stream).length, 1);
  }
});
