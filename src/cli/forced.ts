/**
 * Forced claims: what root blocked although the guard refuses. The ledger is the service's, so what stands there alone could be
 * forged; a claim that the guard refuses comes back after a reboot only when it stands in root's own list too.
 */
import { formatPrefix, type Prefix, readPrefix } from '../address/prefix.ts';
import { fault } from '../fault.ts';
import { readTrusted, writeTrusted } from './trusted.ts';

export interface Forced {
  readonly target: Prefix;
  readonly mode: 'enforce' | 'monitor';
  /** ms since 1970; null = for ever. */
  readonly until: number | null;
  /** When it was forced, ms since 1970. */
  readonly since: number;
}

interface Stored {
  readonly target: string;
  readonly mode: 'enforce' | 'monitor';
  readonly until: number | null;
  readonly since: number;
}

const fileName = 'forced.json';

export function readForced(stateDir: string): readonly Forced[] {
  let stored: unknown;
  try {
    stored = JSON.parse(readTrusted(stateDir, fileName)?.toString() ?? '[]');
  } catch {
    return [];
  }
  if (!Array.isArray(stored)) return [];
  return (stored as readonly Stored[]).flatMap((each) => {
    const target = typeof each?.target === 'string' ? readPrefix(each.target) : null;
    return target === null ? [] : [{ target, mode: each.mode, until: each.until, since: each.since }];
  });
}

/** Adds, or replaces the one of the same target; what has ended is left out. */
export function addForced(stateDir: string, forced: Forced, nowMs: number): void {
  const others = readForced(stateDir).filter(
    ({ target, until }) => formatPrefix(target) !== formatPrefix(forced.target) && (until === null || until > nowMs),
  );
  write(stateDir, [...others, forced]);
  fault('block.listed');
}

/** True: some of them stood there. */
export function removeForced(stateDir: string, targets: readonly Prefix[]): boolean {
  const gone = new Set(targets.map(formatPrefix));
  const before = readForced(stateDir);
  const after = before.filter(({ target }) => !gone.has(formatPrefix(target)));
  if (after.length < before.length) write(stateDir, after);
  fault('unblock.unlisted');
  return after.length < before.length;
}

function write(stateDir: string, forced: readonly Forced[]): void {
  const stored: readonly Stored[] = forced.map((each) => ({ ...each, target: formatPrefix(each.target) }));
  writeTrusted(stateDir, fileName, JSON.stringify(stored));
}
