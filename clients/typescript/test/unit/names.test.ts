import assert from "node:assert/strict";
import { test } from "node:test";
import { type Camelized, camelized, snakeCased } from "../../dist/names.js";

test("names are translated in objects and lists of objects", () => {
  const wire = {
    token_ids: [1, 2],
    top: [{ token_id: 3 }, { token_id: 4 }],
    usage: { prompt_tokens: 5 },
    session: null,
    max_model_len: 6,
  };
  const named: Camelized<typeof wire> = camelized(wire) as Camelized<typeof wire>;
  assert.deepEqual(named, {
    tokenIds: [1, 2],
    top: [{ tokenId: 3 }, { tokenId: 4 }],
    usage: { promptTokens: 5 },
    session: null,
    maxModelLen: 6,
  });
});

test("keys that are no names stay as they are", () => {
  const config = { d_model: 1, layers: [{ n_head: 2 }] };
  assert.deepEqual(camelized({ config }), { config });
  assert.deepEqual(snakeCased({ logitBias: { 65: 1 } }), { logit_bias: { 65: 1 } });
});

test("names of requests are those of the wire", () => {
  assert.deepEqual(snakeCased({ topP: 1, waitForSession: true, n: 2, minP: 0 }), {
    top_p: 1,
    wait_for_session: true,
    n: 2,
    min_p: 0,
  });
});
