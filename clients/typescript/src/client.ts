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

/** Where the server is, and how to talk to it. */
export interface ClientOptions {
  /**
   * Address of the server, `http://127.0.0.1:8000` by default; may hold a path. On a page it may be
   * relative to the page's own.
   */
  baseUrl?: string | URL | undefined;
  /** Sent with every request as `Authorization: Bearer …`. */
  apiKey?: string | undefined;
  /** The model for requests that name none; the server's default if left out. */
  model?: string | undefined;
  /** Sends the requests in place of the global `fetch`. */
  fetch?: typeof globalThis.fetch | undefined;
  /**
   * Milliseconds that each wait for the server may take, for the head of an answer and for each next
   * piece of its body: two minutes by default, null for ever. It does not bound the whole.
   */
  timeoutMs?: number | null | undefined;
  /**
   * How many times a request is sent again, 2 by default, after a connection error or a status 408,
   * 429, 502, 503 or 504, as long as nothing of its answer was handed out; not where the server wants
   * to be left alone for more than a minute. What adds to a session, or makes one, only where the
   * server has certainly not done it yet.
   */
  maxRetries?: number | undefined;
  /** Sent with every request. */
  headers?: HeadersInit | undefined;
}

/** How a session is made. */
export interface SessionOptions extends ForkOptions {
  /** The model that it belongs to; the client's if left out. */
  model?: string | undefined;
}

/**
 * Talks to one CausalRN server.
 *
 * Every method throws, or rejects with, a `CausalRNError` when something goes wrong: an
 * `APIStatusError` when the server refuses, an `APIConnectionError` when it cannot be reached, an
 * `APITimeoutError` when it takes too long, a `ResponseFormatError` when it does not speak the
 * contract. Where a `signal` ends a request, it is the signal's reason.
 */
export class Client {
  readonly #connection: Connection;
  readonly #model: string | undefined;

