/** The types of requests and answers, derived from the server's OpenAPI document. */

import type { Camelized } from "./names.js";
import type { components } from "./schema.js";

type Schemas = components["schemas"];

/** A text, or token ids, to which the server adds the special ones except in `raw` mode. */
export type Prompt = string | readonly number[];

/** The fields of a request, all optional. The server has a default for each. */
type Fields<T> = { [Name in keyof T]?: Field<NonNullable<T[Name]>> | undefined };
type Field<T> = T extends (infer Element)[] ? readonly Element[] : T;

/** The options of every request. */
export interface RequestOptions {
  /**
   * Ends the request, and the generation on the server, when it fires. The request then rejects with
   * the signal's reason. `AbortSignal.timeout(ms)` limits the whole request, including retries.
   */
  signal?: AbortSignal | undefined;
  /** A name for the request, to find it by in the server's log. */
  requestId?: string | undefined;
}

/** How a prompt is to be read. */
interface Mode {
  /**
   * What to do with the prompt; the checkpoint says which modes its model knows. `copy`, the default,
   * repeats a text. `recall` continues, word for word, the passage that begins with it. `raw` continues
   * tokens as they are, special ones included.
   */
  mode?: string | undefined;
}

/** The options of `Client.generate` and `Client.stream`. */
export interface GenerateOptions
  extends
    RequestOptions,
    Mode,
    Fields<
      Camelized<
        Omit<Schemas["GenerateRequest"], "prompt" | "token_ids" | "stream" | "timeout" | "mode">
      >
    > {
  /**
   * Milliseconds after which the server gives up on the request. The server does the counting, and
   * starts again if the request is retried. Its API calls this `timeout`, in seconds.
   */
  deadlineMs?: number | undefined;
}

/** The options of a turn in a session. */
export interface TurnOptions extends Omit<
  GenerateOptions,
  "model" | "n" | "sessionId" | "waitForSession"
> {
  /** Wait while another request is using the session, for as long as `deadlineMs` allows. */
  wait?: boolean | undefined;
}

/** The options of `Session.read`. */
export type ReadOptions = Pick<
  TurnOptions,
  "wait" | "priority" | "deadlineMs" | "signal" | "requestId"
>;

/** A complete answer. If there are several samples, its own fields are those of the first. */
export type Generation = Camelized<Schemas["GenerateResponse"]>;

/** One of several answers to a prompt. */
export type Sample = Camelized<Schemas["Sample"]>;

/** Why a sample ended. */
export type FinishReason = Generation["finishReason"];

/** How many tokens a generation read and wrote. */
export type Usage = Camelized<Schemas["Usage"]>;

/** The session after a turn. */
export type SessionUsage = Camelized<Schemas["TurnInfo"]>;

/** How likely the model found a token, before temperature and truncation. */
export type TokenLogprob = Camelized<Schemas["TokenLogprob"]>;

/** One of the likeliest tokens at a position. */
export type TopLogprob = Camelized<Schemas["TopLogprob"]>;

/** A piece of an answer that is being written. */
export interface Chunk {
  /** The id of the generation, the same in all of its chunks. */
  id: string;
  /** The name of the model that writes it. */
  model: string;
  /** The number of the sample that the chunk belongs to, from 0. */
  index: number;
  /** The new text. Never ends in half a character; can be empty. */
  text: string;
  /** The new token ids; can be empty. */
  tokenIds: number[];
  /** Why the sample ended, in its last chunk; null in all others. */
  finishReason: FinishReason | null;
  /** How well the model found what it looked for, in the last chunk of a sample; see `Generation`. */
  match?: number | null;
  /** Whether the answer was found to be right, in the last chunk of a sample; see `Generation`. */
  verified?: boolean | null;
  /** The log-probability of each of `tokenIds`, if asked for. */
  logprobs?: TokenLogprob[] | null;
  /** How many tokens were read and written; in the very last chunk only. */
  usage?: Usage | null;
  /** The session after this turn; in the very last chunk only. */
  session?: SessionUsage | null;
}

/** A session as it was at the moment of the answer. */
export type SessionInfo = Camelized<Schemas["Session"]>;

/** A model and the server that serves it. */
export type ServerInfo = Camelized<Schemas["InfoResponse"]>;

/** How busy a server is. */
export type Health = Camelized<Schemas["ReadyResponse"]>;

/** A model that is served. */
export type Model = Camelized<Schemas["Model"]>;

/** A text as a model reads it. */
export type Tokenization = Camelized<Schemas["TokenizeResponse"]>;

/** The tokenizer of a model, with its special tokens. */
export type Tokenizer = Camelized<Schemas["TokenizerDescription"]>;

/** The options of requests about a model. */
export interface ModelOptions extends RequestOptions {
  /** The name of the model; the client's default if left out. */
  model?: string | undefined;
}

/** The options of `Client.tokenize`. */
export interface TokenizeOptions
  extends
    RequestOptions,
    Mode,
    Fields<Camelized<Omit<Schemas["TokenizeRequest"], "prompt" | "mode">>> {}

/** The options of `Client.score`. */
export type ScoreOptions = Pick<
  GenerateOptions,
  "model" | "mode" | "priority" | "deadlineMs" | "signal" | "requestId"
>;
