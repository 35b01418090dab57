/** A generation as it is written. */

import { ChunkReader } from "./chunk-reader.js";
import type { Connection, OpenAnswer } from "./connection.js";
import { IncompleteStreamError } from "./errors.js";
import type { Call } from "./requests.js";
import type { Chunk, Generation } from "./types.js";

/**
 * The chunks of one generation, for `for await`.
 *
 * The request is sent by `response`, or else when the first chunk is asked for. Leaving the loop,
 * reading to the end, an error and `close` each end the connection, and with it the generation on the
 * server.
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
   * Made by `Client.stream` and `Session.stream`.
   *
   * @param connection The client's; sends the request.
   * @param call Asks for the generation, as events; its signal is the caller's.
   */
  constructor(connection: Connection, call: Call) {
    const { signal, ...options } = call.options;
    this.#connection = connection;
    this.#call = { ...call, options: { ...options, signal: this.#controller.signal } };
    this.#signal = signal;
  }

  /**
   * Sends the request, unless that was done, and resolves to the head of the answer: its status and
   * headers. The body is for the loop.
   *
   * @throws {CausalRNError} There is none; a refusal, for example.
   */
  async response(): Promise<Response> {
    return (await this.#open()).response;
  }

  /** What is left of the stream is read; resolves to the whole, as `Client.generate` does. */
  async result(): Promise<Generation> {
    for await (const _ of this) {
      // The reader adds them up.
    }
    return this.#reader.generation();
  }

  /** Closes the connection; the server then stops the generation. A loop over it ends. */
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

  /** Once: a request that failed is not sent by the next call. */
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
          this.#signal?.throwIfAborted(); // several may have come together
          yield chunk;
        }
      }
      // Let the answer end, so that its connection can be used again.
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
