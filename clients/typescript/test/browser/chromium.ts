/** A browser without a window. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome"];

export class Chromium implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #profile: string;
  #log = "";

  private constructor(process: ChildProcess, profile: string) {
    this.#process = process;
    this.#profile = profile;
    process.stderr?.on("data", (piece) => {
      this.#log += piece;
    });
  }

  /** Opens a page, in a profile of its own. */
  static async open(url: string): Promise<Chromium> {
    const profile = await mkdtemp(join(tmpdir(), "causalrn-chromium-"));
    const options = [
      "--headless=new",
      "--disable-background-networking",
      "--disable-dev-shm-usage",
      "--disable-gpu",
      "--no-first-run",
      "--no-proxy-server",
      "--no-sandbox", // root cannot have one, and the page is ours
      `--user-data-dir=${profile}`,
    ];
    const child = spawn(find(), [...options, url], {
      detached: true, // a group of its own, so that all of it can be ended
      stdio: ["ignore", "ignore", "pipe"],
    });
    process.once("exit", () => end(child));
    return new Chromium(child, profile);
  }

  /** Rejects when the browser ends. */
  async ended(): Promise<never> {
    await once(this.#process, "exit");
    throw new Error(`the browser ended:\n${this.#log}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#process, "close");
    end(this.#process);
    await closed;
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 10 });
  }
}

function end({ pid }: ChildProcess): void {
  try {
    process.kill(-(pid as number), "SIGKILL");
  } catch {
    // It is over already.
  }
}

function find(): string {
  const folders = (process.env.PATH ?? "").split(delimiter);
  for (const path of NAMES.flatMap((name) => folders.map((folder) => join(folder, name)))) {
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not here.
    }
  }
  throw new Error("Chromium is missing: install the package `chromium`");
}
