/** How likely a text is to a model: what is asked, and how the answer is read. */

import { InvalidRequestError, ResponseFormatError } from "./errors.js";
import type { GenerateOptions, Generation, TokenLogprob } from "./types.js";

/** One token of what was scored. */
export interface ScoredToken {
  tokenId: number;
  /** Natural logarithm of its probability, given all before it. */
  logprob: number;
  /**
   * Whether no other token was likelier, so that a model at temperature 0 would have written it.
   */
  isLikeliest: boolean;
}

/** How likely a completion is to a model, given the prompt before it. */
export interface Score {
  model: string;
  /** The completion, token by token. */
  tokens: ScoredToken[];
  /** Natural logarithm of the probability of the whole. */
  logprob: number;
  /** Whether each token is the likeliest, so that the model would write the whole itself. */
  isLikeliest: boolean;
  /**
   * Exponential of the mean negative log-probability; 1 is certainty. As many equally likely tokens
   * in each place would be as surprising.
   */
  perplexity: number;
}

/** What lets the server read tokens and say how likely each was, and write nothing. */
export const READING = {
  mode: "raw",
  maxTokens: 0,
  echo: true,
  logprobs: 1,
} as const satisfies GenerateOptions;

/**
 * The tokens to read for a score.
 *
 * @throws {InvalidRequestError} There are none of the one, or of the other.
 */
export function joined(prompt: readonly number[], completion: readonly number[]): number[] {
  if (completion.length === 0) {
    throw new InvalidRequestError("the completion must not be empty: there is nothing to score");
  }
  if (prompt.length === 0) {
    throw new InvalidRequestError(
      "the prompt must not be empty: what comes first in a text has no probability",
    );
  }
  return [...prompt, ...completion];
}

/**
 * Reads the answer about tokens that end in a completion.
 *
 * @throws {ResponseFormatError} It tells of other tokens, or not enough about them.
 */
export function readScore(generation: Generation, completion: readonly number[]): Score {
  const told = generation.logprobs?.slice(-completion.length) ?? [];
  const tokens = completion.map((tokenId, place): ScoredToken => {
    const { logprob, top, ...named }: Partial<TokenLogprob> = told[place] ?? {};
    const likeliest = top?.[0]?.tokenId;
    if (named.tokenId !== tokenId || typeof logprob !== "number" || likeliest === undefined) {
      throw new ResponseFormatError("the answer has no log-probabilities of the completion");
    }
    return { tokenId, logprob, isLikeliest: likeliest === tokenId };
  });
  const logprob = tokens.reduce((sum, token) => sum + token.logprob, 0);
  return {
    model: generation.model,
    tokens,
    logprob,
    isLikeliest: tokens.every((token) => token.isLikeliest),
    perplexity: Math.exp(-logprob / tokens.length),
  };
}
