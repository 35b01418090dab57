/** Translates names: the server's `max_tokens` is `maxTokens` here, in types and in values. */

/** A name of the server's API as it is called in this package. */
export type Camel<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<Camel<Tail>>}`
  : Name;

/** A type of the server's API with the names of this package. Maps with any keys are not changed. */
export type Camelized<T> = T extends readonly (infer Element)[]
  ? Camelized<Element>[]
  : T extends object
    ? string extends keyof T
      ? T
      : { [Name in keyof T as Camel<Name & string>]: Camelized<T[Name]> }
    : T;

/** Fields that contain maps with any keys: a model's configuration, or token ids. */
const FREE_KEYS = new Set(["config", "logit_bias"]);

/** Gives a JSON value from the server the names of this package. */
export function camelized(value: unknown): unknown {
  if (Array.isArray(value)) {
    // Most lists are long ones of token ids, in which there is nothing to translate.
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

/** Gives the fields of a request the server's names. Their values are not changed. */
export function snakeCased(fields: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      field,
    ]),
  );
}
