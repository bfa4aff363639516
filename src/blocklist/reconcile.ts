/**
 * Reconciliation: what the ledger wants and what the maps enforce are made equal.
 *
 * Level-triggered: whatever was cut short, by a crash, a purge, a restored backup or another tool, is seen from the two states
 * alone. In slices under the lock; drops go on all the while. In doubt an entry drops longer, never shorter:
 *
 *   live claims, entry missing or ends too early   the entry is set to their union
 *   live claims, entry ends later                  the surplus is adopted as a claim of the kind its bits say
 *   no live claim, tombstone                       the entry goes, then the tombstone
 *   an entry marked as withdrawn                   claims of the kinds that were meant are withdrawn, then the entry goes
 *   ended claims alone                             they go from the ledger
 *   ended claims, entry lives on                   they go, and the rest of it is adopted
 *   an entry the ledger knows nothing of           adopted, or removed where `foreign` says so
 */
import { coversPorts } from '../address/port.ts';
import { isHost, type Prefix } from '../address/prefix.ts';
import { fault } from '../fault.ts';
import {
  type BlockValue,
  isWithdrawn as isUnwritten,
  type OwnerKind,
  ownerBits,
  ownerKinds,
} from '../kernel/layout.ts';
import { portsAt, rowOf } from '../kernel/scopes.ts';
import { blockMapNames, type PinnedSet } from '../kernel/set.ts';
import { type Blocklist, slice } from './blocklist.ts';
import type { Owner } from './claims.ts';
import { keyOfTarget } from './ledger/key.ts';
import type { Ledger, TargetClaims } from './ledger/ledger.ts';
import { type Claim, type Ends, type LedgerEvent, never, type SetCause } from './ledger/record.ts';
import { isLive, type Union, unionOf } from './ledger/union.ts';
import { endsHeld, endsOfUnion } from './union.ts';

/** `stays_refused`: as before, with the same claims and for the same reason; it is not written down again. */
export type Mending = 'set' | 'removed' | 'adopted' | 'ended' | 'refused' | 'stays_refused';

export interface Mended {
  readonly target: Prefix;
  readonly mending: Mending;
  /** Of what is refused. */
  readonly why?: string;
  /** Live claims on it that are in force now (`set`), or are not. */
  readonly claims?: number;
}

export interface ReconcileOptions {
  /** What becomes of entries that the ledger knows nothing of. */
  readonly foreign: 'adopt' | 'remove';
  /** Tells what would be done. */
  readonly dryRun?: boolean;
  /** Why a target must not be blocked (the guard, asked again); null = it may. */
  readonly refuses?: (target: Prefix) => string | null;
  /**
   * Until when root has a refused target blocked all the same, at the latest, in ledger time; null = it does not. What the
   * ledger says of it beyond that is not believed: others may write there.
   */
  readonly forced?: (target: Prefix, now: number) => Ends | null;
  readonly onMended?: (mended: Mended) => void;
  /** How long an automatic block may stand in the map before its claim stands in the ledger. */
  readonly settleMs?: number;
}

export type Summary = Readonly<Record<Mending, number>>;

/** A difference of ends that is rounding and the time between two readings of two clocks. */
const toleranceMs = 1_000;

const defaultSettleMs = 2_000;

/** Root's list is written before the lock is waited for, the ledger after it: so much later its ends may be. */
const listSlackMs = 30_000;

export async function reconcile(blocklist: Blocklist, ledger: Ledger, options: ReconcileOptions): Promise<Summary> {
  const counts = { set: 0, removed: 0, adopted: 0, ended: 0, refused: 0, stays_refused: 0 };
  const tell: Tell = (target, mending, more = {}) => {
    counts[mending]++;
    options.onMended?.({ target, mending, ...more });
  };
  let after: Uint8Array | null = null;
  do {
    const { targets, next } = ledger.targets(after, slice);
    if (targets.length > 0) {
      const isWritten = await blocklist.locked((set) => mendSlice(set, ledger, targets, options, tell));
      if (isWritten) ledger.sync();
    }
    fault('reconcile.sliced');
    after = next;
  } while (after !== null);
  await mendForeign(blocklist, ledger, options, tell);
  const done = changesOf(counts);
  if (done > 0 && options.dryRun !== true) {
    ledger.apply([
      { kind: 'note', action: 'reconciled', target: null, owner: null, count: done, detail: JSON.stringify(counts) },
    ]);
  }
  return counts;
}

/**
 * What was withdrawn and is in the maps all the same goes: whoever withdrew it was cut off before the maps were changed. For those
 * who withdraw sets, which they find in the ledger, and which then are not in it any more. Resolves to how many there were.
 */
