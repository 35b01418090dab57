/** Timers that ring when a test says so: what has to come in time may then take its time. */
export class HeldTimers implements Disposable {
  /** How many were set so far. */
  count = 0;
  readonly #held = new Map<unknown, () => void>();
  readonly #set = globalThis.setTimeout;
  readonly #clear = globalThis.clearTimeout;

  /** @param heldMs Those of so many milliseconds; others go as ever. */
  constructor(heldMs: number) {
    globalThis.setTimeout = ((ring: () => void, ms?: number, ...rest: unknown[]) => {
      if (ms !== heldMs) {
        return this.#set(ring, ms, ...rest);
      }
      const timer = {};
      this.#held.set(timer, ring);
      this.count++;
      return timer;
    }) as typeof globalThis.setTimeout;
    globalThis.clearTimeout = (timer) => {
      if (!this.#held.delete(timer)) {
        this.#clear(timer);
      }
    };
  }

  /** How many are running. */
  get running(): number {
    return this.#held.size;
  }

  /** Resolves when so many were set, of which the last one is running. */
  async reached(count: number): Promise<void> {
    while (this.count < count || this.running === 0) {
      await new Promise(setImmediate);
    }
  }

  /** Lets those ring that are running. */
  ring(): void {
    const rings = [...this.#held.values()];
    this.#held.clear();
    for (const ring of rings) {
      ring();
    }
  }

  [Symbol.dispose](): void {
    globalThis.setTimeout = this.#set;
    globalThis.clearTimeout = this.#clear;
  }
}
