/** Reads a streamed generation from bytes, and joins its chunks sample by sample. */

import { CHUNK, isObject, parseObject, validate, word } from "./answers.js";
import { IncompleteStreamError, ResponseFormatError, StreamError } from "./errors.js";
import { SSEDecoder } from "./sse.js";
import type { Chunk, Generation, Sample, SessionUsage, TokenLogprob, Usage } from "./types.js";

/** Reads one stream, without doing any input or output itself. */
export class ChunkReader {
  readonly #events = new SSEDecoder();
  readonly #samples = new Map<number, SampleParts>();
  #done = false;
  #id = "";
  #model = "";
  #usage: Usage | undefined;
  #session: SessionUsage | undefined;

  /** Whether the stream has announced its end. Anything after that is ignored. */
  get done(): boolean {
    return this.#done;
  }

  /**
   * Takes the next bytes and yields the chunks that they complete.
   *
   * @throws {StreamError} The server reports that the generation failed.
   * @throws {ResponseFormatError} The stream is not one of a CausalRN server.
   */
  *feed(bytes: Uint8Array): Generator<Chunk, void> {
    for (const { event, data } of this.#events.feed(bytes)) {
      if (this.#done) {
        return;
      }
      // Like a browser, ignore events of types that nobody here listens to.
      if (event !== "message" && event !== "error") {
        continue;
      }
      if (data === "[DONE]") {
        this.#finish();
        return;
      }
      const chunk = parseChunk(data);
      this.#add(chunk);
      yield chunk;
    }
  }

  /**
   * Has to be called when the connection ends.
   *
   * @throws {IncompleteStreamError} The stream is not complete.
   */
  end(): void {
    if (!this.#done) {
      throw new IncompleteStreamError("the connection ended before the stream was complete");
    }
  }

  /**
   * Returns the chunks of a complete stream as one generation.
   *
   * @throws {IncompleteStreamError} The stream failed, or was closed, before it was complete.
   */
  generation(): Generation {
    const samples = [...this.#samples.values()]
      .map((parts) => parts.join())
      .sort((one, other) => one.index - other.index);
    const [first] = samples;
    if (!this.#done || first === undefined || this.#usage === undefined) {
      throw new IncompleteStreamError("the stream failed, or was closed, before it was complete");
    }
    const { index: _, ...answer } = first;
    return {
      id: this.#id,
      model: this.#model,
      ...answer,
      usage: this.#usage,
      ...(this.#session === undefined ? {} : { session: this.#session }),
      ...(samples.length > 1 ? { samples } : {}),
    };
  }

  #add(chunk: Chunk): void {
    this.#id = chunk.id;
    this.#model = chunk.model;
    let parts = this.#samples.get(chunk.index);
    if (parts === undefined) {
      parts = new SampleParts(chunk.index);
      this.#samples.set(chunk.index, parts);
    }
    parts.add(chunk);
    this.#usage = chunk.usage ?? this.#usage;
    this.#session = chunk.session ?? this.#session;
  }

  #finish(): void {
    for (let index = 0; index < Math.max(this.#samples.size, 1); index++) {
      if (!this.#samples.get(index)?.isFinished) {
        throw new ResponseFormatError(`the stream ended without a finishReason of sample ${index}`);
      }
    }
    if (this.#usage === undefined) {
      throw new ResponseFormatError("the stream ended without a usage");
    }
    this.#done = true;
  }
}

/** What has arrived of one sample. */
class SampleParts {
  readonly #index: number;
  #text = "";
  readonly #tokenIds: number[] = [];
  #logprobs: TokenLogprob[] | undefined;
  #finishReason: Sample["finishReason"] | undefined;
  #quality: Pick<Sample, "match" | "verified"> = {};

  constructor(index: number) {
    this.#index = index;
  }

  get isFinished(): boolean {
    return this.#finishReason !== undefined;
  }

  add(chunk: Chunk): void {
    this.#text += chunk.text;
    for (const id of chunk.tokenIds) {
      this.#tokenIds.push(id);
    }
    if (chunk.logprobs) {
      this.#logprobs ??= [];
      for (const logprob of chunk.logprobs) {
        this.#logprobs.push(logprob);
      }
    }
    if (chunk.finishReason) {
      const { match = null, verified = null } = chunk;
      this.#finishReason = chunk.finishReason;
      this.#quality = { match, verified };
    }
  }

  join(): Sample {
    return {
      index: this.#index,
      text: this.#text,
      tokenIds: this.#tokenIds,
      finishReason: this.#finishReason as Sample["finishReason"],
      ...this.#quality,
      ...(this.#logprobs === undefined ? {} : { logprobs: this.#logprobs }),
    };
  }
}

function parseChunk(data: string): Chunk {
  const value = parseObject(data);
  const { error } = value;
  if (error === undefined || error === null) {
    return validate(CHUNK, value);
  }
  if (!isObject(error)) {
    throw new ResponseFormatError("an error event without an error object");
  }
  throw new StreamError(
    word(error.type) ?? "error",
    word(error.message) ?? "the server gave no reason",
    word(error.param),
  );
}
