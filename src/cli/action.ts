/** Verbs of two words: `allow add`, `guard list`. The second is the first operand. */
import { FalcodropError } from '../errors.ts';
import type { Call } from './call.ts';

/** Throws `usage`, naming the words that there are. */
export function readAction<T extends string>(
  call: Call,
  actions: readonly T[],
): { readonly action: T; readonly operands: readonly string[] } {
  const [word = '', ...operands] = call.operands;
  const action = actions.find((each) => each === word);
  if (action !== undefined) return { action, operands };
  const list = actions.map((each) => `falcodrop ${call.verb} ${each}`).join(', ');
  throw new FalcodropError(
    'usage',
    `"falcodrop ${call.verb}" does not know ${JSON.stringify(word.slice(0, 40))}`,
    `it is one of: ${list}`,
  );
}
