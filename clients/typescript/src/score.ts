/** How likely a model finds a text: the request, and how to read the answer. */

import { InvalidRequestError, ResponseFormatError } from "./errors.js";
import type { GenerateOptions, Generation, TokenLogprob } from "./types.js";

/** A token of a text that was scored. */
export interface ScoredToken {
  tokenId: number;
  /** The natural logarithm of its probability, given all tokens before it. */
  logprob: number;
  /**
   * Whether no other token was likelier. The model would then have written this one at temperature 0.
   */
  isLikeliest: boolean;
}

/** How likely a model finds a completion after a prompt. */
export interface Score {
  model: string;
  /** The tokens of the completion. */
  tokens: ScoredToken[];
  /** The natural logarithm of the probability of the whole completion. */
  logprob: number;
  /** Whether each token is the likeliest: at temperature 0 the model would write just this. */
  isLikeliest: boolean;
  /**
   * The exponential of the mean negative log-probability. The completion is as surprising as a choice
   * among this many equally likely tokens at each position. 1 means certainty.
   */
  perplexity: number;
}

/** The options with which the server reads tokens, says how likely each is, and writes nothing. */
export const READING = {
  mode: "raw",
  maxTokens: 0,
  echo: true,
  logprobs: 1,
} as const satisfies GenerateOptions;

/**
 * Returns the tokens to read for a score.
 *
 * @throws {InvalidRequestError} The prompt or the completion is empty.
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
 * @throws {ResponseFormatError} The answer is about other tokens, or lacks their log-probabilities.
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
