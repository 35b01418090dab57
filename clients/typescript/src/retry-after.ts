/** The header by which a server says when to come back. */

const HTTP_DATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/**
 * Reads a `Retry-After` header: seconds (decimals are accepted) or an HTTP date.
 *
 * @param now Milliseconds since 1970.
 * @returns Seconds to wait, 0 for a date in the past; null if the value means nothing.
 */
export function parseRetryAfter(value: string | null, now = Date.now()): number | null {
  if (value === null) {
    return null;
  }
  if (/^\s*\d+(\.\d+)?\s*$/.test(value)) {
    return Number(value);
  }
  // Date.parse alone takes nearly anything for a date, and for one in the local time zone.
  const moment = HTTP_DATE.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(moment) ? null : Math.max(0, moment - now) / 1000;
}
