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

/** The options of a fork. */
export interface ForkOptions extends RequestOptions {
  /**
   * Seconds without use after which the server drops the new session. If left out, a fork has the
   * same as its parent, and any other session the server's default.
   */
  ttlSeconds?: number | undefined;
}

/** The options of a snapshot. */
export interface SnapshotOptions extends RequestOptions {
  /**
   * Called with the number of bytes that have arrived and the total; from 0 again when the connection
   * breaks and the request is retried.
   */
  onProgress?: Progress | undefined;
}

/**
 * A conversation that the server remembers: every turn continues from all turns before it.
 *
 * The server takes one turn of a session at a time. A second one throws a `SessionBusyError`, or waits
 * with `wait: true`. A turn that the server may have taken is not sent again, because the session might
 * then hold it twice. After an `APIConnectionError` whose `mayHaveArrived` is true, compare `nTokens`
 * of `info` with what it was before.
 *
 * The end of an `await using` block deletes a session that was made for it. One that
 * `Client.getSession` found stays; the server drops it once nobody has used it for its time-to-live.
 */
export class Session {
  /** The session's id, by which any client can find it. */
  readonly id: string;
  readonly #connection: Connection;
  #isOurs: boolean;

  /**
   * Not for you to call: `Client.createSession`, `Client.getSession`, `Client.restoreSession` and
   * `fork` return sessions.
   *
   * @param isOurs Whether the end of an `await using` block deletes it.
   */
  constructor(connection: Connection, id: string, isOurs: boolean) {
    this.id = id;
    this.#connection = connection;
    this.#isOurs = isOurs;
  }

  /** Takes a turn and resolves to the whole answer. The session then holds prompt and answer. */
  async generate(prompt: Prompt, options: TurnOptions = {}): Promise<Generation> {
    const call = generateCall(prompt, this.#turn(options), JSON_TYPE);
    return this.#connection.send(call, GENERATION);
  }

  /**
   * Takes a turn and returns a stream of the answer, each piece once the session holds it. If you
   * leave the stream early, or it breaks, the session keeps what was written until then.
   */
  stream(prompt: Prompt, options: TurnOptions = {}): Stream {
    return new Stream(this.#connection, generateCall(prompt, this.#turn(options), EVENTS_TYPE));
  }

  /**
   * Continues, word for word, a passage that the session has read, up to its end or to `maxTokens`, by
   * default 256. `verified` says whether the answer is what the session has read. If the model does not
   * find the passage, the text is empty, `finishReason` is `not_found`, and the session stays as it was.
   *
   * @param prefix The first words of the passage, which the answer does not repeat.
   * @throws {UnprocessableEntityError} The model cannot recall.
   */
  recall(prefix: Prompt, options: Omit<TurnOptions, "mode"> = {}): Promise<Generation> {
    return this.generate(prefix, { ...options, mode: "recall" });
  }

  /** Reads a passage into the session and writes nothing. */
  read(passage: Prompt, options: ReadOptions = {}): Promise<Generation> {
    return this.generate(passage, { ...options, mode: "copy", maxTokens: 0 });
  }

  /** Makes a second session with the same content. Both share the server's memory of it. */
  async fork({ ttlSeconds, ...options }: ForkOptions = {}): Promise<Session> {
    const path = sessionPath(this.id, "/fork");
    const call = post(path, { ttlSeconds }, options, { repeatable: false });
    const { id } = await this.#connection.send(call, SESSION);
    return new Session(this.#connection, id, true);
  }

  /** Describes the session, with all of its token ids if `includeTokenIds` is true. */
  async info({
    includeTokenIds = false,
    ...options
  }: RequestOptions & { includeTokenIds?: boolean | undefined } = {}): Promise<SessionInfo> {
    const rest = query({ include: includeTokenIds ? "token_ids" : undefined });
    return this.#connection.send(get(sessionPath(this.id, rest), options), SESSION);
  }

  /** Downloads the session, for `Client.restoreSession` to make it anew on any such server. */
  async snapshot({ onProgress, ...options }: SnapshotOptions = {}): Promise<Blob> {
    const call = get(sessionPath(this.id, "/snapshot"), options, FILE_TYPE);
    return this.#connection.download(call, onProgress);
  }

  /** Deletes the session from the server. A turn in progress ends with an error. */
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
