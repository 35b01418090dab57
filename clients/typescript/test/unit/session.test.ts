import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { test } from "node:test";
import {
  APIConnectionError,
  Client,
  IncompleteStreamError,
  InvalidSnapshotError,
  NotFoundError,
  ResponseFormatError,
  type Session,
  SessionNotFoundError,
  TooManySessionsError,
} from "causalrn-client";
import {
  type Answer,
  chunk,
  events,
  GENERATION,
  hangUp,
  json,
  LAST,
  refuse,
  ScriptedServer,
  SESSION,
} from "./scripted-server.js";

globalThis.crypto ??= webcrypto as Crypto; // Node 18 has it under this name only

const AT_ONCE = { "retry-after": "0" };
const MADE = json(SESSION, 201);
const GONE: Answer = (response) => response.writeHead(204).end();

async function serving(
  answers: Answer[],
  use: (client: Client, server: ScriptedServer) => Promise<unknown>,
): Promise<void> {
  await using server = await ScriptedServer.start(...answers);
  await use(new Client({ baseUrl: server.url, model: "mine" }), server);
}

function lines(server: ScriptedServer): string[] {
  return server.received.map(({ method, url, body }) => `${method} ${url} ${body}`.trim());
}

test("a session is made, used and deleted", () =>
  serving(
    [MADE, json(GENERATION), events(chunk("hé", [1, 2, 3], LAST), "[DONE]"), json(SESSION), GONE],
    async (client, server) => {
      const session = await client.createSession({ ttlSeconds: 60 });
      assert.equal(session.id, SESSION.id);
      await session.generate("a", { maxTokens: 2, wait: true });
      await session.stream([1]).result();
      assert.equal((await session.info({ includeTokenIds: true })).nTokens, 3);
      await session.delete();
      const turn = `"session_id":"${SESSION.id}"`;
      assert.deepEqual(lines(server), [
        'POST /sessions {"ttl_seconds":60,"model":"mine"}',
        `POST /generate {"prompt":"a","max_tokens":2,${turn},"wait_for_session":true}`,
        `POST /generate {"token_ids":[1],${turn},"stream":true}`,
        `GET /sessions/${SESSION.id}?include=token_ids`,
        `DELETE /sessions/${SESSION.id}`,
      ]);
    },
  ));

test("read and recall are turns", () =>
  serving([json(SESSION), json(GENERATION)], async (client, server) => {
    const session = await client.getSession(SESSION.id);
    await session.read("a passage", { deadlineMs: 500 });
    await session.recall("a", { maxTokens: 9, allowPartial: true });
    const turn = `"session_id":"${SESSION.id}"`;
    assert.deepEqual(lines(server).slice(1), [
      `POST /generate {"prompt":"a passage","mode":"copy","max_tokens":0,${turn},"timeout":0.5}`,
      `POST /generate {"prompt":"a","max_tokens":9,"allow_partial":true,"mode":"recall",${turn}}`,
    ]);
  }));

test("a fork is a session, too", () =>
  serving([json(SESSION), json({ ...SESSION, id: "ses-2" }, 201)], async (client, server) => {
    const child = await (await client.getSession(SESSION.id)).fork({ ttlSeconds: 5 });
    assert.equal(child.id, "ses-2");
    assert.equal(lines(server)[1], `POST /sessions/${SESSION.id}/fork {"ttl_seconds":5}`);
  }));

test("making one is not repeated where it may have been made, deleting one is", async () => {
  await serving([hangUp, MADE], async (client, server) => {
    await assert.rejects(client.createSession(), APIConnectionError);
    assert.equal(server.received.length, 1);
  });
  await serving([json(SESSION), hangUp, MADE], async (client, server) => {
    const session = await client.getSession(SESSION.id);
    await assert.rejects(session.fork(), APIConnectionError);
    assert.equal(server.received.length, 2);
  });
  await serving([refuse(429, "too_many_sessions", AT_ONCE), MADE], async (client, server) => {
    await client.createSession();
    assert.equal(server.received.length, 2);
  });
  await serving(
    [json(SESSION), hangUp, refuse(404, "session_not_found")],
    async (client, server) => {
      await (await client.getSession(SESSION.id)).delete();
      assert.equal(server.received.length, 3);
    },
  );
});

test("a session that was never there cannot be deleted", () =>
  serving([json(SESSION), refuse(404, "session_not_found")], async (client) => {
    const session = await client.getSession(SESSION.id);
    await assert.rejects(session.delete(), SessionNotFoundError);
  }));

test("a block deletes what was made for it", async () => {
  const inBlock = async (session: Promise<Session>) => {
    await using inner = await session;
    return inner.id;
  };
  const isDeleted = async (answers: Answer[], make: (client: Client) => Promise<Session>) => {
    let methods: string[] = [];
    await serving(answers, async (client, server) => {
      await inBlock(make(client));
      methods = server.received.map(({ method }) => method);
    });
    return methods.at(-1) === "DELETE";
  };
  assert.ok(await isDeleted([MADE, GONE], (client) => client.createSession()));
  assert.ok(await isDeleted([MADE, GONE], (client) => client.restoreSession(new Uint8Array(3))));
  assert.ok(
    await isDeleted([json(SESSION), MADE, GONE], async (client) =>
      (await client.getSession(SESSION.id)).fork(),
    ),
  );
  assert.ok(
    !(await isDeleted([json(SESSION)], (client) => client.getSession(SESSION.id))),
    "it was there before",
  );
  assert.ok(
    !(await isDeleted([MADE], (client) =>
      client.restoreSession(new Uint8Array(3), { id: SESSION.id }),
    )),
    "it was given an id to be found by",
  );
});

