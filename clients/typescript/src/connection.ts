/** How requests reach the server and how answers come back. */

import { checkType, parseObject, refusal, type Shape, validate } from "./answers.js";
import { dispatchOptions } from "./dispatcher.js";
import { InvalidRequestError, NotFoundError } from "./errors.js";
import { Exchange } from "./exchange.js";
import { type Call, FILE_TYPE, JSON_TYPE } from "./requests.js";
import type { RetryPolicy } from "./retry.js";

/** Called with the number of bytes transferred so far and the total, or null if it is unknown. */
export type Progress = (done: number, total: number | null) => void;

/** A successful answer whose body is still to be read. */
export interface OpenAnswer {
  response: Response;
  exchange: Exchange;
}

/** Sends requests to one server, and retries them as the policy says. */
export class Connection {
  readonly #base: URL;
  readonly #headers: Headers;
  readonly #fetch: typeof globalThis.fetch | undefined;
  readonly #timeoutMs: number | null;
  readonly #retries: RetryPolicy;

  /** @param fetch Sends the requests, in place of the global one. */
  constructor(
    base: URL,
    headers: Headers,
    fetch: typeof globalThis.fetch | undefined,
    timeoutMs: number | null,
    retries: RetryPolicy,
  ) {
    this.#base = base;
    this.#headers = headers;
    this.#fetch = fetch;
    this.#timeoutMs = timeoutMs;
    this.#retries = retries;
  }

  /**
   * Sends a request and resolves to the whole of its answer.
   *
   * @throws {CausalRNError} There was no successful answer.
   */
  async send<T>(call: Call, shape: Shape<T>): Promise<T> {
    return this.#repeat(call, (isFresh) => this.#sendOnce(call, shape, isFresh));
  }

  /** Does the same without retries. */
  async sendOnce<T>(call: Call, shape: Shape<T>): Promise<T> {
    return this.#sendOnce(call, shape, false);
  }

  /**
   * Sends a request and resolves to its answer, whose body is still to be read. Whoever reads it has
   * to close the exchange.
   */
  async open(call: Call): Promise<OpenAnswer> {
    return this.#repeat(call, async (isFresh) => {
      const answer = await this.#openOnce(call, isFresh);
      try {
        checkType(answer.response, call.accept);
      } catch (error) {
        answer.exchange.close();
        throw error;
      }
      return answer;
    });
  }

  /**
   * Sends a request that deletes something.
   *
   * @throws {NotFoundError} The first attempt did not find it. If only a later attempt does not, an
   *   earlier one probably deleted it and its answer was lost, which is no error.
   */
  async delete(call: Call): Promise<void> {
    let isFirst = true;
    return this.#repeat(call, async (isFresh) => {
      const missable = !isFirst;
      isFirst = false;
      try {
        await this.#once(call, isFresh, ({ exchange }) => exchange.text());
      } catch (error) {
        if (!(missable && error instanceof NotFoundError)) {
          throw error;
        }
      }
    });
  }

  /** Resolves to the body of an answer, and starts over if the connection breaks. */
  async download(call: Call, onProgress: Progress | undefined): Promise<Blob> {
    return this.#repeat(call, (isFresh) =>
      this.#once(call, isFresh, async ({ response, exchange }) => {
        checkType(response, call.accept);
        const length = response.headers.get("content-length");
        const total = length === null ? null : Number(length);
        const pieces: Uint8Array<ArrayBuffer>[] = [];
        let done = 0;
        for (let piece = await exchange.read(); piece !== null; piece = await exchange.read()) {
          pieces.push(piece);
          done += piece.length;
          onProgress?.(done, total);
        }
        return new Blob(pieces, { type: FILE_TYPE });
      }),
    );
  }

  /**
   * A server may close a connection that was idle just when a request is sent over it. So what must
   * not be repeated has a new connection, and so has what is repeated.
   */
  async #repeat<T>(call: Call, once: (isFresh: boolean) => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await once(attempt > 0 || !call.repeatable);
      } catch (error) {
        const delay = this.#retries.delayMs(error, attempt, call.repeatable);
        if (delay === null) {
          throw error;
        }
        await sleep(delay, call.options.signal);
      }
    }
  }

  async #sendOnce<T>(call: Call, shape: Shape<T>, isFresh: boolean): Promise<T> {
    return this.#once(call, isFresh, async ({ response, exchange }) => {
      checkType(response, JSON_TYPE);
      return validate(shape, parseObject(await exchange.text()));
    });
  }

  async #once<T>(
    call: Call,
    isFresh: boolean,
    read: (answer: OpenAnswer) => Promise<T>,
  ): Promise<T> {
    const answer = await this.#openOnce(call, isFresh);
    try {
      return await read(answer);
    } finally {
      answer.exchange.close();
    }
  }

  async #openOnce(call: Call, isFresh: boolean): Promise<OpenAnswer> {
    const url = new URL(this.#base.href.replace(/\/*$/, "") + call.path);
    const init: RequestInit = { method: call.method, headers: this.#headersOf(call) };
    if (call.body !== undefined) {
      init.body = call.body.content;
    }
    const exchange = new Exchange(this.#timeoutMs, call.options.signal);
    try {
      const response = await (this.#fetch === undefined
        ? exchange.send(globalThis.fetch, url, { ...init, ...dispatchOptions(isFresh) })
        : exchange.send(this.#fetch, url, init));
      if (!response.ok) {
        throw refusal(response, await exchange.text());
      }
      return { response, exchange };
    } catch (error) {
      exchange.close();
      throw error;
    }
  }

  #headersOf(call: Call): Headers {
    const headers = new Headers(this.#headers);
    headers.set("accept", call.accept);
    if (call.body !== undefined) {
      headers.set("content-type", call.body.type);
    }
    const { requestId } = call.options;
    if (requestId !== undefined) {
      if (!/^[\x21-\x7e]+$/.test(requestId)) {
        throw new InvalidRequestError("requestId must be ASCII without spaces");
      }
      headers.set("x-request-id", requestId);
    }
    return headers;
  }
}

/** Waits; rejects with the signal's reason if that comes first. */
function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    if (signal?.aborted) {
      abort();
    }
    signal?.addEventListener("abort", abort, { once: true });
  });
}
