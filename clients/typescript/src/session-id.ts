/** The names of sessions. */

/**
 * Makes the id of a session: `ses-` and 32 hexadecimal digits, unlike any other.
 *
 * The first fourteen digits are the microseconds since 1970, as in the ids that servers make, so that
 * all of them sort by time.
 */
export function newSessionId(): string {
  const microseconds = (Date.now() * 1000).toString(16).padStart(14, "0");
  const random = crypto.getRandomValues(new Uint8Array(9));
  return `ses-${microseconds}${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
