/// <reference lib="esnext.disposable" preserve="true" />

/**
 * Typed client for a CausalRN inference server, for Node and the browser.
 *
 * @module
 */

export { Client, type ClientOptions, type SessionOptions } from "./client.js";
export type { Progress } from "./connection.js";
export * from "./errors.js";
export type { Score, ScoredToken } from "./score.js";
export { type ForkOptions, Session, type SnapshotOptions } from "./session.js";
export { Stream } from "./stream.js";
export type * from "./types.js";
export { VERSION } from "./version.js";
