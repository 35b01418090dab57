/**
 * Decodes server-sent events: bytes in, events out, without any input or output of its own.
 *
 * Follows the event stream interpretation of the HTML standard (section 9.2.6).
 */

import { ResponseFormatError } from "./errors.js";

/** An event. */
export interface ServerSentEvent {
  /** The event's `data` lines, joined by line feeds. */
  data: string;
  /** The event's type; `message` if the stream does not name one. */
  event: string;
  /** The latest `id` in the stream up to this event; empty if there was none. */
  lastId: string;
}

/** Enough for the log-probabilities of a long prompt, which come as one event. */
const MAX_EVENT_LENGTH = 64 * 1024 * 1024;

/**
 * Decodes one event stream, whatever the pieces in which its bytes arrive.
 *
 * Lines end in CR LF, LF or CR. Comments, and a byte order mark at the beginning, are skipped. Bytes
 * that are not UTF-8 become U+FFFD. An event that is cut off by the end of the stream is dropped.
 */
export class SSEDecoder {
  readonly #maxLength: number;
  readonly #decoder = new TextDecoder();
  #line = "";
  #afterCR = false;
  #data: string[] = [];
  #dataLength = 0;
  #event = "";
  #lastId = "";

  /** @param maxLength The longest event to accept, in UTF-16 units. */
  constructor(maxLength = MAX_EVENT_LENGTH) {
    this.#maxLength = maxLength;
  }

  /**
   * Takes the next bytes of the stream and returns the events they complete.
   *
   * @throws {ResponseFormatError} An event is too long to come from a CausalRN server.
   */
  feed(bytes: Uint8Array): ServerSentEvent[] {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") {
      return [];
    }
    // A CR ends its line at once, so that the event does not have to wait for the next bytes. An LF
    // that follows belongs to it.
    if (this.#afterCR && text.startsWith("\n")) {
      text = text.slice(1);
    }
    this.#afterCR = text.endsWith("\r");
    const pieces = text.split(/\r\n|\n|\r/);
    const events: ServerSentEvent[] = [];
    pieces.forEach((piece, index) => {
      if (index > 0) {
        const event = this.#endLine();
        if (event !== null) {
          events.push(event);
        }
      }
      this.#line += piece;
      if (this.#line.length + this.#dataLength > this.#maxLength) {
        throw new ResponseFormatError(`an event of more than ${this.#maxLength} characters`);
      }
    });
    return events;
  }

  #endLine(): ServerSentEvent | null {
    const line = this.#line;
    this.#line = "";
    if (line === "") {
      return this.#dispatch();
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") {
      this.#data.push(value);
      this.#dataLength += value.length + 1;
    } else if (name === "event") {
      this.#event = value;
    } else if (name === "id" && !value.includes("\0")) {
      this.#lastId = value;
    }
    // Anything else is a comment, whose name is empty, or a field that has no use here.
    return null;
  }

  #dispatch(): ServerSentEvent | null {
    const [data, event] = [this.#data, this.#event];
    this.#data = [];
    this.#dataLength = 0;
    this.#event = "";
    if (data.length === 0) {
      return null;
    }
    return { data: data.join("\n"), event: event || "message", lastId: this.#lastId };
  }
}
