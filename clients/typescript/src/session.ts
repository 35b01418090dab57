/** A session on the server. */

import { GENERATION, SESSION } from "./answers.js";
import type { Connection, Progress } from "./connection.js";
import { NotFoundError } from "./errors.js";
import {
  type Call,
  EVENTS_TYPE,
  FILE_TYPE,
  generateCall,
  get,
  JSON_TYPE,
  post,
  query,
  sessionPath,
} from "./requests.js";
import { Stream } from "./stream.js";
import type {
  GenerateOptions,
  Generation,
  Prompt,
  ReadOptions,
  RequestOptions,
  SessionInfo,
  TurnOptions,
} from "./types.js";

/** How long a new session lasts. */
export interface ForkOptions extends RequestOptions {
  /** Seconds without use after which it is gone; a fork's are those of its origin if left out. */
  ttlSeconds?: number | undefined;
}

/** How a snapshot is fetched. */
export interface SnapshotOptions extends RequestOptions {
  /**
   * Told how many bytes have come, and of how many. Begins again where the connection breaks and the
   * request is sent again.
   */
  onProgress?: Progress | undefined;
}

/**
 * What the server has read and written so far, kept there. Every turn goes on from the ones before.
 *
 * The server takes one turn of a session at a time: a second one throws a `SessionBusyError`, or
 * waits with `wait: true`. A turn is not sent again where the server may have taken it, since it could
 * be there twice: after an `APIConnectionError` whose `mayHaveArrived` is true, `info` tells by
 * `nTokens`.
 *
 * `await using` deletes the session at the end of the block if it was made for it; one that
 * `Client.getSession` found stays. What is not deleted is gone after its time-to-live without use.
 */
export class Session {
  /** Its name, which another client can find it by. */
  readonly id: string;
  readonly #connection: Connection;
  #isOurs: boolean;

  /**
   * Made by `Client.createSession`, `Client.getSession`, `Client.restoreSession` and `fork`.
   *
   * @param isOurs Whether leaving an `await using` block deletes it.
   */
  constructor(connection: Connection, id: string, isOurs: boolean) {
    this.id = id;
    this.#connection = connection;
    this.#isOurs = isOurs;
  }

  /** Resolves when all is written. The prompt and that are in the session then. */
  async generate(prompt: Prompt, options: TurnOptions = {}): Promise<Generation> {
    const call = generateCall(prompt, this.#turn(options), JSON_TYPE);
    return this.#connection.send(call, GENERATION);
  }

  /**
   * Hands out what is written as it is written, once it is in the session. What was written before
   * the stream was left, or broke, is in the session.
   */
  stream(prompt: Prompt, options: TurnOptions = {}): Stream {
    return new Stream(this.#connection, generateCall(prompt, this.#turn(options), EVENTS_TYPE));
  }

  /**
   * Goes on, verbatim, from the first words of a passage that the session has read.
   *
   * @param prefix The words, which are not repeated in the answer.
   * @throws {UnprocessableEntityError} The model was not trained to recall.
   */
  recall(prefix: Prompt, options: Omit<TurnOptions, "mode"> = {}): Promise<Generation> {
    return this.generate(prefix, { ...options, mode: "recall" });
  }

  /** Reads a passage into the session, and writes nothing. */
  read(passage: Prompt, options: ReadOptions = {}): Promise<Generation> {
    return this.generate(passage, { ...options, mode: "copy", maxTokens: 0 });
  }

  /** Makes another session that holds the same, and shares the server's memory of it. */
  async fork({ ttlSeconds, ...options }: ForkOptions = {}): Promise<Session> {
    const path = sessionPath(this.id, "/fork");
    const call = post(path, { ttlSeconds }, options, { repeatable: false });
    const { id } = await this.#connection.send(call, SESSION);
    return new Session(this.#connection, id, true);
  }

  /** Asks the server about the session, and for all of its tokens if wanted. */
  async info({
    includeTokenIds = false,
    ...options
  }: RequestOptions & { includeTokenIds?: boolean | undefined } = {}): Promise<SessionInfo> {
    const rest = query({ include: includeTokenIds ? "token_ids" : undefined });
    return this.#connection.send(get(sessionPath(this.id, rest), options), SESSION);
  }

  /** Fetches what `Client.restoreSession` makes a session like this one of, on any such server. */
  async snapshot({ onProgress, ...options }: SnapshotOptions = {}): Promise<Blob> {
    const call = get(sessionPath(this.id, "/snapshot"), options, FILE_TYPE);
    return this.#connection.download(call, onProgress);
  }

  /** Deletes the session from the server. A turn that is under way ends with an error. */
  async delete(options: RequestOptions = {}): Promise<void> {
    const path = sessionPath(this.id);
    const call: Call = { method: "DELETE", path, accept: JSON_TYPE, repeatable: true, options };
    await this.#connection.delete(call);
    this.#isOurs = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOurs) {
      try {
        await this.delete();
      } catch (error) {
        if (!(error instanceof NotFoundError)) {
          throw error;
        }
      }
    }
  }

  #turn({ wait, ...options }: TurnOptions): GenerateOptions {
    return { ...options, sessionId: this.id, waitForSession: wait };
  }
}
