import assert from "node:assert/strict";
import { test } from "node:test";
import {
  APIConnectionError,
  APITimeoutError,
  IncompleteStreamError,
  InvalidRequestError,
  ResponseFormatError,
  StreamError,
} from "../../dist/errors.js";
import { RetryPolicy } from "../../dist/retry.js";
import { parseRetryAfter } from "../../dist/retry-after.js";
import { statusError } from "../../dist/status-errors.js";

const policy = new RetryPolicy(2, () => 0);

function refused(status: number, type: string | null = null, retryAfter?: string) {
  const headers = new Headers(retryAfter === undefined ? {} : { "retry-after": retryAfter });
  return statusError({ status, type, message: "no", param: null, headers });
}

function told(status: number, type: string, word: string) {
  const headers = new Headers({ "x-should-retry": word, "retry-after": "0" });
  return statusError({ status, type, message: "no", param: null, headers });
}

const unreached = new APIConnectionError("refused", { mayHaveArrived: false });

const NOW = Date.parse("2026-02-28T23:59:50Z");
const DATES: [string | null, number | null][] = [
  ["0", 0],
  ["7", 7],
  [" 7 ", 7],
  ["0.25", 0.25],
  ["9".repeat(400), Number.POSITIVE_INFINITY],
  ["Sun, 01 Mar 2026 00:00:20 GMT", 30],
  ["Sat, 28 Feb 2026 00:00:00 GMT", 0],
  [null, null],
  ["", null],
  ["-1", null],
  ["nan", null],
  ["Infinity", null],
  ["1e3", null],
  ["0x10", null],
  ["٣", null],
  ["soon", null],
  ["2026-03-01", null],
  ["Sun, 01 Mar 2026 00:00:20", null],
  ["Sun, 99 Mar 2026 00:00:00 GMT", null],
];

for (const [value, seconds] of DATES) {
  test(`Retry-After ${value?.slice(0, 40)}`, () => {
    const parsed = parseRetryAfter(value, NOW);
    assert.equal(parsed, seconds);
  });
}

test("what the server calls hopeless is not sent again", () => {
  for (const [advice, delay] of [
    ["false", null],
    ["true", 250],
  ] as const) {
    const headers = new Headers({ "x-should-retry": advice });
    const error = statusError({ status: 429, type: null, message: "no", param: null, headers });
    assert.equal(policy.delayMs(error, 0, true), delay);
  }
});

test("what is transient is asked for again, later each time, and not for ever", () => {
  for (const error of [408, 429, 502, 503, 504].map((status) => refused(status))) {
    assert.deepEqual(
      [0, 1, 2].map((attempt) => policy.delayMs(error, attempt, true)),
      [250, 500, null],
    );
  }
  const patient = new RetryPolicy(2000, () => 1);
  assert.equal(patient.delayMs(unreached, 1999, true), 8000);
});

test("what is not transient is not", () => {
  const errors = [
    ...[400, 401, 403, 404, 409, 413, 422, 500].map((status) => refused(status)),
    refused(504, "deadline_exceeded"),
    refused(409, "session_busy"),
    new APITimeoutError("slow"),
    new ResponseFormatError("garbage"),
    new InvalidRequestError("NaN"),
    new StreamError("engine_error", "failed"),
    new DOMException("stop", "AbortError"),
  ];
  for (const error of errors) {
    assert.equal(policy.delayMs(error, 0, true), null, `${error}`);
  }
});

test("Retry-After is honoured, up to a minute", () => {
  assert.equal(policy.delayMs(refused(503, null, "3"), 0, true), 3000);
  assert.equal(policy.delayMs(refused(429, null, "60"), 1, true), 60_000);
  assert.equal(policy.delayMs(refused(429, null, "61"), 0, true), null);
  assert.equal(policy.delayMs(refused(503, null, "soon"), 0, true), 250);
});

test("what must not be done twice is sent again only where nothing was done", () => {
  const again = [
    unreached,
    refused(429),
    refused(408, "request_timeout"),
    refused(503, "overloaded"),
    refused(503, "not_ready"),
    refused(409, "session_busy", "1"),
  ];
  const never = [
    new APIConnectionError("reset"),
    new IncompleteStreamError("broken"),
    refused(408),
    refused(502),
    refused(503),
    refused(503, "shutting_down"),
    refused(503, "session_store_unavailable"),
    refused(504),
  ];
  for (const error of again) {
    assert.notEqual(policy.delayMs(error, 0, false), null, `${error}`);
  }
  for (const error of never) {
    assert.equal(policy.delayMs(error, 0, false), null, `${error}`);
    assert.notEqual(policy.delayMs(error, 0, true), null, `${error}`);
  }
});

test("a number of retries is one", () => {
  for (const wrong of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => new RetryPolicy(wrong), RangeError);
  }
});

test("the server has the last word, but no turn is taken twice", () => {
  for (const [status, type, word, repeated, turn] of [
    [503, "overloaded", "false", null, null],
    [503, "overloaded", "true", 0, 0],
    [503, "overloaded", "maybe", 0, 0],
    [409, "session_busy", "false", null, null],
    [500, "engine_error", "true", 0, null],
    [409, "session_exists", "true", 0, null],
    [504, "deadline_exceeded", "true", 0, null],
  ] as [number, string, string, number | null, number | null][]) {
    const error = told(status, type, word);
    assert.equal(policy.delayMs(error, 0, true), repeated, `${type} ${word}`);
    assert.equal(policy.delayMs(error, 0, false), turn, `${type} ${word}`);
    assert.equal(policy.delayMs(error, 2, true), null);
  }
});