test("a block does not mind a session that is gone, nor hide its own error", async () => {
  await serving([MADE, refuse(404, "session_not_found")], async (client) => {
    await using session = await client.createSession();
    assert.ok(session.id);
  });
  await serving([MADE, refuse(500, "internal_error")], async (client) => {
    const block = async () => {
      await using session = await client.createSession();
      throw new TypeError(session.id);
    };
    await assert.rejects(block(), (error) => {
      assert.ok(error instanceof Error && "suppressed" in error);
      assert.ok(error.suppressed instanceof TypeError);
      return true;
    });
  });
});

test("all sessions are listed, page by page, as far as they are asked for", async () => {
  const page = (ids: string[], next: string | null) =>
    json({ sessions: ids.map((id) => ({ ...SESSION, id })), next });
  await serving([page(["a", "b"], "b"), page(["c"], null)], async (client, server) => {
    const ids: string[] = [];
    for await (const { id } of client.listSessions({ limit: 2 })) {
      ids.push(id);
      assert.equal(server.received.length, id === "c" ? 2 : 1);
    }
    assert.deepEqual(ids, ["a", "b", "c"]);
    assert.deepEqual(lines(server), ["GET /sessions?limit=2", "GET /sessions?limit=2&after=b"]);
  });
  await serving([page(["a"], "a"), page(["a"], "a")], async (client) => {
    const all = async () => {
      for await (const _ of client.listSessions()) {
        // Goes on.
      }
    };
    await assert.rejects(all(), ResponseFormatError);
  });
});

const SNAPSHOT = Buffer.from(Array.from({ length: 70_000 }, (_, index) => index % 251));
const SAVED: Answer = (response) => {
  response.writeHead(200, {
    "content-type": "application/octet-stream",
    "content-length": SNAPSHOT.length,
  });
  response.end(SNAPSHOT);
};
const CUT: Answer = (response) => {
  response.writeHead(200, {
    "content-type": "application/octet-stream",
    "content-length": SNAPSHOT.length,
  });
  response.write(SNAPSHOT.subarray(0, 1000), () => response.socket?.destroy());
};

test("a snapshot is fetched whole, again from its start where it breaks", () =>
  serving([json(SESSION), CUT, SAVED], async (client) => {
    const session = await client.getSession(SESSION.id);
    const seen: number[] = [];
    const snapshot = await session.snapshot({
      onProgress: (done, total) => {
        assert.equal(total, SNAPSHOT.length);
        seen.push(done);
      },
    });
    assert.deepEqual(Buffer.from(await snapshot.arrayBuffer()), SNAPSHOT);
    assert.equal(seen.at(-1), SNAPSHOT.length);
  }));

test("one that is never whole is none", () =>
  serving([json(SESSION), CUT], async (client, server) => {
    const session = await client.getSession(SESSION.id);
    await assert.rejects(session.snapshot(), (error) => {
      assert.ok(error instanceof APIConnectionError);
      assert.ok(!(error instanceof IncompleteStreamError));
      return true;
    });
    assert.equal(server.received.length, 4);
  }));

test("a snapshot is sent as it is, under an id of its own, and again where that breaks", () =>
  serving([hangUp, MADE], async (client, server) => {
    const before = Date.now();
    for (const source of [new Blob([SNAPSHOT]), SNAPSHOT, new Uint8Array(SNAPSHOT).buffer]) {
      assert.equal((await client.restoreSession(source)).id, SESSION.id);
    }
    const ids = server.received.map(({ method, url, headers }) => {
      assert.equal(method, "PUT");
      assert.equal(headers["content-type"], "application/octet-stream");
      assert.equal(headers["content-length"], `${SNAPSHOT.length}`);
      return /^\/sessions\/ses-([0-9a-f]{14})[0-9a-f]{18}\/snapshot$/.exec(url)?.[1] ?? "";
    });
    assert.equal(ids.length, 4);
    assert.equal(ids[0], ids[1], "the same session both times");
    assert.equal(new Set(server.received.map(({ url }) => url)).size, 3);
    for (const id of ids) {
      const made = Number.parseInt(id, 16) / 1000;
      assert.ok(made >= before && made <= Date.now());
    }
  }));

test("the errors of sessions have types", async () => {
  await serving([refuse(422, "invalid_snapshot")], (client) =>
    assert.rejects(client.restoreSession(new Blob([])), InvalidSnapshotError),
  );
  await serving([refuse(429, "too_many_sessions", AT_ONCE)], (client) =>
    assert.rejects(client.createSession(), TooManySessionsError),
  );
  await serving([refuse(404, "session_not_found")], (client) =>
    assert.rejects(client.getSession(SESSION.id), (error) => {
      assert.ok(error instanceof SessionNotFoundError && error instanceof NotFoundError);
      return true;
    }),
  );
});
