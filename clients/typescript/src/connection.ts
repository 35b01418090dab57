/** The way of a request to the server, and of the answer back. */

import { checkType, parseObject, refusal, type Shape, validate } from "./answers.js";
import { InvalidRequestError, NotFoundError } from "./errors.js";
import { Exchange } from "./exchange.js";
import { type Call, FILE_TYPE, JSON_TYPE } from "./requests.js";
import type { RetryPolicy } from "./retry.js";

/** Told how many bytes are through, and of how many; null where nobody knows. */
export type Progress = (done: number, total: number | null) => void;

/** A successful answer whose body is not read. */
export interface OpenAnswer {
  response: Response;
  exchange: Exchange;
}

/** Sends requests to one server, again where the policy says so. */
export class Connection {
  readonly #base: URL;
  readonly #headers: Headers;
  readonly #fetch: typeof globalThis.fetch;
  readonly #timeoutMs: number | null;
  readonly #retries: RetryPolicy;

  constructor(
    base: URL,
    headers: Headers,
    fetch: typeof globalThis.fetch,
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
   * The whole of a successful answer.
   *
   * @throws {CausalRNError} There was none.
   */
  async send<T>(call: Call, shape: Shape<T>): Promise<T> {
    return this.#repeat(call, () => this.sendOnce(call, shape));
  }

  /** The same without a second attempt. */
  async sendOnce<T>(call: Call, shape: Shape<T>): Promise<T> {
    return this.#once(call, async ({ response, exchange }) => {
      checkType(response, JSON_TYPE);
      return validate(shape, parseObject(await exchange.text()));
    });
  }

  /** A successful answer of the type that was asked for, its body not read. Close its exchange. */
  async open(call: Call): Promise<OpenAnswer> {
    return this.#repeat(call, async () => {
      const answer = await this.#openOnce(call);
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
   * Deletes something.
   *
   * @throws {NotFoundError} It was not there, at the first attempt. Later ones may only have missed
   *   the answer to an earlier one.
   */
  async delete(call: Call): Promise<void> {
    let isFirst = true;
    return this.#repeat(call, async () => {
      const missable = !isFirst;
      isFirst = false;
      try {
        await this.#once(call, ({ exchange }) => exchange.text());
      } catch (error) {
        if (!(missable && error instanceof NotFoundError)) {
          throw error;
        }
      }
    });
  }

  /** The body of an answer; where it breaks, again from its start. */
  async download(call: Call, onProgress: Progress | undefined): Promise<Blob> {
    return this.#repeat(call, () =>
      this.#once(call, async ({ response, exchange }) => {
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

  async #repeat<T>(call: Call, once: () => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await once();
      } catch (error) {
        const delay = this.#retries.delayMs(error, attempt, call.repeatable);
        if (delay === null) {
          throw error;
        }
        await sleep(delay, call.options.signal);
      }
    }
  }

  async #once<T>(call: Call, read: (answer: OpenAnswer) => Promise<T>): Promise<T> {
    const answer = await this.#openOnce(call);
    try {
      return await read(answer);
    } finally {
      answer.exchange.close();
    }
  }

  async #openOnce(call: Call): Promise<OpenAnswer> {
    const url = new URL(this.#base.href.replace(/\/*$/, "") + call.path);
    const init: RequestInit = { method: call.method, headers: this.#headersOf(call) };
    if (call.body !== undefined) {
      init.body = call.body.content;
    }
    const exchange = new Exchange(this.#timeoutMs, call.options.signal);
    try {
      const response = await exchange.send(this.#fetch, url, init);
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

/** Waits, unless the signal ends it. */
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