export async function finishWithdrawals(blocklist: Blocklist, ledger: Ledger): Promise<number> {
  const left = [...ledger.tombstones()].filter((target) => blocklist.set.lookup(target) !== null);
  let finished = 0;
  const count: Tell = () => {
    finished++;
  };
  for (let first = 0; first < left.length; first += slice) {
    const targets = left.slice(first, first + slice).map((target) => ({ target }));
    if (await blocklist.locked((set) => mendSlice(set, ledger, targets, { foreign: 'adopt' }, count))) ledger.sync();
  }
  return finished;
}

/**
 * What the daemon's blocks have left in the maps alone becomes known to the ledger: a daemon that was killed wrote the map first.
 * For those who take back what policies did, and find that in the ledger.
 */
export async function adoptAutomatic(blocklist: Blocklist, ledger: Ledger): Promise<void> {
  const isAutomatic = ({ owners }: BlockValue): boolean => ownerOf(ownerKinds(owners)).startsWith('policy:');
  await mendForeign(blocklist, ledger, { foreign: 'adopt' }, () => undefined, isAutomatic);
}

/** What was done or would be, and what was refused for the first time. */
export function changesOf({ stays_refused: _, ...counts }: Summary): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

type Tell = (target: Prefix, mending: Mending, more?: Pick<Mended, 'why' | 'claims'>) => void;

/** Under the lock; claims are read anew, for the slice was read before it. True when the ledger was written. */
function mendSlice(
  set: PinnedSet,
  ledger: Ledger,
  targets: readonly Pick<TargetClaims, 'target'>[],
  { dryRun = false, refuses, forced, settleMs = defaultSettleMs }: ReconcileOptions,
  tell: Tell,
): boolean {
  const events: LedgerEvent[] = [];
  const unwritten: Prefix[] = [];
  for (const { target } of targets) {
    const now = ledger.now();
    const claims = ledger.claimsOf(target);
    // Buried since, or the ledger was begun anew while its targets were gone through: what the maps hold is a foreign entry.
    if (claims.length === 0) continue;
    const union = unionOf(claims, now);
    const value = set.lookup(target);
    const isWithdrawn = claims.some(({ withdrawnAt }) => withdrawnAt !== null);
    if (value !== null && isUnwritten(value, set.now())) {
      tell(target, 'removed');
      events.push(withdrawalOf(target, value));
      unwritten.push(target);
      continue;
    }
    const held = value === null || isWithdrawn ? null : endsHeld(value, set.now(), now);
    if (union === null && held !== null && isBefore(now, Math.max(held.dropEnd, held.countEnd), now)) {
      // An extension that could not be written down yet: nobody has withdrawn anything.
      tell(target, 'adopted');
      const owner = ownerOf(ownerKinds(value?.owners ?? 0));
      const ports = portsAt(set, value?.scope ?? 0);
      events.push(
        { kind: 'end', target },
        { kind: 'wish', target, owner, ...held, ports, adopted: true, cause: inMaps },
      );
    } else if (union === null) {
      if (value !== null) {
        tell(target, 'removed');
        if (!dryRun) removeEntry(set, target);
        fault('reconcile.removed');
      } else if (!isWithdrawn) {
        tell(target, 'ended');
      }
      events.push({ kind: 'end', target });
    } else {
      const found = { target, claims, union, value, isWithdrawn, now };
      mendOne(set, ledger, found, { dryRun, refuses, forced }, events, tell);
    }
    // The entry is gone, or what the others wish: nothing is left for a tombstone to say, once nobody is about to write.
    if (claims.some(({ withdrawnAt }) => withdrawnAt !== null && withdrawnAt < now - settleMs)) {
      events.push({ kind: 'bury', target });
    }
  }
  if (dryRun) return false;
  if (events.length > 0) ledger.commit(events);
  fault('reconcile.recorded');
  for (const target of unwritten) {
    const union = unionOf(ledger.claimsOf(target), ledger.now());
    if (union === null) removeEntry(set, target);
    else set.change('set', target, endsOfUnion(union, ledger.now(), set.now(), rowOf(set, union.ports)));
  }
  return events.length > 0;
}

/** What a hand could not write down. Nobody's later block is among these claims: it would have made the entry live again. */
function withdrawalOf(target: Prefix, { owners }: BlockValue): LedgerEvent {
  const whose = (owners & ownerBits.feed) === 0 ? 'all_but_feeds' : 'all';
  return { kind: 'withdraw', target, owners: whose, cause: unblocked };
}

