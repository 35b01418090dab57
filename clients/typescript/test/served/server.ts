/** The server of this repository, on a free port, with a state of its own. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const PYTHON = process.env.PYTHON ?? join(ROOT, ".venv", "bin", "python");

export class Server implements AsyncDisposable {
  readonly url: string;
  readonly #process: ChildProcess;
  readonly #state: string;

  private constructor(url: string, process: ChildProcess, state: string) {
    this.url = url;
    this.#process = process;
    this.#state = state;
  }

  /**
   * @param checkpoint Name of the model that it serves.
   * @param settings Of the environment.
   */
  static async start(checkpoint: string, settings: Record<string, string> = {}): Promise<Server> {
    const state = await mkdtemp(join(tmpdir(), "causalrn-client-"));
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("CAUSALRN_"));
    const child = spawn(PYTHON, ["-m", "uvicorn", "server.app:app", "--port", "0"], {
      cwd: ROOT,
      env: {
        ...Object.fromEntries(inherited),
        XDG_STATE_HOME: state,
        CAUSALRN_CHECKPOINT: join(ROOT, "checkpoints", checkpoint),
        ...settings,
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    process.once("exit", () => child.kill("SIGKILL"));
    const log: string[] = [];
    const url = await new Promise<string>((resolve, reject) => {
      const lines = createInterface(child.stderr);
      lines.on("line", (line) => {
        log.push(line);
        const [, found] = /running on (http:\S+)/.exec(line) ?? [];
        if (found !== undefined) {
          resolve(found);
        }
      });
      lines.on("close", () => reject(new Error(`the server did not start:\n${log.join("\n")}`)));
    });
    while (!(await fetch(`${url}/health/ready`)).ok) {
      await setTimeout(20);
    }
    return new Server(url, child, state);
  }

  /** Ends the server, in peace. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    const [code, signal] = await once(this.#process, "exit");
    await rm(this.#state, { recursive: true });
    if (code !== 0 && signal !== "SIGTERM") {
      throw new Error(`the server ended with ${code ?? signal}`);
    }
  }
}
