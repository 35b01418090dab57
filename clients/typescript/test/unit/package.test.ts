import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import * as client from "causalrn-client";

const ROOT = new URL("../../", import.meta.url);
const MANIFEST = JSON.parse(readFileSync(new URL("package.json", ROOT), "utf8"));

test("the version is that of the package", () => {
  assert.equal(client.VERSION, MANIFEST.version);
});

test("nothing else is needed", () => {
  const { dependencies, peerDependencies, optionalDependencies } = MANIFEST;
  assert.deepEqual(
    [dependencies, peerDependencies, optionalDependencies],
    Array(3).fill(undefined),
  );
  const files = readdirSync(new URL("dist", ROOT)).filter((name) => name.endsWith(".js"));
  assert.ok(files.length > 10);
  for (const file of files) {
    const source = readFileSync(new URL(`dist/${file}`, ROOT), "utf8");
    for (const [, name] of source.matchAll(/\b(?:from|import)\b[ (]*["']([^"']*)["']/g)) {
      assert.match(name ?? "", /^\.\/[a-z-]+\.js$/, file);
    }
    assert.doesNotMatch(source, /\b(process|Buffer|require|__dirname)\b[.(]/, file);
  }
});

test("every error is one of ours, and knows its name", () => {
  const errors = Object.entries(client).filter(([name]) => name.endsWith("Error"));
  assert.ok(errors.length > 25);
  for (const [name, kind] of errors) {
    const { prototype } = kind as { prototype: unknown };
    assert.ok(name === "CausalRNError" || prototype instanceof client.CausalRNError, name);
  }
  assert.equal(new client.InvalidRequestError("no").name, "InvalidRequestError");
});