const unblocked: SetCause = {
  kind: 'adopted',
  name: null,
  hand: null,
  reason: 'unblocked by a hand while the ledger could not be written',
};

interface Found {
  readonly target: Prefix;
  readonly claims: readonly Claim[];
  readonly union: Union;
  readonly value: BlockValue | null;
  readonly isWithdrawn: boolean;
  readonly now: number;
}

interface Asked {
  readonly dryRun: boolean;
  readonly refuses: ReconcileOptions['refuses'];
  readonly forced: ReconcileOptions['forced'];
}

function mendOne(
  set: PinnedSet,
  ledger: Ledger,
  found: Found,
  { dryRun, refuses, forced }: Asked,
  events: LedgerEvent[],
  tell: Tell,
): void {
  const { target, claims, union, value, isWithdrawn, now } = found;
  const held = value === null ? null : endsHeld(value, set.now(), now);
  const isShort =
    held === null || isBefore(held.dropEnd, union.dropEnd, now) || isBefore(held.countEnd, union.countEnd, now);
  const isLong =
    held !== null && (isBefore(union.dropEnd, held.dropEnd, now) || isBefore(union.countEnd, held.countEnd, now));
  // What has ended is limited to nothing any more: the turn of those that waited has come.
  const ports = value === null || held === null || !isLive(held, now) ? union.ports : portsAt(set, value.scope);
  const isNarrow = !coversPorts(ports, union.ports);
  const isWide = !coversPorts(union.ports, ports);
  if ((isLong || isWide) && !isWithdrawn && held !== null) {
    tell(target, 'adopted');
    // The surplus alone: who is taken for its owner has no part in an end that others wish.
    const surplus = (wanted: number, is: number): number => (isBefore(wanted, is, now) ? is : never);
    const ends = {
      dropEnd: surplus(union.dropEnd, held.dropEnd),
      countEnd: surplus(union.countEnd, held.countEnd),
    };
    const owner = ownerOf(ownerKinds(value?.owners ?? 0));
    events.push({ kind: 'wish', target, owner, ...(isWide ? held : ends), ports, adopted: true, cause: inMaps });
    return;
  }
  if (!isShort && !isNarrow && !((isLong || isWide) && isWithdrawn)) return;
  const why = refuses?.(target) ?? null;
  const allowed = why === null ? union : forcedOf(found, forced?.(target, now) ?? null);
  if (
    why !== null &&
    (allowed === null ||
      isBefore(allowed.dropEnd, union.dropEnd, now) ||
      isBefore(allowed.countEnd, union.countEnd, now))
  ) {
    const isKnown = wasRefused(ledger, found, why);
    tell(target, isKnown ? 'stays_refused' : 'refused', { why, claims: union.owners.length });
    const { dropEnd, countEnd } = union;
    if (!isKnown)
      events.push({ kind: 'refuse', target, owner: null, detail: why, ends: { dropEnd, countEnd }, cause: guarded });
  }
  if (allowed === null) {
    // What was unblocked goes, also where what is left of its claims may not be in force.
    if (held === null || !isWithdrawn || !isLong) return;
    tell(target, 'removed');
    if (!dryRun) removeEntry(set, target);
    return;
  }
  const own = claims.find(isForcible);
  if (why !== null && own !== undefined && (own.dropEnd !== allowed.dropEnd || own.countEnd !== allowed.countEnd)) {
    const { dropEnd, countEnd } = allowed;
    events.push({
      kind: 'wish',
      target,
      owner: 'hand',
      dropEnd,
      countEnd,
      ports: own.ports,
      replace: true,
      cause: byList,
    });
  }
  if (
    why !== null &&
    held !== null &&
    !isLong &&
    !isBefore(held.dropEnd, allowed.dropEnd, now) &&
    !isBefore(held.countEnd, allowed.countEnd, now)
  ) {
    return;
  }
  tell(target, 'set', { claims: allowed.owners.length });
  if (dryRun) return;
  const ends = endsOfUnion(allowed, now, set.now(), rowOf(set, allowed.ports));
  if (set.change('set', target, ends) === 'absent' && !set.insert(target, ends)) set.change('set', target, ends);
  fault('reconcile.set');
}

/** The hand's claim on a refused target as far as root's list bears it out; null: it does not, or there is none. */
function forcedOf({ claims, now }: Found, list: Ends | null): Union | null {
  const own = claims.find(isForcible);
  if (list === null || own === undefined) return null;
  const bounded = (end: number, latest: number): number => (end <= latest + listSlackMs ? end : latest);
  const ends = { dropEnd: bounded(own.dropEnd, list.dropEnd), countEnd: bounded(own.countEnd, list.countEnd) };
  return isLive(ends, now) ? { ...ends, ports: own.ports, owners: ['hand'] } : null;
}

