/** What goes to the server and what comes back, derived from its OpenAPI document. */

import type { Camelized } from "./names.js";
import type { components } from "./schema.js";

type Schemas = components["schemas"];

/** A text, or token ids without special ones. */
export type Prompt = string | readonly number[];

/** Fields of a request: none must be given, and what is left out has the server's default. */
type Fields<T> = { [Name in keyof T]?: Field<NonNullable<T[Name]>> | undefined };
type Field<T> = T extends (infer Element)[] ? readonly Element[] : T;

/** How a request is sent. */
export interface RequestOptions {
  /**
   * Ends the request, and with it the generation on the server; what is thrown is its reason.
   * `AbortSignal.timeout(ms)` bounds the whole of it, retries included.
   */
  signal?: AbortSignal | undefined;
  /** A name for the request, to find it in the server's log. */
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

/** What `Client.generate` and `Client.stream` take besides the prompt. */
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
   * Milliseconds after which the server gives the request up. The server counts them, anew when the
   * request is sent again. Its API has them, in seconds, as `timeout`.
   */
  deadlineMs?: number | undefined;
}

/** What turns of a session take besides the prompt. */
export interface TurnOptions extends Omit<
  GenerateOptions,
  "model" | "n" | "sessionId" | "waitForSession"
> {
  /** Wait, for as long as `deadlineMs` allows, while another request has the session. */
  wait?: boolean | undefined;
}

/** What `Session.read` takes besides the passage. */
export type ReadOptions = Pick<
  TurnOptions,
  "wait" | "priority" | "deadlineMs" | "signal" | "requestId"
>;

/** A whole generation; where it has several samples, the first one, and all of them. */
export type Generation = Camelized<Schemas["GenerateResponse"]>;

/** One of several answers to a prompt. */
export type Sample = Camelized<Schemas["Sample"]>;

/** Why a sample ended. */
export type FinishReason = Generation["finishReason"];

/** How many tokens a generation read and wrote. */
export type Usage = Camelized<Schemas["Usage"]>;

/** What a turn left in its session. */
export type SessionUsage = Camelized<Schemas["TurnInfo"]>;

/** How likely a token was to the model, before temperature and truncation. */
export type TokenLogprob = Camelized<Schemas["TokenLogprob"]>;

/** One of the likeliest tokens of its place. */
export type TopLogprob = Camelized<Schemas["TopLogprob"]>;

/** One piece of a streamed generation. */
export interface Chunk {
  /** The generation's id, the same in all of its chunks. */
  id: string;
  /** The model that writes it. */
  model: string;
  /** The sample that it belongs to, counted from 0. */
  index: number;
  /** What is new; never half a character, and sometimes empty. */
  text: string;
  /** The token ids that are new; sometimes none. */
  tokenIds: number[];
  /** Why the sample ended; null in all of its chunks but the last. */
  finishReason: FinishReason | null;
  /** One for each of `tokenIds`, if asked for. */
  logprobs?: TokenLogprob[] | null;
  /** Token counts, of all samples; in the very last chunk only. */
  usage?: Usage | null;
  /** What it left in its session; in the very last chunk only. */
  session?: SessionUsage | null;
}

/** A session, as the server describes it. */
export type SessionInfo = Camelized<Schemas["Session"]>;

/** What a server says about itself and its model. */
export type ServerInfo = Camelized<Schemas["InfoResponse"]>;

/** That the engine moves, and how much of it is in use. */
export type Health = Camelized<Schemas["ReadyResponse"]>;

/** A model that is served. */
export type Model = Camelized<Schemas["Model"]>;

/** A text as a model reads it. */
export type Tokenization = Camelized<Schemas["TokenizeResponse"]>;

/** The tokenizer of a model, and what its special ids are called. */
export type Tokenizer = Camelized<Schemas["TokenizerDescription"]>;

/** Whose answer is wanted. */
export interface ModelOptions extends RequestOptions {
  /** The model; the client's if left out. */
  model?: string | undefined;
}

/** What `Client.tokenize` takes besides the text. */
export interface TokenizeOptions
  extends
    RequestOptions,
    Mode,
    Fields<Camelized<Omit<Schemas["TokenizeRequest"], "prompt" | "mode">>> {}

/** What `Client.score` takes besides the two texts. */
export type ScoreOptions = Pick<
  GenerateOptions,
  "model" | "mode" | "priority" | "deadlineMs" | "signal" | "requestId"
>;
