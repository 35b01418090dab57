/** Every example of the README is well typed, runs, and prints what the README says. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Server } from "./server.js";

const run = promisify(execFile);

const PACKAGE = new URL("../../", import.meta.url);
const FOLDER = fileURLToPath(new URL("build/readme/", PACKAGE)); // imports the package by its name
const ADDRESS = "http://127.0.0.1:8000";
const README = readFileSync(new URL("README.md", PACKAGE), "utf8");
const BLOCKS = [...README.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, kind, text]) => ({
  kind,
  text: text ?? "",
}));
const EXAMPLES = BLOCKS.flatMap(({ kind, text }, index) =>
  kind === "ts" ? [{ code: text, output: BLOCKS[index + 1] }] : [],
);
const NAMES = EXAMPLES.map((_, index) => `${FOLDER}example-${index + 1}`);

// Node 18 has it behind an option.
const OPTIONS = globalThis.crypto === undefined ? ["--experimental-global-webcrypto"] : [];

let server: Server;

before(async () => {
  server = await Server.start("exact-bytes");
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER);
});

after(() => server[Symbol.asyncDispose]());

test("every example shows its output", () => {
  assert.equal(EXAMPLES.length, 9);
  for (const { code, output } of EXAMPLES) {
    assert.equal(output?.kind, "text");
    assert.ok(code.includes(ADDRESS));
  }
});

test("every example is well typed", async () => {
  // The address is all that is changed: a free port takes the place of the default one.
  EXAMPLES.forEach(({ code }, index) => {
    writeFileSync(`${NAMES[index]}.ts`, code.replace(ADDRESS, server.url));
  });
  const config = {
    extends: "../../test/tsconfig.json",
    compilerOptions: { rootDir: ".", outDir: "." },
    include: ["*.ts"],
    exclude: [],
  };
  writeFileSync(`${FOLDER}tsconfig.json`, JSON.stringify(config));
  const tsc = fileURLToPath(new URL("node_modules/typescript/bin/tsc", PACKAGE));
  const problems = await run(process.execPath, [tsc, "--project", FOLDER]).then(
    () => "",
    ({ stdout }) => stdout,
  );
  assert.equal(problems, "");
});

EXAMPLES.forEach(({ output }, index) => {
  test(`example ${index + 1} prints what stands beneath it`, async () => {
    const { stdout } = await run(process.execPath, [...OPTIONS, `${NAMES[index]}.js`]);
    assert.equal(stdout, output?.text);
  });
});
