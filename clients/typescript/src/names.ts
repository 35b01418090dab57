/** Names: `max_tokens` on the wire is `maxTokens` here, for types and for values. */

/** A name of the wire as one of this package. */
export type Camel<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<Camel<Tail>>}`
  : Name;

/** A type of the wire with the names of this package; maps with free keys stay as they are. */
export type Camelized<T> = T extends readonly (infer Element)[]
  ? Camelized<Element>[]
  : T extends object
    ? string extends keyof T
      ? T
      : { [Name in keyof T as Camel<Name & string>]: Camelized<T[Name]> }
    : T;

/** Fields whose keys are not names of the contract: a model's configuration, ids of tokens. */
const FREE_KEYS = new Set(["config", "logit_bias"]);

/** Gives a JSON value of the wire the names of this package. */
export function camelized(value: unknown): unknown {
  if (Array.isArray(value)) {
    // Most lists are of token ids, and long.
    return typeof value[0] === "object" ? value.map(camelized) : value;
  }
  if (typeof value !== "object" || value === null) {
    return value;
  }
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [
      name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()),
      FREE_KEYS.has(name) ? field : camelized(field),
    ]),
  );
}

/** Gives the fields of a request, whose values are no objects of the contract, their names. */
export function snakeCased(fields: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      field,
    ]),
  );
}
