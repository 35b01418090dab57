/** Everything that can go wrong, as types. */

import { parseRetryAfter } from "./retry-after.js";

/** Base of every error that this package throws itself. */
export class CausalRNError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The request cannot be put on the wire: a lone surrogate, a NaN, an impossible header. */
export class InvalidRequestError extends CausalRNError {}

/** The server could not be reached, or the connection broke. */
export class APIConnectionError extends CausalRNError {
  /**
   * Whether the server may have received the request, and done what it asks. Browsers do not tell,
   * and there it is always true.
   */
  readonly mayHaveArrived: boolean;

  constructor(message: string, options: ErrorOptions & { mayHaveArrived?: boolean } = {}) {
    super(message, options);
    this.mayHaveArrived = options.mayHaveArrived ?? true;
  }
}

/** The server took longer than `timeoutMs`. */
export class APITimeoutError extends APIConnectionError {}

/** A stream ended, or was closed, before it was complete. */
export class IncompleteStreamError extends APIConnectionError {}

/** An answer is not what a CausalRN server sends; is another program at this address? */
export class ResponseFormatError extends CausalRNError {}

/** The server reported an error in mid-stream, after the first byte of its answer. */
export class StreamError extends CausalRNError {
  /** The kind of error, such as `engine_error` or `deadline_exceeded`. */
  readonly type: string;
  /** The field of the request that is to blame, by its name on the wire, if one is. */
  readonly param: string | null;

  constructor(type: string, message: string, param: string | null = null) {
    super(message);
    this.type = type;
    this.param = param;
  }
}

/** What a refusal says. */
export interface Refusal {
  status: number;
  type: string | null;
  message: string;
  param: string | null;
  headers: Headers;
}

/** The server refused the request. */
export class APIStatusError extends CausalRNError {
  /** The HTTP status; 0 where a browser hides it, as it does for redirections. */
  readonly status: number;
  /** The kind of error; null if the answer was not in the server's error shape. */
  readonly type: string | null;
  /** The field of the request that is to blame, by its name on the wire, if one is. */
  readonly param: string | null;
  /** The request's id, to be found in the server's log. */
  readonly requestId: string | null;
  /** Seconds after which to ask again, if the server said so. */
  readonly retryAfter: number | null;
  /** The answer's headers. */
  readonly headers: Headers;

  constructor({ status, type, message, param, headers }: Refusal) {
    super(message);
    this.status = status;
    this.type = type;
    this.param = param;
    this.requestId = headers.get("x-request-id");
    this.retryAfter = parseRetryAfter(headers.get("retry-after"));
    this.headers = headers;
  }
}

/** 400: the request is not well formed. */
export class BadRequestError extends APIStatusError {}

/** 401: the `apiKey` is missing, or not one of the server's. */
export class AuthenticationError extends APIStatusError {}

/** 403: the key may not do this. */
export class PermissionDeniedError extends APIStatusError {}

/** 404: no such resource; often a wrong `baseUrl`. */
export class NotFoundError extends APIStatusError {}

/** 408: the request did not arrive as a whole in the time that the server gives it. */
export class RequestTimeoutError extends APIStatusError {}

/** 409: what the request asks for does not go together with the state of its resource. */
export class ConflictError extends APIStatusError {}

/** 413: the request is larger than the server, or the model, can take. */
export class RequestTooLargeError extends APIStatusError {}

/** 422: a field has a value that the server cannot accept; `param` names it. */
export class UnprocessableEntityError extends APIStatusError {}

/** 429: too many requests from this client; `retryAfter` says when there may be more. */
export class RateLimitError extends APIStatusError {}

/** 500: the server failed. */
export class InternalServerError extends APIStatusError {}

/** 503: the server is full, draining or not ready. */
export class ServiceUnavailableError extends APIStatusError {}

/** 504 from the server itself: the request was not finished within its `deadlineMs`. */
export class DeadlineExceededError extends APIStatusError {}

/** 404: no model of this name is served. */
export class ModelNotFoundError extends NotFoundError {}

/** 404: there is no such session; it was deleted, or its time-to-live is over. */
export class SessionNotFoundError extends NotFoundError {}

/** 409: another request has the session. */
export class SessionBusyError extends ConflictError {}

/** 409: there is a session of that id already. */
export class SessionExistsError extends ConflictError {}

/** 409: the session belongs to other weights than those that are asked for, or served. */
export class SessionOfOtherWeightsError extends ConflictError {}

/** 413: the session would outgrow what the model, or the server, can hold. */
export class SessionFullError extends RequestTooLargeError {}

/** 422: the snapshot is damaged, or of other weights or another version than the server's. */
export class InvalidSnapshotError extends UnprocessableEntityError {}

/** 429: the server holds as many sessions as it may. */
export class TooManySessionsError extends RateLimitError {}

/** 500: the server's store gives back another session than was written. */
export class SessionDamagedError extends InternalServerError {}

/** 503: the server cannot use its store of sessions now; without a session it still serves. */
export class SessionStoreUnavailableError extends ServiceUnavailableError {}
