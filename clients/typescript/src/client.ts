/** The client. */

import {
  GENERATION,
  HEALTH,
  MODELS,
  SERVER_INFO,
  SESSION,
  SESSIONS,
  TEXT,
  TOKENIZATION,
  TOKENIZER,
} from "./answers.js";
import { Connection } from "./connection.js";
import { variable } from "./environment.js";
import { APIConnectionError, APIStatusError, ResponseFormatError } from "./errors.js";
import {
  EVENTS_TYPE,
  FILE_TYPE,
  generateCall,
  get,
  JSON_TYPE,
  post,
  query,
  sessionPath,
} from "./requests.js";
import { RETRIED_STATUSES, RetryPolicy } from "./retry.js";
import { joined, READING, readScore, type Score } from "./score.js";
import { type ForkOptions, Session } from "./session.js";
import { newSessionId } from "./session-id.js";
import { Stream } from "./stream.js";
import type {
  GenerateOptions,
  Generation,
  Health,
  Model,
  ModelOptions,
  Prompt,
  RequestOptions,
  ScoreOptions,
  ServerInfo,
  SessionInfo,
  Tokenization,
  TokenizeOptions,
  Tokenizer,
} from "./types.js";

const DEFAULT_BASE_URL = "http://127.0.0.1:8000";
const DEFAULT_TIMEOUT_MS = 120_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1; // what is longer, setTimeout takes for no time at all

/** The options of a client: which server to use, and how. */
export interface ClientOptions {
  /**
   * The address of the server, which can include a path. If left out, in Node it comes from the
   * variable CAUSALRN_BASE_URL of the environment; or else it is `http://127.0.0.1:8000`. On a page it
   * can be relative to the page's own address.
   */
  baseUrl?: string | URL | undefined;
  /**
   * The key to send with every request, as `Authorization: Bearer …`. If left out, in Node it comes
   * from the variable CAUSALRN_API_KEY, or no key is sent.
   */
  apiKey?: string | undefined;
  /** The model to use for calls that do not name one; the server's default if left out. */
  model?: string | undefined;
  /** The function to send requests with, in place of the global `fetch`. */
  fetch?: typeof globalThis.fetch | undefined;
  /**
   * How long to wait for the head of an answer, and for each further piece of its body, in
   * milliseconds: two minutes by default, null to wait forever. It does not limit how long the whole
   * answer takes.
   */
  timeoutMs?: number | null | undefined;
  /**
   * How many times to retry a request after a connection error or a status 408, 429, 502, 503 or 504,
   * 2 by default. A request is not retried once part of its answer has been handed out, or if the
   * server asks to be left alone for more than a minute. One that makes a session or adds to it is
   * retried only if the server has certainly not acted on it.
   */
  maxRetries?: number | undefined;
  /** Headers to send with every request. */
  headers?: HeadersInit | undefined;
}

/** The options of a new session. */
export interface SessionOptions extends ForkOptions {
  /** The model for all of its turns; the client's default if left out. */
  model?: string | undefined;
}

/**
 * Talks to one CausalRN server.
 *
 * When something goes wrong, methods throw, or reject with, a `CausalRNError`: an `APIStatusError`
 * when the server refuses, an `APIConnectionError` when it cannot be reached, an `APITimeoutError`
 * when it takes too long, and a `ResponseFormatError` when the answer is not one of a CausalRN server.
 * A request that is ended by its `signal` rejects with the signal's reason.
 */
export class Client {
  readonly #connection: Connection;
  readonly #model: string | undefined;

