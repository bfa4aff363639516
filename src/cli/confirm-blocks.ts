/** Blocks that undo themselves unless confirmed. */
import type { Call } from './call.ts';

export interface ConfirmedBlock {
  /** As `falcodrop list` shows it. */
  readonly target: string;
  /** ms since 1970; null = for ever. */
  readonly until: number | null;
}

/** Gives pending blocks the end that was wished for; those of which it is too late are not among them. */
export function confirmBlocks(_call: Call): Promise<readonly ConfirmedBlock[]> {
  return Promise.resolve([]);
}