  /**
   * Connects to nothing yet.
   *
   * @throws {TypeError} `baseUrl` or `apiKey` cannot be one.
   * @throws {RangeError} `timeoutMs` or `maxRetries` cannot be one.
   */
  constructor(options: ClientOptions = {}) {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, maxRetries = 2 } = options;
    if (timeoutMs !== null && !(timeoutMs > 0 && timeoutMs <= LONGEST_TIMER_MS)) {
      throw new RangeError(`timeoutMs must be null, or above 0 and below 2^31: ${timeoutMs}`);
    }
    this.#model = options.model;
    this.#connection = new Connection(
      parseBaseUrl(options.baseUrl ?? DEFAULT_BASE_URL),
      withKey(options.headers, options.apiKey),
      options.fetch ?? ((...given) => globalThis.fetch(...given)),
      timeoutMs,
      new RetryPolicy(maxRetries),
    );
  }

  /** Generates, and resolves when all is written. */
  async generate(prompt: Prompt, options: GenerateOptions = {}): Promise<Generation> {
    const call = generateCall(prompt, this.#named(options), JSON_TYPE);
    return this.#connection.send(call, GENERATION);
  }

  /**
   * Generates, and hands out what is written as it is written.
   *
   * The chunks of several samples come mixed, told apart by their `index`. A loop over the stream
   * throws a `StreamError` when the generation fails on the server (its type is `deadline_exceeded`
   * when it was not finished within `deadlineMs`), and an `IncompleteStreamError` when the connection
   * breaks.
   *
   * @throws {InvalidRequestError} A value cannot be put on the wire, such as a lone surrogate.
   */
  stream(prompt: Prompt, options: GenerateOptions = {}): Stream {
    const call = generateCall(prompt, this.#named(options), EVENTS_TYPE);
    return new Stream(this.#connection, call);
  }

  /**
   * Tells how likely a completion is to the model, given a prompt; writes nothing.
   *
   * @param prompt The text before it, or token ids that are taken as they are, special ones too:
   *   `score(ids.slice(0, 1), ids.slice(1))` scores all ids of a text but the first.
   * @param completion The text to score, or token ids.
   * @param options `mode`: what a prompt that is a text is; for token ids nothing.
   * @throws {InvalidRequestError} One of both is empty.
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

  /** The token ids of a text, with those that would wrap it as a prompt unless refused. */
  async tokenize(text: string, options: TokenizeOptions = {}): Promise<Tokenization> {
    const { model = this.#model, signal, requestId, ...fields } = options;
    const call = post("/tokenize", { prompt: text, model, ...fields }, { signal, requestId });
    return this.#connection.send(call, TOKENIZATION);
  }

  /** The text of token ids, none of which may be special. */
  async detokenize(
    tokens: readonly number[],
    { model = this.#model, ...options }: ModelOptions = {},
  ): Promise<string> {
    const call = post("/detokenize", { tokens, model }, options);
    return (await this.#connection.send(call, TEXT)).prompt;
  }

  /** What the server says about the tokenizer of a model. */
  async tokenizerInfo({ model = this.#model, ...options }: ModelOptions = {}): Promise<Tokenizer> {
    const call = get(`/tokenizer_info${query({ model })}`, options);
    return this.#connection.send(call, TOKENIZER);
  }

  /** The models that are served, the default one first. */
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
   * Finds a session that there is; it is left there.
   *
   * @throws {SessionNotFoundError} There is none of this id (any more).
   */
  async getSession(id: string, options: RequestOptions = {}): Promise<Session> {
    await this.#connection.send(get(sessionPath(id), options), SESSION);
    return new Session(this.#connection, id, false);
  }

  /**
   * All sessions that the server keeps, in the order in which they were made; each page is asked for
   * when it is needed. A session that is made or deleted meanwhile may be among them or not.
   *
   * @param options `limit`: how many a page has at the most, 1 to 1000.
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
   * Sends a snapshot to the server, and resolves to the session that it makes of it.
   *
   * @param options `id`: the session's name, `ses-` and 32 hexadecimal digits, for one that stays and
   *   replaces what has the name already; a new one if left out.
   * @throws {InvalidSnapshotError} The snapshot is damaged, or of other weights or another version.
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

  /** What the server says about itself, a model and its limits. */
  async info({ model = this.#model, ...options }: ModelOptions = {}): Promise<ServerInfo> {
    return this.#connection.send(get(`/info${query({ model })}`, options), SERVER_INFO);
  }

  /**
   * How much of the server is in use; asks once, without retries.
   *
   * @throws {ServiceUnavailableError} It is starting, stalled or draining.
   */
  async health(options: RequestOptions = {}): Promise<Health> {
    return this.#connection.sendOnce(get("/health/ready", options), HEALTH);
  }

  /** Whether the server can be reached and takes requests now; asks once, without retries. */
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

  /** A session has its model already. */
  #named(options: GenerateOptions): GenerateOptions {
    const { model = options.sessionId === undefined ? this.#model : undefined, ...rest } = options;
    return { model, ...rest };
  }
}

function parseBaseUrl(given: string | URL): URL {
  let url: URL;
  try {
    url = new URL(given, globalThis.location?.href);
  } catch (cause) {
    throw new TypeError(`baseUrl is not a URL: ${given}`, { cause });
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new TypeError(`baseUrl must begin with http:// or https://: ${given}`);
  }
  if (url.search || url.hash || url.username || url.password) {
    throw new TypeError("baseUrl must have neither query nor fragment, neither user nor password");
  }
  return url;
}

function withKey(given: HeadersInit | undefined, apiKey: string | undefined): Headers {
  const headers = new Headers(given);
  if (apiKey !== undefined) {
    // The message of `Headers` itself would show the key.
    if (!/^[\x21-\x7e]+$/.test(apiKey)) {
      throw new TypeError("apiKey must be ASCII without spaces");
    }
    headers.set("authorization", `Bearer ${apiKey}`);
  }
  return headers;
}
