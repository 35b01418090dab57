/** Requests as plain values, without the address of the server. */

import { InvalidRequestError } from "./errors.js";
import { snakeCased } from "./names.js";
import type { GenerateOptions, Prompt, RequestOptions } from "./types.js";

export const JSON_TYPE = "application/json";
export const EVENTS_TYPE = "text/event-stream";
export const FILE_TYPE = "application/octet-stream";

/** A request. */
export interface Call {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** The path, with the query if there is one. */
  path: string;
  /** The content type that the answer must have. */
  accept: string;
  body?: { type: string; content: string | Blob };
  /** Whether doing it twice has the same effect as doing it once. */
  repeatable: boolean;
  options: RequestOptions;
}

/** Builds a request that only reads something. */
export function get(path: string, options: RequestOptions, accept = JSON_TYPE): Call {
  return { method: "GET", path, accept, repeatable: true, options };
}

/** Builds a request with fields, without those that are undefined. */
export function post(
  path: string,
  fields: object,
  options: RequestOptions,
  { accept = JSON_TYPE, repeatable = true } = {},
): Call {
  const body = { type: JSON_TYPE, content: encode(snakeCased(fields)) };
  return { method: "POST", path, accept, body, repeatable, options };
}

/** Builds the request for a generation. It does not check the values: the server does. */
export function generateCall(prompt: Prompt, options: GenerateOptions, accept: string): Call {
  const { signal, requestId, deadlineMs, ...fields } = options;
  return post(
    "/generate",
    {
      ...source(prompt),
      ...fields,
      timeout: deadlineMs === undefined ? undefined : deadlineMs / 1000,
      stream: accept === EVENTS_TYPE ? true : undefined,
    },
    { signal, requestId },
    // A session would then hold the prompt twice.
    { accept, repeatable: options.sessionId === undefined },
  );
}

/** Returns the field for a prompt, which depends on its type. */
function source(prompt: Prompt): object {
  return typeof prompt === "string" ? { prompt } : { tokenIds: prompt };
}

/** Returns the path of a session, or one below it. */
export function sessionPath(id: string, rest = ""): string {
  if (id === "" || id === "." || id === "..") {
    throw new InvalidRequestError(`not the id of a session: "${id}"`); // the path would lead to something else
  }
  try {
    return `/sessions/${encodeURIComponent(id)}${rest}`;
  } catch (cause) {
    throw new InvalidRequestError("the id of a session holds a lone surrogate", { cause });
  }
}

/** Returns the query of a path, without fields that are undefined. */
export function query(fields: object): string {
  const given = Object.entries(snakeCased(fields)).filter(([, value]) => value !== undefined);
  return given.length === 0 ? "" : `?${new URLSearchParams(given.map(([n, v]) => [n, String(v)]))}`;
}

function encode(fields: Record<string, unknown>): string {
  return JSON.stringify(fields, (name, value: unknown) => {
    // JSON.stringify would write null.
    if (typeof value === "number" && !Number.isFinite(value)) {
      throw new InvalidRequestError(`${name} is ${value}, which JSON cannot hold`);
    }
    if (typeof value === "bigint") {
      throw new InvalidRequestError(`${name} is a bigint, which JSON cannot hold`);
    }
    const surrogate = typeof value === "string" ? value.search(/\p{Surrogate}/u) : -1;
    if (surrogate >= 0) {
      throw new InvalidRequestError(`${name} holds a lone surrogate at position ${surrogate}`);
    }
    return value;
  });
}
