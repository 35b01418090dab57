/** The variables of the environment, which only Node has. */

interface Process {
  env: Record<string, string | undefined>;
  versions?: { node?: string };
}

/** Returns a variable that is set and not empty. What bundlers put in place of Node does not count. */
export function variable(name: string): string | undefined {
  const { process: node } = globalThis as { process?: Process };
  return node?.versions?.node === undefined ? undefined : node.env[name] || undefined;
}
