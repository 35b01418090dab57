import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const SOURCES = new URL("../../src/", import.meta.url);

type Graph = ReadonlyMap<string, readonly string[]>;

/** The files that a source names in its imports and exports, those of types alone too. */
function named(source: string): string[] {
  const found = source.matchAll(/\b(?:from|import)\s*\(?\s*"\.\/([^"]+)\.js"/g);
  return [...found].map(([, name]) => name ?? "");
}

/** A way through the graph that ends where it began, if there is one. */
function circle(graph: Graph): string[] | undefined {
  const done = new Set<string>();
  const visit = (name: string, way: readonly string[]): string[] | undefined => {
    if (way.includes(name)) {
      return [...way.slice(way.indexOf(name)), name];
    }
    if (done.has(name)) {
      return undefined;
    }
    for (const next of graph.get(name) ?? []) {
      const found = visit(next, [...way, name]);
      if (found !== undefined) {
        return found;
      }
    }
    done.add(name);
    return undefined;
  };
  for (const name of graph.keys()) {
    const found = visit(name, []);
    if (found !== undefined) {
      return found;
    }
  }
  return undefined;
}

test("no source imports itself in a circle, not for its types either", () => {
  const files = readdirSync(SOURCES).filter((file) => file.endsWith(".ts"));
  const graph = new Map(
    files.map((file) => [
      file.replace(/\.ts$/, ""),
      named(readFileSync(new URL(file, SOURCES), "utf8")),
    ]),
  );
  assert.ok(graph.get("index")?.includes("client"));
  assert.equal(circle(graph), undefined);
});

test("a circle is found, whatever form its imports have", () => {
  const sources = {
    a: 'import type { B } from "./b.js";',
    b: 'export * from "./c.js";\nimport { readFileSync } from "node:fs";',
    c: 'const later = () => import("./a.js");',
    d: 'import "./a.js";',
  };
  const graph = new Map(Object.entries(sources).map(([name, source]) => [name, named(source)]));
  assert.deepEqual(circle(graph), ["a", "b", "c", "a"]);
  graph.set("c", []);
  assert.equal(circle(graph), undefined);
});
