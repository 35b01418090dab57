/** A request and its answer, and everything that can end them early. */

import { APIConnectionError, APITimeoutError } from "./errors.js";

/** Node's error codes for requests that never left this machine. */
const NOT_CONNECTED = new Set([
  "EAI_AGAIN",
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** Those of Node for answers that it does not wait for any longer, where `fetch` is not its own. */
const TIMED_OUT = new Set(["UND_ERR_BODY_TIMEOUT", "UND_ERR_HEADERS_TIMEOUT"]);

/**
 * Limits each wait for the server, and ends the request when the caller's signal says so. It has to be
 * closed; this closes the connection unless the answer was read to its end.
 */
export class Exchange {
  readonly #controller = new AbortController();
  readonly #signal: AbortSignal | undefined;
  readonly #timeoutMs: number | null;
  readonly #abort = () => this.#controller.abort(this.#signal?.reason);
  #timedOut = false;
  #isRead = false;
  #response: Response | undefined;
  #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;

  /**
   * @param timeoutMs How long each wait can take; null to wait forever.
   * @param signal The caller's signal.
   * @throws The signal's reason, if it has fired already.
   */
  constructor(timeoutMs: number | null, signal: AbortSignal | undefined) {
    signal?.throwIfAborted();
    this.#timeoutMs = timeoutMs;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#abort);
  }

  /**
   * Sends the request and resolves to the answer, whose body is still to be read.
   *
   * @throws {CausalRNError} There was no answer.
   */
  async send(fetch: typeof globalThis.fetch, url: URL, init: RequestInit): Promise<Response> {
    const { signal } = this.#controller;
    try {
      // A redirection would turn a POST into a GET, or send keys and prompts elsewhere.
      this.#response = await this.#inTime(fetch(url, { ...init, signal, redirect: "manual" }));
      return this.#response;
    } catch (cause) {
      throw this.#explain(cause, APIConnectionError, `no answer from ${url.origin}${url.pathname}`);
    }
  }

  /**
   * Resolves to the next piece of the body; null after the last one.
   *
   * @param kind The error to throw if the connection breaks.
   */
  async read(kind = APIConnectionError): Promise<Uint8Array<ArrayBuffer> | null> {
    this.#reader ??= this.#response?.body?.getReader();
    if (this.#reader === undefined) {
      return null;
    }
    try {
      const { done, value } = await this.#inTime(this.#reader.read());
      this.#isRead = done;
      return done ? null : value;
    } catch (cause) {
      throw this.#explain(cause, kind, "the connection broke");
    }
  }

  /** Resolves to the rest of a body that is text. */
  async text(): Promise<string> {
    const decoder = new TextDecoder();
    let text = "";
    for (let piece = await this.read(); piece !== null; piece = await this.read()) {
      text += decoder.decode(piece, { stream: true });
    }
    return text + decoder.decode();
  }

  /** Ends the exchange unless it is over. Can be called twice. */
  close(): void {
    this.#signal?.removeEventListener("abort", this.#abort);
    if (!this.#isRead) {
      this.#controller.abort();
    }
  }

  async #inTime<T>(work: Promise<T>): Promise<T> {
    if (this.#timeoutMs === null) {
      return work;
    }
    const timer = setTimeout(() => {
      this.#timedOut = true;
      this.#controller.abort();
    }, this.#timeoutMs);
    try {
      return await work;
    } finally {
      clearTimeout(timer);
    }
  }

  #explain(cause: unknown, kind: typeof APIConnectionError, what: string): unknown {
    if (this.#signal?.aborted) {
      return this.#signal.reason;
    }
    if (this.#timedOut) {
      return new APITimeoutError(`nothing came from the server for ${this.#timeoutMs} ms`, {
        cause,
      });
    }
    if (codes(cause instanceof Error ? cause.cause : cause).some((code) => TIMED_OUT.has(code))) {
      return new APITimeoutError(`nothing came from the server: ${reason(cause)}`, { cause });
    }
    return new kind(`${what}: ${reason(cause)}`, { cause, mayHaveArrived: mayHaveArrived(cause) });
  }
}

/** Says why a request failed, which fetch tells only in the cause of its error. */
function reason(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (!(cause instanceof Error)) {
    return String(cause);
  }
  return cause.message || codes(cause).join(", ") || cause.name;
}

function mayHaveArrived(error: unknown): boolean {
  const found = error instanceof Error ? codes(error.cause) : [];
  return found.length === 0 || !found.every((code) => NOT_CONNECTED.has(code));
}

/** The code of an error of Node, or its codes for all the addresses that it tried. */
function codes(error: unknown): string[] {
  if (error instanceof AggregateError) {
    return error.errors.flatMap(codes);
  }
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? [code] : [];
}
