/** What is sent: requests as plain values, apart from where the server is. */

import { InvalidRequestError } from "./errors.js";
import { snakeCased } from "./names.js";
import type { GenerateOptions, Prompt, RequestOptions } from "./types.js";

export const JSON_TYPE = "application/json";
export const EVENTS_TYPE = "text/event-stream";
export const FILE_TYPE = "application/octet-stream";

/** One request to one of the server's resources. */
export interface Call {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** With the query, if there is one. */
  path: string;
  /** The type that the answer has to have. */
  accept: string;
  body?: { type: string; content: string | Blob };
  /** Whether to do it twice is the same as to do it once. */
  repeatable: boolean;
  options: RequestOptions;
}

/** Asks for something, without changing it. */
export function get(path: string, options: RequestOptions, accept = JSON_TYPE): Call {
  return { method: "GET", path, accept, repeatable: true, options };
}

/** Sends fields; those that are undefined are left out. */
export function post(
  path: string,
  fields: object,
  options: RequestOptions,
  { accept = JSON_TYPE, repeatable = true } = {},
): Call {
  const body = { type: JSON_TYPE, content: encode(snakeCased(fields)) };
  return { method: "POST", path, accept, body, repeatable, options };
}

/** Asks for a generation. Whether the values make sense is for the server to say. */
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
    // In a session, a prompt that is sent twice is there twice.
    { accept, repeatable: options.sessionId === undefined },
  );
}

/** The field that a prompt goes into. */
function source(prompt: Prompt): object {
  return typeof prompt === "string" ? { prompt } : { tokenIds: prompt };
}

/** A path below that of a session; which ids there are is for the server to say. */
export function sessionPath(id: string, rest = ""): string {
  if (id === "" || id === "." || id === "..") {
    throw new InvalidRequestError(`not the id of a session: "${id}"`); // it would lead elsewhere
  }
  try {
    return `/sessions/${encodeURIComponent(id)}${rest}`;
  } catch (cause) {
    throw new InvalidRequestError("the id of a session holds a lone surrogate", { cause });
  }
}

/** A query, without what is undefined. */
export function query(fields: object): string {
  const given = Object.entries(snakeCased(fields)).filter(([, value]) => value !== undefined);
  return given.length === 0 ? "" : `?${new URLSearchParams(given.map(([n, v]) => [n, String(v)]))}`;
}

function encode(fields: Record<string, unknown>): string {
  return JSON.stringify(fields, (name, value: unknown) => {
    // JSON would make a null of it.
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
