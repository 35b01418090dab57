/** The package as it was built, in a real browser, against the real server. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { test } from "node:test";
import { Server } from "../served/server.js";
import { Chromium } from "./chromium.js";
import type { Report } from "./page.js";

const PACKAGE = new URL("../../", import.meta.url);
const PAGE = `<!doctype html>
<script type="importmap">{"imports": {"causalrn-client": "/dist/index.js"}}</script>
<script type="module" src="/build/browser/page.js"></script>`;

/** Serves the page and the package, and takes the report. */
class PageServer implements AsyncDisposable {
  readonly report: Promise<Report>;
  readonly #http = createServer((request, response) => this.#handle(request, response));
  #resolve: (report: Report | Promise<Report>) => void = () => undefined;

  constructor() {
    this.report = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  async start(): Promise<string> {
    this.#http.listen(0, "127.0.0.1");
    await once(this.#http, "listening");
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#http.close();
    this.#http.closeAllConnections();
    await once(this.#http, "close");
  }

  #handle(incoming: IncomingMessage, response: ServerResponse): void {
    const { url = "/" } = incoming;
    if (url.startsWith("/page?")) {
      response.setHeader("content-type", "text/html").end(PAGE);
    } else if (/^\/(dist|build)\/[a-z/-]+\.js$/.test(url)) {
      response.setHeader("content-type", "text/javascript");
      createReadStream(new URL(url.slice(1), PACKAGE)).pipe(response);
    } else if (url === "/report") {
      this.#resolve(json(incoming) as Promise<Report>);
      response.end();
    } else {
      response.writeHead(404).end();
    }
  }
}

test("a page streams, stops, restores sessions and understands errors", async () => {
  await using pages = new PageServer();
  const origin = await pages.start();
  await using server = await Server.start("copy-bytes", { CAUSALRN_CORS_ORIGINS: origin });
  const query = new URLSearchParams({ server: server.url });
  await using browser = await Chromium.open(`${origin}/page?${query}`);
  const report = await Promise.race([pages.report, browser.ended()]);
  assert.equal(report.failure, null);
  const { texts, ...rest } = report;
  assert.equal(texts.join(""), "Zürich → 東京 🚄");
  assert.deepEqual(rest, {
    whole: "Zürich → 東京 🚄",
    idle: true,
    aborted: "AbortError",
    refused: ["UnprocessableEntityError", 422, "max_tokens", "page-1"],
    unreached: true, // browsers do not tell
    restored: "still here",
    failure: null,
  });
});
