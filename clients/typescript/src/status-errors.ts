/** Chooses the error for an unsuccessful answer. */

import {
  APIStatusError,
  AuthenticationError,
  BadRequestError,
  ConflictError,
  DeadlineExceededError,
  InternalServerError,
  InvalidSnapshotError,
  ModelNotFoundError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
  type Refusal,
  RequestTimeoutError,
  RequestTooLargeError,
  ServiceUnavailableError,
  SessionBusyError,
  SessionDamagedError,
  SessionExistsError,
  SessionFullError,
  SessionNotFoundError,
  SessionOfOtherWeightsError,
  SessionStoreUnavailableError,
  TooManySessionsError,
  UnprocessableEntityError,
} from "./errors.js";

type StatusErrorClass = new (refusal: Refusal) => APIStatusError;

/** The error for each status. Any other status is a plain `APIStatusError`. */
const OF_STATUS = new Map<number, StatusErrorClass>([
  [400, BadRequestError],
  [401, AuthenticationError],
  [403, PermissionDeniedError],
  [404, NotFoundError],
  [408, RequestTimeoutError],
  [409, ConflictError],
  [413, RequestTooLargeError],
  [422, UnprocessableEntityError],
  [429, RateLimitError],
  [500, InternalServerError],
  [503, ServiceUnavailableError],
]);

/** The error for each status and type of error that is more specific than the status alone. */
const OF_TYPE = new Map<string, StatusErrorClass>([
  ["404 model_not_found", ModelNotFoundError],
  ["404 session_not_found", SessionNotFoundError],
  ["409 session_busy", SessionBusyError],
  ["409 session_exists", SessionExistsError],
  ["409 session_of_other_weights", SessionOfOtherWeightsError],
  ["413 session_full", SessionFullError],
  ["422 invalid_snapshot", InvalidSnapshotError],
  ["429 too_many_sessions", TooManySessionsError],
  ["500 session_damaged", SessionDamagedError],
  ["503 session_store_unavailable", SessionStoreUnavailableError],
  ["504 deadline_exceeded", DeadlineExceededError],
]);

/** Returns the error to throw for an unsuccessful answer. */
export function statusError(refusal: Refusal): APIStatusError {
  const { status, type } = refusal;
  const kind = OF_TYPE.get(`${status} ${type}`) ?? OF_STATUS.get(status) ?? APIStatusError;
  return new kind(refusal);
}
