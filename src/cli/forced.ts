/**
 * Forced claims: what root blocked although the guard refuses. The ledger is the service's, so what stands there alone could be
 * forged; a claim that the guard refuses comes back after a reboot only when it stands in root's own list too, as it stands
 * there: its end and its mode are the list's.
 *
 * Ends are of the wall clock, for the list is to be good without a ledger. One that was set back does not prolong them: what is
 * left is never more than the whole was.
 */
import { formatPrefix, type Prefix, readPrefix } from '../address/prefix.ts';
import { type Ends, forEver, never } from '../blocklist/ledger/record.ts';
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
    if (target === null || !isMoment(each.since) || (each.until !== null && !isMoment(each.until))) return [];
    const mode = each.mode === 'monitor' ? 'monitor' : 'enforce';
    return [{ target, mode, until: each.until, since: each.since }];
  });
}

/**
 * Adds; of the same target and mode the one that ends later stays, as in the ledger. `replace`: it is the only one of its target.
 * What has ended is left out.
 */
export function addForced(
  stateDir: string,
  forced: Forced,
  { nowMs, replace = false }: { nowMs: number; replace?: boolean },
): void {
  const name = formatPrefix(forced.target);
  const live = readForced(stateDir).filter((each) => leftOf(each, nowMs) > 0);
  const isSame = (each: Forced): boolean =>
    formatPrefix(each.target) === name && (replace || each.mode === forced.mode);
  const longer = replace ? undefined : live.find((each) => isSame(each) && leftOf(each, nowMs) > leftOf(forced, nowMs));
  write(stateDir, [...live.filter((each) => !isSame(each)), longer ?? forced]);
  fault('block.listed');
}

/** ms; 0 = it has ended. */
export function leftOf({ until, since }: Forced, nowMs: number): number {
  return until === null ? Number.POSITIVE_INFINITY : Math.max(0, Math.min(until - nowMs, until - since));
}

/** In ledger time; null: root does not force it (any more). */
export function forcedEnds(
  forced: readonly Forced[],
  target: Prefix,
  { nowMs, ledgerNow }: { nowMs: number; ledgerNow: number },
): Ends | null {
  const name = formatPrefix(target);
  const endOf = (mode: Forced['mode']): number => {
    const own = forced.filter((each) => each.mode === mode && formatPrefix(each.target) === name);
    const left = Math.max(0, ...own.map((each) => leftOf(each, nowMs)));
    return left === 0 ? never : left === Number.POSITIVE_INFINITY ? forEver : Math.floor(ledgerNow + left);
  };
  const ends = { dropEnd: endOf('enforce'), countEnd: endOf('monitor') };
  return ends.dropEnd === never && ends.countEnd === never ? null : ends;
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

function isMoment(value: unknown): boolean {
  return typeof value === 'number' && Number.isFinite(value);
}

function write(stateDir: string, forced: readonly Forced[]): void {
  const stored: readonly Stored[] = forced.map((each) => ({ ...each, target: formatPrefix(each.target) }));
  writeTrusted(stateDir, fileName, JSON.stringify(stored));
}
