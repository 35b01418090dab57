/** Decides whether to retry a request, and how long to wait before that. */

import {
  APIConnectionError,
  APIStatusError,
  APITimeoutError,
  DeadlineExceededError,
  SessionBusyError,
} from "./errors.js";

export const RETRIED_STATUSES: ReadonlySet<number> = new Set([408, 429, 502, 503, 504]);

// Errors that the server reports before it does anything. Other answers with the same statuses may
// come from a proxy that lost the server's answer, or from a server that was stopped at work.
// `request_timeout` means that the whole request did not arrive in time.
const NOTHING_DONE: ReadonlySet<string | null> = new Set([
  "not_ready",
  "overloaded",
  "request_timeout",
]);

const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 8_000;
const MAX_RETRY_AFTER_MS = 60_000;

/**
 * Decides about requests that failed before any of their answer was handed out.
 *
 * Most requests are repeatable: doing them twice has the same effect as doing them once. They are
 * retried after connection errors and after the statuses 408, 429, 502, 503 and 504. They are not
 * retried if the answer timed out, because the server is still busy with the request and a second one
 * would only add to its work; nor if the deadline of the request has passed.
 *
 * The wait is at least as long as `Retry-After` asks. If that is more than a minute, the request is not
 * retried, so that the caller can decide.
 *
 * A turn in a session is not repeatable, nor is a request that makes a session. These are retried only
 * if the server has certainly not acted on them: it was not reached, or it answered with 429, or with
 * 408 or 503 and a type of error that says so.
 *
 * A request for a busy session is retried if the server says how long to wait.
 *
 * The server has the last word: an answer with `x-should-retry: false` is not retried, and one with
 * `true` is, whatever its status, if doing it twice does no harm.
 */
export class RetryPolicy {
  readonly #maxRetries: number;
  readonly #random: () => number;

  /**
   * @param maxRetries How many times a request can be retried.
   * @param random Returns a random number in [0, 1), so that clients that were refused together do not
   *   come back together.
   */
  constructor(maxRetries: number, random: () => number = Math.random) {
    if (!Number.isInteger(maxRetries) || maxRetries < 0) {
      throw new RangeError(`maxRetries must be an integer, 0 or more: ${maxRetries}`);
    }
    this.#maxRetries = maxRetries;
    this.#random = random;
  }

  /**
   * Returns how many milliseconds to wait before the next attempt; null not to try again.
   *
   * @param error Why the last attempt failed.
   * @param attempt The number of the last attempt, from 0.
   * @param repeatable Whether doing the request twice has the same effect as doing it once.
   */
  delayMs(error: unknown, attempt: number, repeatable: boolean): number | null {
    if (attempt >= this.#maxRetries || !isTransient(error)) {
      return null;
    }
    if (!repeatable && mayBeDone(error)) {
      return null;
    }
    if (error instanceof APIStatusError && error.retryAfter !== null) {
      const asked = error.retryAfter * 1000;
      return asked <= MAX_RETRY_AFTER_MS ? asked : null;
    }
    const backoff = Math.min(FIRST_DELAY_MS * 2 ** attempt, MAX_DELAY_MS);
    return backoff * (0.5 + 0.5 * this.#random());
  }
}

type Transient = APIStatusError | APIConnectionError;

function isTransient(error: unknown): error is Transient {
  if (error instanceof APIStatusError) {
    const word = error.headers.get("x-should-retry");
    if (word === "true" || word === "false") {
      return word === "true";
    }
  }
  if (error instanceof DeadlineExceededError) {
    return false;
  }
  if (error instanceof SessionBusyError) {
    return error.retryAfter !== null;
  }
  if (error instanceof APIStatusError) {
    return RETRIED_STATUSES.has(error.status);
  }
  return error instanceof APIConnectionError && !(error instanceof APITimeoutError);
}

/** Whether the server may have acted on a request that ended in this error. */
function mayBeDone(error: Transient): boolean {
  if (error instanceof APIStatusError) {
    const refused = error instanceof SessionBusyError || error.status === 429;
    return !refused && !NOTHING_DONE.has(error.type);
  }
  return error.mayHaveArrived;
}
