/** A class for everything that can go wrong. */

import { parseRetryAfter } from "./retry-after.js";

/** The base of all errors that this package throws. */
export class CausalRNError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The request cannot be sent, for example because of a lone surrogate or a NaN. */
export class InvalidRequestError extends CausalRNError {}

/** The server could not be reached, or the connection broke. */
export class APIConnectionError extends CausalRNError {
  /**
   * Whether the server may have received the request and acted on it. Always true in browsers, which
   * do not tell.
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

/** The answer is not one of a CausalRN server. Perhaps another program has this address. */
export class ResponseFormatError extends CausalRNError {}

/** The server reported an error in the middle of a stream. */
export class StreamError extends CausalRNError {
  /** The kind of error, such as `engine_error` or `deadline_exceeded`. */
  readonly type: string;
  /** The field of the request that caused it, by its name in the server's API, or null. */
  readonly param: string | null;

  constructor(type: string, message: string, param: string | null = null) {
    super(message);
    this.type = type;
    this.param = param;
  }
}

/** What an unsuccessful answer says. */
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
  /** The kind of error; null if the answer does not look like an error of the server. */
  readonly type: string | null;
  /** The field of the request that caused it, by its name in the server's API, or null. */
  readonly param: string | null;
  /** The id of the request, to find it by in the server's log. */
  readonly requestId: string | null;
  /** How many seconds the server wants you to wait before you try again, if it says so. */
  readonly retryAfter: number | null;
  /** The headers of the answer. */
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

/** 400: the request is malformed. */
export class BadRequestError extends APIStatusError {}

/** 401: the server requires an API key, and there was none or it is unknown. */
export class AuthenticationError extends APIStatusError {}

/** 403: the API key does not allow this. */
export class PermissionDeniedError extends APIStatusError {}

/** 404: there is no such resource. Often the `baseUrl` is wrong. */
export class NotFoundError extends APIStatusError {}

/** 408: the whole request did not arrive within the time that the server allows. */
export class RequestTimeoutError extends APIStatusError {}

/** 409: the request conflicts with the current state of a resource. */
export class ConflictError extends APIStatusError {}

/** 413: the request is too large for the server or the model. */
export class RequestTooLargeError extends APIStatusError {}

/** 422: the server does not accept the value of a field, which `param` names. */
export class UnprocessableEntityError extends APIStatusError {}

/** 429: this client made too many requests; `retryAfter` says how long to wait. */
export class RateLimitError extends APIStatusError {}

/** 500: the server failed. */
export class InternalServerError extends APIStatusError {}

/** 503: the server is full, not ready or shutting down. */
export class ServiceUnavailableError extends APIStatusError {}

/** 504: the request was not finished within its `deadlineMs`. */
export class DeadlineExceededError extends APIStatusError {}

/** 404: the server does not serve a model of this name. */
export class ModelNotFoundError extends NotFoundError {}

/** 404: there is no such session. It may have been deleted or have expired. */
export class SessionNotFoundError extends NotFoundError {}

/** 409: another request is using the session. */
export class SessionBusyError extends ConflictError {}

/** 409: there already is a session with this id. */
export class SessionExistsError extends ConflictError {}

/** 409: the session belongs to other weights than the request names, or the server now serves. */
export class SessionOfOtherWeightsError extends ConflictError {}

/** 413: the session would hold more than the model, or the server, allows. */
export class SessionFullError extends RequestTooLargeError {}

/** 422: the snapshot is damaged, or does not match the server's weights or version. */
export class InvalidSnapshotError extends UnprocessableEntityError {}

/** 429: the server holds as many sessions as it may. */
export class TooManySessionsError extends RateLimitError {}

/** 500: the session in the server's store is not the one that was written there. */
export class SessionDamagedError extends InternalServerError {}

/** 503: the server cannot reach its session store. Requests without a session still work. */
export class SessionStoreUnavailableError extends ServiceUnavailableError {}
