/** Reads answers, and checks them as far as this package relies on it. */

import { type APIStatusError, ResponseFormatError } from "./errors.js";
import { camelized } from "./names.js";
import { statusError } from "./status-errors.js";
import type {
  Chunk,
  Generation,
  Health,
  Model,
  ServerInfo,
  SessionInfo,
  Tokenization,
  Tokenizer,
} from "./types.js";

type Kind = "array" | "number" | "object" | "string";

/** The kinds of value that some fields of a type must have. */
export type Shape<T> = { readonly name: string; readonly fields: { [Name in keyof T]?: Kind } };

export const GENERATION: Shape<Generation> = {
  name: "a generation",
  fields: {
    id: "string",
    model: "string",
    text: "string",
    tokenIds: "array",
    finishReason: "string",
    usage: "object",
  },
};

export const CHUNK: Shape<Chunk> = {
  name: "a chunk",
  fields: { id: "string", model: "string", index: "number", text: "string", tokenIds: "array" },
};

export const SESSION: Shape<SessionInfo> = {
  name: "a session",
  fields: { id: "string", model: "string", nTokens: "number" },
};

export const SESSIONS: Shape<{ sessions: SessionInfo[]; next: string | null }> = {
  name: "a page of sessions",
  fields: { sessions: "array" },
};

export const MODELS: Shape<{ data: Model[] }> = {
  name: "a list of models",
  fields: { data: "array" },
};

export const TOKENIZATION: Shape<Tokenization> = {
  name: "a tokenization",
  fields: { count: "number", tokens: "array" },
};

export const TEXT: Shape<{ prompt: string }> = { name: "a text", fields: { prompt: "string" } };

export const TOKENIZER: Shape<Tokenizer> = {
  name: "a tokenizer",
  fields: { model: "string", vocabSize: "number" },
};

export const SERVER_INFO: Shape<ServerInfo> = {
  name: "what a server says about itself",
  fields: {
    model: "string",
    fingerprint: "string",
    version: "string",
    config: "object",
    tokenizer: "object",
    limits: "object",
  },
};

export const HEALTH: Shape<Health> = {
  name: "a state of health",
  fields: { status: "string", running: "number", waiting: "number" },
};

const EXCERPT = 200; // characters of an unexpected body that an error shows

/**
 * Reads a JSON object.
 *
 * @throws {ResponseFormatError} It is not JSON, or not an object.
 */
export function parseObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ResponseFormatError(`not JSON: ${text.slice(0, EXCERPT)}`, { cause });
  }
  if (!isObject(value)) {
    throw new ResponseFormatError(`not a JSON object: ${text.slice(0, EXCERPT)}`);
  }
  return value;
}

/**
 * Gives an object the names of this package, and checks its shape.
 *
 * @throws {ResponseFormatError} It does not fit; the message names the first field that is wrong.
 */
export function validate<T>({ name, fields }: Shape<T>, value: Record<string, unknown>): T {
  const named = camelized(value) as Record<string, unknown>;
  for (const [field, kind] of Object.entries<Kind | undefined>(fields)) {
    if (kindOf(named[field]) !== kind) {
      throw new ResponseFormatError(`${name}: ${field} is ${kindOf(named[field])}, not ${kind}`);
    }
  }
  return named as T;
}

/**
 * Checks the content type of an answer, which might be an error page of a proxy.
 *
 * @throws {ResponseFormatError} It is another type.
 */
export function checkType(response: Response, type: string): void {
  const found = response.headers.get("content-type") ?? "missing";
  if (found.split(";")[0]?.trim().toLowerCase() !== type) {
    throw new ResponseFormatError(`not ${type}, but content-type ${found}`);
  }
}

/** Turns an unsuccessful answer into an error. */
export function refusal(response: Response, text: string): APIStatusError {
  const { status, statusText, headers } = response;
  let error: unknown;
  try {
    error = parseObject(text).error;
  } catch {
    // Not an error of the server; perhaps one of a proxy.
  }
  const [type, message, param] = isObject(error)
    ? [word(error.type), word(error.message), word(error.param)]
    : [null, null, null];
  const explanation =
    response.type === "opaqueredirect" || (status >= 300 && status < 400)
      ? "the answer is a redirection; baseUrl must be where it leads"
      : text.slice(0, EXCERPT) || statusText || "no explanation";
  return statusError({ status, type, message: message ?? explanation, param, headers });
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns a value if it is a string. */
export function word(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function kindOf(value: unknown): string {
  if (value === null) {
    return "null";
  }
  return Array.isArray(value) ? "array" : typeof value;
}
