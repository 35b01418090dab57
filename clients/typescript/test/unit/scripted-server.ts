/** A real HTTP server on a free port that answers what a test tells it to. */

import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

/** What came in. */
export interface Received {
  method: string;
  url: string;
  headers: IncomingMessage["headers"];
  body: string;
  /** The port of the client's end: which connection it was. */
  port: number;
  /** Resolves when the answer is sent, or when the client has closed the connection before. */
  over: Promise<"answered" | "left">;
}

export type Answer = (response: ServerResponse, received: Received) => unknown;

export class ScriptedServer implements AsyncDisposable {
  readonly received: Received[] = [];
  readonly #http = createServer((request, response) => void this.#handle(request, response));
  readonly #answers: Answer[];

  private constructor(answers: Answer[]) {
    this.#answers = answers;
  }

  /** Serves the answers in turn, and then the last one again. */
  static async start(...answers: Answer[]): Promise<ScriptedServer> {
    const server = new ScriptedServer(answers);
    server.#http.listen(0, "127.0.0.1");
    await once(server.#http, "listening");
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#http.close();
    this.#http.closeAllConnections();
    await once(this.#http, "close");
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const over = new Promise<"answered" | "left">((resolve) => {
      response.on("close", () => resolve(response.writableFinished ? "answered" : "left"));
    });
    const received: Received = {
      method: request.method ?? "",
      url: request.url ?? "",
      headers: request.headers,
      body: await text(request),
      port: request.socket.remotePort ?? 0,
      over,
    };
    const index = Math.min(this.received.length, this.#answers.length - 1);
    this.received.push(received);
    this.#answers[index]?.(response, received);
  }
}

/** Answers with JSON. */
export function json(value: unknown, status = 200, headers: Record<string, string> = {}): Answer {
  return (response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(JSON.stringify(value));
  };
}

/** Refuses in the server's one shape. */
export function refuse(
  status: number,
  type: string,
  headers: Record<string, string> = {},
  param: string | null = null,
): Answer {
  return json({ error: { type, message: `${type}, alas`, param } }, status, headers);
}

/** Answers with the bytes of a stream of events, and ends it. */
export function events(...blocks: (string | object)[]): Answer {
  return (response) => {
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
    for (const block of blocks) {
      response.write(data(block));
    }
    response.end();
  };
}

/** One event. */
export function data(block: string | object): string {
  return `data: ${typeof block === "string" ? block : JSON.stringify(block)}\n\n`;
}

/** Breaks the connection without a word. */
export const hangUp: Answer = (response) => response.socket?.destroy();

export const GENERATION = {
  id: "gen-1",
  model: "copy-bytes",
  text: "hé",
  token_ids: [104, 195, 169],
  finish_reason: "stop",
  usage: { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8, cached_tokens: 0 },
};

export const SESSION = {
  id: "ses-019aa9c5c0d2f4a1c2d3e4f5a64f0c9d",
  model: "copy-bytes",
  n_tokens: 3,
};

/** A chunk of a stream. */
export function chunk(text: string, ids: number[], rest: object = {}): object {
  const { id, model } = GENERATION;
  return { id, model, index: 0, text, token_ids: ids, finish_reason: null, ...rest };
}

export const LAST = { finish_reason: "stop", usage: GENERATION.usage };
