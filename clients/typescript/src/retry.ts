/** When a request is sent again, and after how long. */

import {
  APIConnectionError,
  APIStatusError,
  APITimeoutError,
  DeadlineExceededError,
  SessionBusyError,
} from "./errors.js";

export const RETRIED_STATUSES: ReadonlySet<number> = new Set([408, 429, 502, 503, 504]);

// Refusals that the server gives before it begins; other answers of these statuses may come from a
// proxy that lost the server's own, or from a server that ended before its work did. The time-out is
// that of a request which did not arrive as a whole.
const NOTHING_DONE: ReadonlySet<string | null> = new Set([
  "not_ready",
  "overloaded",
  "request_timeout",
]);

const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 8_000;
const MAX_RETRY_AFTER_MS = 60_000;

/**
 * Decides about a request that failed before anything of its answer was handed out.
 *
 * Most requests may be repeated: they change nothing, or the same. These are sent again after
 * connection errors, and after the statuses 408, 429, 502, 503 and 504. Not after a time-out of the
 * answer: the server is busy with the request, and a second one would only add to its work. Nor after
 * the deadline that the request itself set: its time is up.
 *
 * The server is not asked again before the time that its `Retry-After` names; where that is more than
 * a minute away, not at all: whoever called can wait better.
 *
 * A turn in a session may not be repeated, for it would be there twice, nor may what makes a session.
 * These are sent again only if the server has certainly done nothing: it was not reached, or answered
 * 429, or 408 or 503 with a type that says so.
 *
 * A busy session is asked again where the server says after how long.
 */
export class RetryPolicy {
  readonly #maxRetries: number;
  readonly #random: () => number;

  /**
   * @param maxRetries How many times a request may be sent again; 0 for never.
   * @param random A number in [0, 1), so that clients refused together do not come back together.
   */
  constructor(maxRetries: number, random: () => number = Math.random) {
    if (!Number.isInteger(maxRetries) || maxRetries < 0) {
      throw new RangeError(`maxRetries must be an integer, 0 or more: ${maxRetries}`);
    }
    this.#maxRetries = maxRetries;
    this.#random = random;
  }

  /**
   * Milliseconds to wait before the next attempt; null if there shall be none.
   *
   * @param attempt Number of the one that failed, counted from 0.
   * @param repeatable Whether to do twice what the request asks for is the same as once.
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

/** Whether the server may have done what it was asked for. */
function mayBeDone(error: Transient): boolean {
  if (error instanceof APIStatusError) {
    const refused = error instanceof SessionBusyError || error.status === 429;
    return !refused && !NOTHING_DONE.has(error.type);
  }
  return error.mayHaveArrived;
}
