/** Reads the header `Retry-After`. */

const HTTP_DATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/**
 * Returns how many seconds a `Retry-After` header asks to wait; null if it cannot be read. A date in
 * the past means 0.
 *
 * @param value The value of the header, seconds (with decimals or without) or an HTTP date.
 * @param now The current time, in milliseconds since 1970.
 */
export function parseRetryAfter(value: string | null, now = Date.now()): number | null {
  if (value === null) {
    return null;
  }
  if (/^\s*\d+(\.\d+)?\s*$/.test(value)) {
    return Number(value);
  }
  // Date.parse alone would accept nearly anything, and read it in the local time zone.
  const moment = HTTP_DATE.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(moment) ? null : Math.max(0, moment - now) / 1000;
}
