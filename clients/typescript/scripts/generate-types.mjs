/**
 * Writes src/schema.ts from the OpenAPI document of the server in this repository.
 *
 * With --check, only says whether it is what would be written. PYTHON names the interpreter that has
 * the server's packages, by default that of .venv.
 */

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import openapiTS, { astToString, COMMENT_HEADER } from "openapi-typescript";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const TYPES = new URL("../src/schema.ts", import.meta.url);
const PROGRAM = "import json, server.app; print(json.dumps(server.app.create_app().openapi()))";

const python = process.env.PYTHON ?? `${ROOT}.venv/bin/python`;
const document = execFileSync(python, ["-c", PROGRAM], { cwd: ROOT, encoding: "utf8" });
// What has a default may be left out of a request.
const types = await openapiTS(JSON.parse(document), { defaultNonNullable: false });
const source = COMMENT_HEADER + astToString(types);

if (!process.argv.includes("--check")) {
  writeFileSync(TYPES, source);
} else if (readFileSync(TYPES, "utf8") !== source) {
  console.error("src/schema.ts is not what the server's OpenAPI document says: npm run types");
  process.exitCode = 1;
}
