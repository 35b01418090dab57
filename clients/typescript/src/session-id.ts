/** Ids for new sessions. */

/**
 * Makes a new, unique session id: `ses-` and 32 hexadecimal digits.
 *
 * The first fourteen digits are the microseconds since 1970, as in the ids that servers make, so that
 * sessions sort by time.
 */
export function newSessionId(): string {
  const microseconds = (Date.now() * 1000).toString(16).padStart(14, "0");
  const random = crypto.getRandomValues(new Uint8Array(9));
  return `ses-${microseconds}${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
