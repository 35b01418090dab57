/** A generation that arrives while it is being written. */

import { ChunkReader } from "./chunk-reader.js";
import type { Connection, OpenAnswer } from "./connection.js";
import { IncompleteStreamError } from "./errors.js";
import type { Call } from "./requests.js";
import type { Chunk, Generation } from "./types.js";

/**
 * Yields the chunks of one generation to a `for await` loop.
 *
 * The request is sent when the first chunk is asked for, or before that by `response`. Leaving the
 * loop closes the connection, and the server then stops generating. So do reading to the end, an error
 * and `close`.
 */
export class Stream implements AsyncIterableIterator<Chunk, undefined> {
  readonly #controller = new AbortController();
  readonly #connection: Connection;
  readonly #call: Call;
  readonly #signal: AbortSignal | undefined;
  readonly #abort = () => this.#controller.abort(this.#signal?.reason);
  readonly #reader = new ChunkReader();
  readonly #chunks = this.#read();
  #opening: Promise<OpenAnswer> | undefined;
  #closed = false;

  /**
   * Not for you to call: `Client.stream` and `Session.stream` return streams.
   *
   * @param connection Sends the request.
   * @param call The request for a generation as events, with the caller's signal.
   */
  constructor(connection: Connection, call: Call) {
    const { signal, ...options } = call.options;
    this.#connection = connection;
    this.#call = { ...call, options: { ...options, signal: this.#controller.signal } };
    this.#signal = signal;
  }

  /**
   * Sends the request, unless it has been sent, and resolves to the head of the answer: its status and
   * headers. Leave its body to the loop.
   *
   * @throws {CausalRNError} There is no successful answer.
   */
  async response(): Promise<Response> {
    return (await this.#open()).response;
  }

  /** Reads the rest of the stream and resolves to the whole generation. */
  async result(): Promise<Generation> {
    for await (const _ of this) {
      // The reader joins them.
    }
    return this.#reader.generation();
  }

  /** Closes the connection, so that the server stops generating. A loop over the stream ends. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#controller.abort();
    await this.#chunks.return(undefined);
    const answer = await this.#opening?.catch(() => undefined);
    answer?.exchange.close();
    this.#signal?.removeEventListener("abort", this.#abort);
  }

  next(): Promise<IteratorResult<Chunk, undefined>> {
    return this.#chunks.next();
  }

  async return(): Promise<IteratorResult<Chunk, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Sends the request once, so that the next call does not send a failed one again. */
  #open(): Promise<OpenAnswer> {
    this.#opening ??= this.#openOnce();
    return this.#opening;
  }

  async #openOnce(): Promise<OpenAnswer> {
    if (this.#closed) {
      throw new IncompleteStreamError("the stream is closed", { mayHaveArrived: false });
    }
    this.#signal?.throwIfAborted();
    this.#signal?.addEventListener("abort", this.#abort);
    try {
      return await this.#connection.open(this.#call);
    } catch (error) {
      this.#signal?.removeEventListener("abort", this.#abort);
      throw error;
    }
  }

  async *#read(): AsyncGenerator<Chunk, undefined> {
    let exchange: OpenAnswer["exchange"] | undefined;
    try {
      ({ exchange } = await this.#open());
      while (!this.#reader.done) {
        const piece = await exchange.read(IncompleteStreamError);
        if (piece === null) {
          this.#reader.end();
          break;
        }
        for (const chunk of this.#reader.feed(piece)) {
          this.#signal?.throwIfAborted(); // several chunks may have come together
          yield chunk;
        }
      }
      // Read on to the end of the answer, so that its connection can be used again.
      await exchange.read().catch(() => null);
    } catch (error) {
      if (!this.#closed) {
        throw error;
      }
    } finally {
      exchange?.close();
      this.#signal?.removeEventListener("abort", this.#abort);
    }
    return undefined;
  }
}