/** Root's list knows no ports: it bears out what is limited to none. */
function isForcible({ owner, withdrawnAt, ports }: Claim): boolean {
  return owner === 'hand' && withdrawnAt === null && ports.length === 0;
}

/** Whether the history ends with the same refusal of the same claims. */
function wasRefused(ledger: Ledger, { target, claims, union }: Found, why: string): boolean {
  const [last] = ledger.history({ exactly: target, action: 'refused', limit: 1 });
  return (
    last?.detail === why &&
    last.ends?.dropEnd === union.dropEnd &&
    last.ends.countEnd === union.countEnd &&
    claims.every(({ begun }) => begun <= last.at)
  );
}

/** Ends in the past are all the same, and what differs by the time between two readings is not different. */
function isBefore(a: number, b: number, now: number): boolean {
  return Math.max(a, now) < Math.max(b, now) - toleranceMs;
}

const inMaps: SetCause = { kind: 'adopted', name: null, hand: null, reason: 'found in the maps' };

const guarded: SetCause = {
  kind: 'restore',
  name: 'guard',
  hand: null,
  reason: 'asked again before it is put in force',
};

const byList: SetCause = { kind: 'restore', name: 'forced', hand: null, reason: "as root's own list says" };

/** Looked at twice: an automatic block stands in the map some milliseconds before its claim stands in the ledger. */
async function mendForeign(
  blocklist: Blocklist,
  ledger: Ledger,
  options: ReconcileOptions,
  tell: Tell,
  isMeant: (value: BlockValue) => boolean = () => true,
): Promise<void> {
  const unknown = unknownTargets(blocklist, ledger, isMeant);
  if (unknown.length === 0) return;
  await new Promise((resolve) => setTimeout(resolve, options.settleMs ?? defaultSettleMs));
  for (let first = 0; first < unknown.length; first += slice) {
    const targets = unknown.slice(first, first + slice);
    await blocklist.locked((set) => {
      const events: LedgerEvent[] = [];
      const unwritten: Prefix[] = [];
      for (const target of targets) {
        const value = set.lookup(target);
        if (value === null || !isMeant(value) || ledger.claimsOf(target).length > 0) continue;
        if (isUnwritten(value, set.now())) {
          // Of claims that the ledger has not heard of yet: its tombstone outlives them.
          tell(target, 'removed');
          events.push(withdrawalOf(target, value));
          unwritten.push(target);
          continue;
        }
        const now = ledger.now();
        const held = endsHeld(value, set.now(), now);
        if (held.dropEnd <= now && held.countEnd <= now) continue; // ended: the reaper's
        if (options.foreign === 'remove') {
          tell(target, 'removed');
          if (options.dryRun !== true) removeEntry(set, target);
          continue;
        }
        tell(target, 'adopted');
        if (options.dryRun !== true && !isHost(target)) set.hintPrefixes(target.address.family);
        const owner = ownerOf(ownerKinds(value.owners));
        const ports = portsAt(set, value.scope);
        events.push({ kind: 'wish', target, owner, ...held, ports, adopted: true, cause: inMaps });
      }
      if (options.dryRun === true) return;
      if (events.length > 0) ledger.commit(events);
      for (const target of unwritten) removeEntry(set, target);
    });
    if (options.dryRun !== true) ledger.sync();
    fault('reconcile.adopted');
  }
}

function unknownTargets(blocklist: Blocklist, ledger: Ledger, isMeant: (value: BlockValue) => boolean): Prefix[] {
  const known = new Set<string>();
  let after: Uint8Array | null = null;
  do {
    const { targets, next } = ledger.targets(after, 4096);
    for (const { target } of targets) known.add(nameOf(target));
    after = next;
  } while (after !== null);
  const unknown: Prefix[] = [];
  for (const name of blockMapNames) {
    for (const { target, value } of blocklist.set.entries(name)) {
      if (isMeant(value) && !known.has(nameOf(target))) unknown.push(target);
    }
  }
  return unknown;
}

const nameOf = (target: Prefix): string => Buffer.from(keyOfTarget(target)).toString('latin1');

function removeEntry(set: PinnedSet, target: Prefix): void {
  set.remove(target);
  if (!isHost(target)) set.unhintPrefixes(target.address.family);
}

/** Whose an entry is that nobody wrote down. */
function ownerOf(kinds: readonly OwnerKind[]): Owner {
  if (kinds.includes('hand') || kinds.length === 0) return 'hand';
  return kinds.includes('policy') ? 'policy:adopted' : 'feed:adopted';
}
