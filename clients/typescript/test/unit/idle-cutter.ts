/** A relay that closes idle connections at the worst moment: just when a request comes over them. */

import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** Relays one request a connection, and hangs up on the next one without passing it on. */
export class IdleCutter implements AsyncDisposable {
  /** How many requests it hung up on. */
  cut = 0;
  readonly #sockets = new Set<Socket>();
  readonly #listener = createServer((socket) => this.#serve(socket));
  readonly #port: number;

  private constructor(upstream: string) {
    this.#port = Number(new URL(upstream).port);
  }

  static async start(upstream: string): Promise<IdleCutter> {
    const relay = new IdleCutter(upstream);
    relay.#listener.listen(0, "127.0.0.1");
    await once(relay.#listener, "listening");
    return relay;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#listener.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    await once(this.#listener, "close");
  }

  #serve(socket: Socket): void {
    const server = connect(this.#port, "127.0.0.1");
    let isAnswered = false;
    for (const end of [socket, server]) {
      this.#sockets.add(end);
      end.on("error", () => {}); // the other end left first
    }
    socket.on("data", (piece) => {
      if (isAnswered) {
        this.cut++;
        socket.destroy();
        server.destroy();
      } else {
        server.write(piece);
      }
    });
    server.on("data", (piece) => {
      isAnswered = true;
      socket.write(piece);
    });
    socket.on("close", () => server.destroy());
    server.on("close", () => socket.end());
  }
}