  /**
   * Prepares a client, without connecting to the server yet.
   *
   * @throws {TypeError} `baseUrl` is not an address, or `apiKey` cannot be a key.
   * @throws {RangeError} `timeoutMs` or `maxRetries` is out of range.
   */
  constructor(options: ClientOptions = {}) {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, maxRetries = 2 } = options;
    if (timeoutMs !== null && !(timeoutMs > 0 && timeoutMs <= LONGEST_TIMER_MS)) {
      throw new RangeError(`timeoutMs must be null, or above 0 and below 2^31: ${timeoutMs}`);
    }
    this.#model = options.model;
    this.#connection = new Connection(
      parseBaseUrl(options.baseUrl),
      withKey(options.headers, options.apiKey ?? variable("CAUSALRN_API_KEY")),
      options.fetch,
      timeoutMs,
      new RetryPolicy(maxRetries),
    );
  }

  /** Generates, and resolves to the whole answer once it is complete. */
  async generate(prompt: Prompt, options: GenerateOptions = {}): Promise<Generation> {
    const call = generateCall(prompt, this.#named(options), JSON_TYPE);
    return this.#connection.send(call, GENERATION);
  }

  /**
   * Generates, and returns a stream of the answer while it is being written.
   *
   * With `n`, the chunks of all samples come mixed; their `index` tells them apart. A loop over the
   * stream throws a `StreamError` if the generation fails on the server, with the type
   * `deadline_exceeded` if it was not complete within `deadlineMs`, and an `IncompleteStreamError` if
   * the connection breaks.
   *
   * @throws {InvalidRequestError} A value cannot be sent, such as a lone surrogate.
   */
  stream(prompt: Prompt, options: GenerateOptions = {}): Stream {
    const call = generateCall(prompt, this.#named(options), EVENTS_TYPE);
    return new Stream(this.#connection, call);
  }

  /**
   * Computes how likely the model finds a completion after a prompt. Writes nothing.
   *
   * @param prompt The text before the completion; or token ids, which are used exactly as they are, so
   *   that `score(ids.slice(0, 1), ids.slice(1))` scores all of a text but its first token.
   * @param completion The text to score, or its token ids.
   * @param options Among them `mode`: what a prompt that is a text is. Does not affect token ids.
   * @throws {InvalidRequestError} The prompt or the completion is empty.
   */
  async score(prompt: Prompt, completion: Prompt, options: ScoreOptions = {}): Promise<Score> {
    const { mode, ...rest } = options;
    const { model, signal } = rest;
    const ids = async (text: Prompt, addSpecialTokens: boolean) =>
      typeof text === "string"
        ? (await this.tokenize(text, { model, mode, addSpecialTokens, signal })).tokens
        : text;
    const context = await ids(prompt, true);
    const scored = await ids(completion, false);
    const generation = await this.generate(joined(context, scored), { ...rest, ...READING });
    return readScore(generation, scored);
  }

  /**
   * Turns a text into token ids, including the special ones around a prompt unless
   * `addSpecialTokens` is false.
   */
  async tokenize(text: string, options: TokenizeOptions = {}): Promise<Tokenization> {
    const { model = this.#model, signal, requestId, ...fields } = options;
    const call = post("/tokenize", { prompt: text, model, ...fields }, { signal, requestId });
    return this.#connection.send(call, TOKENIZATION);
  }

  /** Turns token ids into a text. None of them can be a special one. */
  async detokenize(
    tokens: readonly number[],
    { model = this.#model, ...options }: ModelOptions = {},
  ): Promise<string> {
    const call = post("/detokenize", { tokens, model }, options);
    return (await this.#connection.send(call, TEXT)).prompt;
  }

  /** Describes the tokenizer of a model. */
  async tokenizerInfo({ model = this.#model, ...options }: ModelOptions = {}): Promise<Tokenizer> {
    const call = get(`/tokenizer_info${query({ model })}`, options);
    return this.#connection.send(call, TOKENIZER);
  }

  /** Lists the models that are served, the default one first. */
  async models(options: RequestOptions = {}): Promise<Model[]> {
    return (await this.#connection.send(get("/v1/models", options), MODELS)).data;
  }

  /** Makes a session. */
  async createSession({ ttlSeconds, model, ...options }: SessionOptions = {}): Promise<Session> {
    const fields = { ttlSeconds, model: model ?? this.#model };
    const call = post("/sessions", fields, options, { repeatable: false });
    const { id } = await this.#connection.send(call, SESSION);
    return new Session(this.#connection, id, true);
  }

  /**
   * Finds a session by its id. It stays on the server when an `await using` block ends.
   *
   * @throws {SessionNotFoundError} There is no such session, or no longer.
   */
  async getSession(id: string, options: RequestOptions = {}): Promise<Session> {
    await this.#connection.send(get(sessionPath(id), options), SESSION);
    return new Session(this.#connection, id, false);
  }

  /**
   * Yields all sessions on the server, oldest first, and fetches each page when it is needed.
   * Sessions that are made or deleted in the meantime may or may not be included.
   *
   * @param options Among them `limit`: how many sessions to fetch at a time, 1 to 1000.
   */
  async *listSessions({
    limit,
    ...options
  }: RequestOptions & { limit?: number | undefined } = {}): AsyncGenerator<SessionInfo, void> {
    let after: string | undefined;
    do {
      const call = get(`/sessions${query({ limit, after })}`, options);
      const page = await this.#connection.send(call, SESSIONS);
      yield* page.sessions;
      if (page.next !== null && page.next === after) {
        throw new ResponseFormatError(`the page of sessions after ${after} leads to itself`);
      }
      after = page.next ?? undefined;
    } while (after !== undefined);
  }

  /**
   * Uploads a snapshot, and resolves to the session that the server makes from it.
   *
   * @param options Among them `id`: the id for the session, `ses-` and 32 hexadecimal digits. It
   *   replaces a session that has this id already, and stays on the server. Without `id`, the session
   *   gets a new one, and the end of an `await using` block deletes it.
   * @throws {InvalidSnapshotError} The snapshot is damaged, or was made with other weights or by
   *   another version.
   */
  async restoreSession(
    snapshot: Blob | BufferSource,
    { id, ...options }: RequestOptions & { id?: string | undefined } = {},
  ): Promise<Session> {
    const content = snapshot instanceof Blob ? snapshot : new Blob([snapshot]);
    const info = await this.#connection.send(
      {
        method: "PUT",
        path: sessionPath(id ?? newSessionId(), "/snapshot"),
        accept: JSON_TYPE,
        body: { type: FILE_TYPE, content },
        repeatable: true,
        options,
      },
      SESSION,
    );
    return new Session(this.#connection, info.id, id === undefined);
  }

  /** Describes a model and the limits of the server. */
  async info({ model = this.#model, ...options }: ModelOptions = {}): Promise<ServerInfo> {
    return this.#connection.send(get(`/info${query({ model })}`, options), SERVER_INFO);
  }

  /**
   * Tells how busy the server is. Asks once, without retries.
   *
   * @throws {ServiceUnavailableError} The server is starting, stalled or shutting down.
   */
  async health(options: RequestOptions = {}): Promise<Health> {
    return this.#connection.sendOnce(get("/health/ready", options), HEALTH);
  }

  /** Tells whether the server can take requests now. Asks once, without retries. */
  async ready(options: RequestOptions = {}): Promise<boolean> {
    try {
      await this.health(options);
    } catch (error) {
      const isRefused = error instanceof APIStatusError && RETRIED_STATUSES.has(error.status);
      if (isRefused || error instanceof APIConnectionError) {
        return false;
      }
      throw error;
    }
    return true;
  }

  /** Adds the client's default model, except in a session, which has a model already. */
  #named(options: GenerateOptions): GenerateOptions {
    const { model = options.sessionId === undefined ? this.#model : undefined, ...rest } = options;
    return { model, ...rest };
  }
}

function parseBaseUrl(option: string | URL | undefined): URL {
  const name = option === undefined ? "CAUSALRN_BASE_URL" : "baseUrl";
  const given = option ?? variable(name) ?? DEFAULT_BASE_URL;
  let url: URL;
  try {
    url = new URL(given, globalThis.location?.href);
  } catch (cause) {
    throw new TypeError(`${name} is not a URL: ${given}`, { cause });
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new TypeError(`${name} must begin with http:// or https://: ${given}`);
  }
  if (url.search || url.hash || url.username || url.password) {
    throw new TypeError(`${name} must have neither query nor fragment, neither user nor password`);
  }
  return url;
}

function withKey(given: HeadersInit | undefined, apiKey: string | undefined): Headers {
  const headers = new Headers(given);
  if (apiKey !== undefined) {
    // The error of `Headers` itself would show the key.
    if (!/^[\x21-\x7e]+$/.test(apiKey)) {
      throw new TypeError("apiKey, or CAUSALRN_API_KEY, must be ASCII without spaces");
    }
    headers.set("authorization", `Bearer ${apiKey}`);
  }
  return headers;
}
