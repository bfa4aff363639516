/**
 * The block list: what hand and daemon do to the pinned maps, in one way.
 *
 * Every mutation holds one flock, on the directory PIN_DIR/lock, for a slice of work that never waits for anything else.
 * One thing may go in without it: a *new automatic* block of an address (BPF_NOEXIST), which is then verified under the lock
 * on the pinned map before it counts as acknowledged. A live hash entry is never overwritten: the kernel adds the new element
 * and then removes the old, and a packet in between finds neither; ends change in place (kernel/set.ts `change`).
 */

import { setTimeout as after } from 'node:timers/promises';
import { type Address, bitsOf } from '../address/address.ts';
import { everyPort } from '../address/port.ts';
import { formatPrefix, hostPrefix, isHost, maskPrefix, type Prefix } from '../address/prefix.ts';
import { FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import { endAfter } from '../kernel/clock.ts';
import { type BlockValue, block_owner, isWithdrawn, never, ownerBits, ownerKinds } from '../kernel/layout.ts';
import { type FileLock, isNativeError, native } from '../kernel/native.ts';
import { notReachable, type PinPaths, requirePins } from '../kernel/pins.ts';
import { hasRows, portsAt, rowOf } from '../kernel/scopes.ts';
import { type BlockMapName, blockMapNames, PinnedSet } from '../kernel/set.ts';
import { type Book, kindOf, noBook, type Owner, type Wish } from './claims.ts';
import { type Entry, entryOf } from './entry.ts';
import type { Cause, CauseId, LedgerEvent, Outcome, WishEvent, WithdrawEvent } from './ledger/record.ts';
import { isLive as isLiveClaim, type Stake, unionOf } from './ledger/union.ts';
import { type Ends, endsHeld, endsOfUnion, ledgerEnd } from './union.ts';

export type { Book, Owner, Wish } from './claims.ts';
export type { Entry } from './entry.ts';

/** What a block did. `extended` also when a monitor entry became an enforcing one. */
export type BlockStatus = 'blocked' | 'extended' | 'unchanged' | 'replaced';

export interface BlockOutcome {
  readonly status: BlockStatus;
  readonly entry: Entry;
}

export interface UnblockOutcome {
  /** As it was; null when there was none. */
  readonly before: Entry | null;
  /** Whose claims ended. */
  readonly ended: readonly Owner[];
  /** Whose claims go on. */
  readonly remaining: readonly Owner[];
}

/** The maps are changed and the ledger is not. */
export class UnrecordedError extends FalcodropError {
  readonly outcomes: readonly UnblockOutcome[];
  /** No reconcile brings it back. */
  readonly isKept: boolean;

  constructor(outcomes: readonly UnblockOutcome[], isKept: boolean, cause: FalcodropError) {
    const fate = isKept
      ? 'it stays unblocked until this host reboots, and falcodrop reconcile writes it down as soon as the ledger can be written'
      : 'IT COMES BACK with the next reconcile, unless it is unblocked again when the ledger can be written';
    super(
      cause.code,
      `unblocked, but that could not be written down: ${cause.message}`,
      cause.hint === undefined ? fate : `${fate}; ${cause.hint.replace(/^drops go on; /, '')}`,
      cause,
    );
    this.outcomes = outcomes;
    this.isKept = isKept;
  }
}

export interface Withdrawal {
  /** Whose claims end: all but feeds' unless said otherwise. */
  readonly owners?: WithdrawEvent['owners'];
  /** What the history calls it. */
  readonly action?: 'withdrawn' | 'undone';
  readonly cause: Cause | CauseId;
}

/** Entries handled while the lock is held once. */
export const slice = 512;

/** Between two readings of two clocks. */
const toleranceNs = 1_000_000_000n;

const everyKind = ownerBits.hand | ownerBits.policy | ownerBits.feed;

/** How long a hand waits for the lock; slices hold it for milliseconds. */
const handPatienceMs = 10_000;

/** How long the daemon's verification waits before it tries again; it gives up never. */
const settlePatienceMs = 60_000;

interface Pending {
  readonly wish: Wish;
  readonly ends: Ends;
  /** When it was written into the map, drop clock. */
  readonly since: bigint;
  /** For the ledger, of the moment when the map was written. */
  readonly event: WishEvent;
  /** How often the ledger was asked about it in vain. */
  readonly asked: number;
}

/** Under the lock: how long a ledger is waited for, and how often, before it counts as one that can not be asked. */
const answerMs = 50;
const mostAsked = 20;

export class Blocklist {
  readonly pinDir: string;
  readonly #book: Book;
  /** The drop clock was made right; by how much. */
  readonly #onClock: (movedNs: bigint) => void;
  #set: PinnedSet;
  /** Automatic blocks not yet seen under the lock, by target; of one owner's in one mode the longest. */
  #unsettled = new Map<string, Map<string, Pending>>();
  #settling: Promise<void> | null = null;
  /** Claims that this process has written down, or will. */
  readonly #told = new Set<string>();
  #heldMs = 0;

  /** Throws `pin_dir_missing`, `not_permitted`, `layout_mismatch`. Adopts whatever is pinned: the maps are the truth. */
  static open(
    pinDir: string,
    { book = noBook, onClock = () => undefined }: { book?: Book; onClock?: (movedNs: bigint) => void } = {},
  ): Blocklist {
    return new Blocklist(pinDir, book, onClock);
  }

  private constructor(pinDir: string, book: Book, onClock: (movedNs: bigint) => void) {
    this.pinDir = pinDir;
    this.#book = book;
    this.#onClock = onClock;
    this.#set = new PinnedSet(pinDir);
    this.followSuspend();
  }

  /** The set in force, for those who only look. */
  get set(): PinnedSet {
    return this.#set;
  }

  /** How long {@link locked} held the lock the last time. */
  get heldMs(): number {
    return this.#heldMs;
  }

  /**
   * Moves one word when the host was suspended, and every end with it. Done before anything is written too: an end reckoned
   * with the clock of before the suspend would come too early by its length.
   */
  followSuspend(): void {
    const movedNs = this.#set.followSuspend();
    if (movedNs !== null) this.#onClock(movedNs);
  }

  /** One of {@link blockMany}. */
  async block(wish: Wish, options: { replace?: boolean } = {}): Promise<BlockOutcome> {
    const [outcome] = await this.blockMany([wish], options);
    if (outcome === undefined || outcome instanceof FalcodropError) throw outcome;
    return outcome;
  }

  /**
   * Blocks, or extends: within a claim the later end wins, so a second block never shortens ("unchanged"). `replace` sets the
   * owner's claim exactly; others' go on; with `undo` the history says that it was undone. One hold of the lock and one
   * transaction: at most {@link slice} wishes. What can not be done (`map_full`) stands in its place among the outcomes. The
   * map is written first: an error of the ledger (`ledger_*`) is thrown with everything in force. Throws `lock_busy`.
   *
   * Map and ledger are changed under the lock, so that their order is one; the disk is waited for when it is free again. What
   * lies between is lost only with the kernel, and the maps with it. With `isSynced` false the caller waits for the disk, with
   * the book's `sync`, and acknowledges nothing before.
   */
  async blockMany(
    wishes: readonly Wish[],
    { replace = false, undo = false, isSynced = true }: { replace?: boolean; undo?: boolean; isSynced?: boolean } = {},
  ): Promise<(BlockOutcome | FalcodropError)[]> {
    if (wishes.length > slice) throw new RangeError(`at most ${slice} targets at once`);
    const outcomes = await this.locked(async (set) => {
      fault('block.begun');
      const events: WishEvent[] = [];
      // One moment for all of them, in both times.
      const [now, at] = [set.now(), this.#book.now()];
      const done = wishes.map((wish): BlockOutcome | FalcodropError => {
        try {
          const ends = endsOf(wish, now, rowOf(set, wish.ports ?? everyPort));
          const status = replace ? this.#replace(set, wish, ends) : this.#raise(set, wish.target, ends);
          const value = set.lookup(wish.target);
          if (value === null) return vanished(wish.target);
          events.push({ ...eventOf(wish, at), replace, undo });
          return { status, entry: entryOf(wish.target, value, now) };
        } catch (error) {
          if (error instanceof FalcodropError && isFull(error)) return error;
          throw error;
        }
      });
      fault('block.mapped');
      await this.#enter(events);
      return done;
    });
    fault('block.entered');
    if (isSynced) this.#book.sync?.();
    fault('block.recorded');
    return outcomes;
  }

  /** Under the lock: as quick as the book can. */
  #enter(events: readonly LedgerEvent[]): readonly Outcome[] | Promise<readonly Outcome[]> {
    const book = this.#book;
    return book.enter === undefined ? book.record(events) : book.enter(events);
  }

  /**
   * The daemon's way, synchronous: nothing waits between an alert and the map. A new address goes in without the lock; an
   * entry that is there is raised at once when the lock is free, else `queued`. {@link settle} tells when it is acknowledged.
   * Addresses only. Throws `map_full`.
   */
  blockAtOnce(wish: Wish): BlockStatus | 'queued' {
    if (!isHost(wish.target)) throw new RangeError('prefixes are only blocked under the lock');
    if (wish.ports !== undefined) throw new RangeError('what is limited to ports is only blocked under the lock');
    this.followSuspend();
    const ends = endsOf(wish, this.#set.now(), 0);
    // Asked first: an entry that is there is most of a flood, and to be told so by a failed update takes four times as long.
    if (this.#isLongEnough(wish, ends)) {
      // In the map by a process that may have died before it wrote it down: once more is no harm.
      if (!this.#told.has(claimName(wish))) this.#remember(wish, ends);
      return 'unchanged';
    }
    if (this.#insertUnlocked(wish.target, ends)) {
      fault('automatic.mapped');
      this.#remember(wish, ends);
      return 'blocked';
    }
    const lock = this.#tryLock();
    if (lock === null) {
      this.#remember(wish, ends);
      return 'queued';
    }
    try {
      const status = this.#raise(this.#set, wish.target, ends);
      fault('automatic.raised');
      this.#remember(wish, ends);
      return status;
    } finally {
      lock.release();
    }
  }

  /**
   * Whether an address is dropped (`monitor`: dropped or counted), on all ports and for another minute, by an entry of its own.
   * One look into the map, nothing else.
   */
  holds(address: Address, mode: 'enforce' | 'monitor'): boolean {
    const value = this.#set.lookup(hostPrefix(address));
    if (value === null || value.scope !== 0) return false;
    const soon = this.#set.now() + 60_000_000_000n;
    return value.dropUntil > soon || (mode === 'monitor' && value.countUntil > soon);
  }

  /**
   * Resolves when every `blockAtOnce` so far is acknowledged: seen under the lock in the pinned maps, and mended where a
   * reaper or an upgrade came in between.
   */
  settle(): Promise<void> {
    if (this.#settling === null && this.#unsettled.size > 0) this.#settling = this.#settleAll();
    return this.#settling ?? Promise.resolve();
  }

  /** One of {@link unblockMany}. */
  async unblock(target: Prefix, withdrawal: Withdrawal): Promise<UnblockOutcome> {
    const [outcome] = await this.unblockMany([target], withdrawal);
    return outcome ?? { before: null, ended: [], remaining: [] };
  }

  /**
   * Ends claims: in the ledger first, where a tombstone stays until the map's entry was seen gone, then in the maps, where an
   * entry goes or becomes what the other claims wish. At most {@link slice} targets.
   *
   * When the ledger can not be written the maps are changed all the same, for a hand in need, and {@link UnrecordedError} is
   * thrown. The entry stays in its map then, ended, and marked as withdrawn: reconcile writes that down and does not set it
   * again (OWNER_WITHDRAWN in bpf/abi.h). Only kinds of owners fit into it: where one owner alone was meant, or the map is
   * full, the block comes back with a reconcile, and the error says that.
   */
  async unblockMany(
    targets: readonly Prefix[],
    { owners = 'all_but_feeds', action = 'withdrawn', cause }: Withdrawal,
  ): Promise<UnblockOutcome[]> {
    if (targets.length > slice) throw new RangeError(`at most ${slice} targets at once`);
    const book = this.#book;
    const done = await this.locked(async (set) => {
      fault('unblock.begun');
      const known = targets.map((target) => {
        this.#unsettled.delete(formatPrefix(target));
        const value = set.lookup(target);
        // A ledger that can not be asked may want it.
        return { target, value, isThere: value !== null || book.trouble !== null || hasClaims(book, target) };
      });
      const there = known.filter(({ isThere }) => isThere);
      let trouble: FalcodropError | null = null;
      let written: readonly Outcome[] = [];
      try {
        written = await this.#enter(there.map(({ target }) => ({ kind: 'withdraw', target, owners, action, cause })));
      } catch (error) {
        if (!(error instanceof FalcodropError)) throw error;
        trouble = error;
      }
      fault('unblock.recorded');
      let isKept = true;
      let nth = 0;
      const [now, at] = trouble === null ? [set.now(), book.now()] : [set.now(), 0];
      const outcomes = known.map(({ target, value, isThere }): UnblockOutcome => {
        if (!isThere) return { before: null, ended: [], remaining: [] };
        const before = value === null ? null : entryOf(target, value, now);
        if (trouble !== null) {
          isKept = this.#endUnrecorded(set, target, owners) && isKept;
          return { before, ended: [], remaining: [] };
        }
        const claims = book.claimsOf(target);
        const union = unionOf(claims, at);
        if (union !== null) this.#setExactly(set, target, endsOfUnion(union, at, now, rowOf(set, union.ports)));
        else set.remove(target);
        return { before, ended: written[nth++]?.owners ?? [], remaining: ownersOf(claims, at) };
      });
      fault('unblock.mapped');
      this.#unhint(set, targets);
      fault('unblock.unhinted');
      return { outcomes, trouble, isKept };
    });
    if (done.trouble !== null) throw new UnrecordedError(done.outcomes, done.isKept, done.trouble);
    fault('unblock.entered');
    book.sync?.();
    return done.outcomes;
  }

  /** Drops nothing any more. False when the next reconcile brings it back. */
  #endUnrecorded(set: PinnedSet, target: Prefix, owners: Withdrawal['owners']): boolean {
    const kinds = owners === 'all' ? everyKind : owners === 'all_but_feeds' ? everyKind & ~ownerBits.feed : null;
    try {
      if (kinds !== null) {
        const mark = { dropUntil: never, countUntil: set.now(), action: 0, scope: 0 };
        this.#setExactly(set, target, { ...mark, owners: kinds | block_owner.OWNER_WITHDRAWN });
        return true;
      }
    } catch (error) {
      if (!(error instanceof FalcodropError) || error.code !== 'map_full') throw error;
    }
    set.remove(target);
    return false;
  }

  /** Every entry, ended ones too until they are reaped; in the maps' own order. */
  *entries(): Generator<Entry> {
    const now = this.#set.now();
    for (const name of blockMapNames) {
      for (const { target, value } of this.#set.entries(name)) yield entryOf(target, value, now);
    }
  }

  /**
   * The entries that hold a target whole, the most exact first: itself and every wider prefix. With a trie the kernel can
   * tell only the longest; the search goes on one bit shorter, as the XDP program does.
   */
  covering(target: Prefix): Entry[] {
    const set = this.#set;
    const now = set.now();
    const found: Entry[] = [];
    const { family } = target.address;
    const exact = isHost(target) ? set.lookup(target) : null;
    if (exact !== null) found.push(entryOf(target, exact, now));
    let length = target.length;
    while (length >= 0) {
      const value = set.longestPrefix(target.address, length);
      if (value === null) break;
      const at = Math.min(value.prefixLength, length);
      found.push(
        entryOf(at === bitsOf(family) ? hostPrefix(target.address) : maskPrefix(target.address, at), value, now),
      );
      length = at - 1;
    }
    return found;
  }

  /** Removes what has ended, in slices, re-reading each entry under the lock. Resolves to how many went. */
  async reap(): Promise<number> {
    this.followSuspend();
    let reaped = 0;
    for (const name of blockMapNames) {
      let ended: Prefix[] = [];
      for (const candidate of this.#ended(name)) {
        ended.push(candidate);
        if (ended.length < slice) continue;
        reaped += await this.#reapSlice(ended);
        ended = [];
      }
      if (ended.length > 0) reaped += await this.#reapSlice(ended);
    }
    return reaped;
  }

  /** Whether entries are limited to ports: what is narrower than another claim waits in the ledger until that has ended. */
  limitsPorts(): boolean {
    return hasRows(this.#set);
  }

  close(): void {
    this.#set.close();
  }

  #ended(name: BlockMapName): Prefix[] {
    const now = this.#set.now();
    const ended: Prefix[] = [];
    for (const { target, value } of this.#set.entries(name)) if (isOver(value, now)) ended.push(target);
    return ended;
  }

  async #reapSlice(targets: readonly Prefix[]): Promise<number> {
    const reaped = await this.locked((set) => {
      const now = set.now();
      const gone = targets.filter((target) => {
        const value = set.lookup(target);
        return value !== null && isOver(value, now) && set.remove(target);
      });
      this.#unhint(set, gone);
      return gone;
    });
    // After the lock: an end that is not written down is found by the next reconcile, and nobody waits for it.
    fault('reap.mapped');
    await this.#book.record(reaped.map((target) => ({ kind: 'end', target })));
    fault('reap.recorded');
    return reaped.length;
  }

  #unhint(set: PinnedSet, targets: readonly Prefix[]): void {
    for (const family of [4, 6] as const) {
      if (targets.some((target) => !isHost(target) && target.address.family === family)) set.unhintPrefixes(family);
    }
  }

  /** Under the lock. A full map is reaped once before it refuses: what has ended must not keep an attacker's place. */
  #raise(set: PinnedSet, target: Prefix, ends: Ends): BlockStatus {
    // Looked up first, for a trie before 6.13 ignores BPF_NOEXIST; then again, for a hash may be inserted to without the lock.
    for (let attempt = 0; attempt < 3; attempt++) {
      const before = set.lookup(target);
      if (before === null) {
        if (this.#insert(set, target, ends)) return 'blocked';
        continue;
      }
      const wasLive = isLive(before, set.now());
      const isOther = wasLive && before.scope !== ends.scope;
      const united = isOther ? this.#united(set, target, before, ends) : ends;
      if (united === null) return 'unchanged';
      const change = set.change(isOther ? 'set' : 'raise', target, united);
      if (change === 'absent') continue;
      fault('extend.mapped');
      return wasLive ? (change === 'changed' ? 'extended' : 'unchanged') : 'blocked';
    }
    throw vanished(target);
  }

  #replace(set: PinnedSet, wish: Wish, ends: Ends): BlockStatus {
    const before = set.lookup(wish.target);
    if (before === null || !isLive(before, set.now())) return this.#raise(set, wish.target, ends);
    const book = this.#book;
    const others = book.claimsOf(wish.target).filter(({ owner }) => owner !== wish.owner);
    const [now, at] = [set.now(), book.now()];
    // Without a ledger nobody knows whose an end is: the bits stay.
    let whole = { ...ends, owners: before.owners | ends.owners };
    if (others.length > 0) {
      const union = unionOf([...others, { ...stakeOf(set, ends, now, at), owner: wish.owner }], at);
      if (union !== null) whole = endsOfUnion(union, at, now, rowOf(set, union.ports));
    }
    set.change('set', wish.target, whole);
    fault('replace.mapped');
    return 'replaced';
  }

  /**
   * Under the lock: a live entry and a wish that is limited to other ports. What is in force counts as a claim of its own, for
   * some of it may not be written down yet. What waits beside a wider one is in the ledger, and reconcile sets it when its turn
   * has come. Null: nothing is to be changed.
   */
  #united(set: PinnedSet, target: Prefix, before: BlockValue, ends: Ends): Ends | null {
    const [now, at] = [set.now(), this.#book.now()];
    const stakes = [stakeOf(set, before, now, at), stakeOf(set, ends, now, at), ...this.#book.claimsOf(target)];
    const union = unionOf(stakes, at);
    if (union === null) return null;
    const whole = endsOfUnion(union, at, now, rowOf(set, union.ports));
    const isSame = (a: bigint, b: bigint): boolean => a === b || (a - b < toleranceNs && b - a < toleranceNs);
    const isUnchanged =
      whole.scope === before.scope &&
      isSame(whole.dropUntil, before.dropUntil) &&
      (whole.countUntil === never || isSame(whole.countUntil, before.countUntil));
    return isUnchanged ? null : { ...whole, owners: before.owners | ends.owners };
  }

  /** Under the lock: an entry becomes exactly that, whether it was there or not. */
  #setExactly(set: PinnedSet, target: Prefix, ends: Ends): void {
    if (set.change('set', target, ends) === 'absent' && !this.#insert(set, target, ends)) {
      set.change('set', target, ends);
    }
  }

  #insert(set: PinnedSet, target: Prefix, ends: Ends): boolean {
    try {
      return set.insert(target, ends);
    } catch (error) {
      if (!(error instanceof FalcodropError) || error.code !== 'map_full') throw error;
      const now = set.now();
      let reaped = 0;
      for (const name of blockMapNames) {
        if (name.includes('cidr') === isHost(target)) continue;
        for (const entry of set.entries(name)) {
          if (isOver(entry.value, now) && set.remove(entry.target) && ++reaped >= slice) break;
        }
      }
      if (reaped === 0) throw error;
      return set.insert(target, ends);
    }
  }

  /** False when the lock is needed: there is an entry, or a full map may hold ended ones to reap. */
  #insertUnlocked(target: Prefix, ends: Ends): boolean {
    try {
      return this.#set.insert(target, ends);
    } catch (error) {
      if (error instanceof FalcodropError && error.code === 'map_full') return false;
      throw error;
    }
  }

  /**
   * Whether an automatic block would win little: one rule fires thousands of times at one offender, and each alert would be
   * an extension by the time since the last. A 64th of what is wished is let go, a minute of an hour.
   */
  #isLongEnough(wish: Wish, ends: Ends): boolean {
    if (wish.seconds === null) return false;
    const value = this.#set.lookup(wish.target);
    if (value === null || value.scope !== 0 || (value.owners & ends.owners) !== ends.owners) return false;
    const grace = BigInt(Math.round((wish.seconds * 1e9) / 64));
    return value.dropUntil + grace >= ends.dropUntil && value.countUntil + grace >= ends.countUntil;
  }

  #remember(wish: Wish, ends: Ends): void {
    if (this.#told.size >= mostTold) this.#told.clear();
    this.#told.add(claimName(wish));
    const event = eventOf(wish, this.#book.now());
    const since = this.#set.now();
    this.#toSettle({ wish, ends, since, event: { ...event, unlessWithdrawnSince: event.at ?? 0 }, asked: 0 });
  }

  /** Of one owner's in one mode the longest stays. */
  #toSettle(pending: Pending): void {
    const { wish, ends } = pending;
    const target = formatPrefix(wish.target);
    const ofTarget = this.#unsettled.get(target) ?? new Map<string, Pending>();
    this.#unsettled.set(target, ofTarget);
    const claim = `${wish.owner} ${wish.mode}`;
    const other = ofTarget.get(claim);
    if (other === undefined || lastEnd(other.ends) < lastEnd(ends)) ofTarget.set(claim, pending);
  }

  async #settleAll(): Promise<void> {
    try {
      // Not in the caller's turn: what ends in it would be forgotten before it is remembered.
      await Promise.resolve();
      const recorded: Promise<unknown>[] = [];
      while (this.#unsettled.size > 0) {
        const lock = await this.#lock(settlePatienceMs);
        if (lock === null) continue;
        let settled: Settled;
        try {
          settled = await this.#settleSlice();
        } finally {
          lock.release();
        }
        fault('settle.raised');
        if (settled.events.length > 0) recorded.push(keep(this.#book.record(settled.events)));
        if (settled.late === null) await recorded.at(-1);
        else await this.#answerOrTrouble(settled.late);
        fault('settle.recorded');
      }
      await Promise.all(recorded);
    } finally {
      this.#settling = null;
    }
  }

  /** The lock is kept neither for writing it down nor for a ledger that is slow to answer. */
  async #settleSlice(): Promise<Settled> {
    const events: WishEvent[] = [];
    const missing: Pending[] = [];
    let done = 0;
    for (const [target, claims] of this.#unsettled) {
      // Forgotten first: one that can not be done (a full map) is thrown once and does not hold up the others.
      this.#unsettled.delete(target);
      for (const pending of claims.values()) {
        const { wish, ends, since, event } = pending;
        const value = this.#set.lookup(wish.target);
        if (value === null) {
          missing.push(pending);
          continue;
        }
        // Unblocked since, which is not written down yet.
        if (isWithdrawn(value, this.#set.now()) && value.countUntil >= since) continue;
        this.#raise(this.#set, wish.target, ends);
        events.push(event);
      }
      if (++done >= slice) break;
    }
    return { events, ...(await this.#settleMissing(missing)) };
  }

  /**
   * What was written and is gone: unblocked since, and then it must not come back, or lost with a set that was purged. The
   * ledger knows; where it can not be asked a drop too many is the lesser evil. An answer that is late is returned, and its
   * targets are to be settled anew: without the lock it says nothing about what a hand does meanwhile.
   */
  async #settleMissing(missing: readonly Pending[]): Promise<Pick<Settled, 'late'>> {
    if (missing.length === 0) return { late: null };
    const answer = keep(this.#book.record(missing.map(({ event }) => event)));
    const isAsked = this.#book.trouble === null && missing.every(({ asked }) => asked < mostAsked);
    const outcomes = isAsked ? await Promise.race([answer, after(answerMs, null)]) : [];
    if (outcomes === null) {
      for (const pending of missing) this.#toSettle({ ...pending, asked: pending.asked + 1 });
      return { late: answer };
    }
    for (const [index, { wish, ends }] of missing.entries()) {
      if (outcomes[index]?.status !== 'void') this.#raise(this.#set, wish.target, ends);
    }
    return { late: null };
  }

  async #answerOrTrouble(answer: Promise<unknown>): Promise<void> {
    let isAnswered = false;
    const done = answer.finally(() => {
      isAnswered = true;
    });
    while (!isAnswered && this.#book.trouble === null) await Promise.race([done, after(answerMs, null)]);
  }

  /**
   * Runs `work` under the exclusive lock, on the set that is in force then. The lock is held until it resolves: slices, never
   * more than some milliseconds.
   */
  async locked<T>(work: (set: PinnedSet) => T | Promise<T>): Promise<T> {
    const lock = this.#tryLock() ?? (await this.#lock(handPatienceMs));
    if (lock === null) {
      throw new FalcodropError(
        'lock_busy',
        `another falcodrop has held ${this.#set.paths.lock} for ${handPatienceMs / 1000} s`,
        'find it (fuser, or lsof) and see what it waits for; it is freed when that process ends',
      );
    }
    const begun = performance.now();
    try {
      this.followSuspend();
      return await work(this.#set);
    } finally {
      lock.release();
      this.#heldMs = performance.now() - begun;
    }
  }

  /**
   * The lock of the set in force, which is opened; null when somebody else holds it. A set swapped or purged meanwhile is
   * left for the one in force, and the lock taken anew: a purge removes the locked directory too, and what was locked may
   * be the old one.
   */
  #tryLock(): FileLock | null {
    for (;;) {
      const lock = this.#confirmed(tryTake(this.#set.paths));
      if (lock !== 'stale') return lock;
    }
  }

  /** The same, waited for at most `patienceMs`. */
  async #lock(patienceMs: number): Promise<FileLock | null> {
    for (;;) {
      const lock = this.#confirmed(await take(this.#set.paths, patienceMs));
      if (lock !== 'stale') return lock;
    }
  }

  #confirmed(lock: FileLock | null): FileLock | null | 'stale' {
    if (lock === null || this.#set.isCurrent()) return lock;
    try {
      const fresh = new PinnedSet(this.pinDir);
      this.#set.close();
      this.#set = fresh;
      return 'stale';
    } finally {
      lock.release();
    }
  }
}

/** What a slice leaves to be done without the lock. */
interface Settled {
  readonly events: readonly WishEvent[];
  /** Of the ledger, about targets that are to be settled once more; null: none is. */
  readonly late: Promise<unknown> | null;
}

/** A promise that may be awaited later, or never: its rejection is nobody's until then. */
function keep<T>(value: Promise<T> | T): Promise<T> {
  const promise = Promise.resolve(value);
  promise.catch(() => undefined);
  return promise;
}

function tryTake(paths: PinPaths): FileLock | null {
  try {
    return native().tryLock(paths.lock, 'exclusive');
  } catch (error) {
    throw lockFailed(paths, error);
  }
}

async function take(paths: PinPaths, patienceMs: number): Promise<FileLock | null> {
  try {
    return await native().lock(paths.lock, 'exclusive', patienceMs);
  } catch (error) {
    throw lockFailed(paths, error);
  }
}

/** Gone with a purge, or not for this user. */
function lockFailed(paths: PinPaths, error: unknown): unknown {
  if (!isNativeError(error)) return error;
  if (error.code === 'ENOENT') {
    try {
      requirePins(paths.dir);
    } catch (missing) {
      return missing;
    }
  }
  return error.code === 'EACCES' || error.code === 'EPERM' ? notReachable(paths.lock, error) : error;
}

function lastEnd(ends: Ends): bigint {
  return ends.dropUntil > ends.countUntil ? ends.dropUntil : ends.countUntil;
}

function isLive(value: BlockValue, now: bigint): boolean {
  return now < value.dropUntil || now < value.countUntil;
}

/** `at`: ledger time. */
function eventOf(wish: Wish, at: number): WishEvent {
  const { target, owner, cause } = wish;
  const end = ledgerEnd(at, wish.seconds);
  const isDrop = wish.mode === 'enforce';
  return {
    ...{ kind: 'wish', at, target, owner, cause, dropEnd: isDrop ? end : 0, countEnd: isDrop ? 0 : end },
    ...(wish.ports === undefined ? {} : { ports: wish.ports }),
    ...(wish.wishedSeconds === undefined ? {} : { wishedEnd: ledgerEnd(at, wish.wishedSeconds) }),
  };
}

/** Ended, and nobody needs it any more: an unblock that is not written down has to be. */
function isOver(value: BlockValue, now: bigint): boolean {
  return !isLive(value, now) && !isWithdrawn(value, now);
}

/** Not asked for in vain: what a hand unblocks goes from the maps whether the ledger answers or not. */
function hasClaims(book: Book, target: Prefix): boolean {
  try {
    return book.claimsOf(target).length > 0;
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
    return true;
  }
}

/** Names of claims kept; forgetting them costs an event of the ledger each. */
const mostTold = 65_536;

function claimName({ target, owner, mode }: Wish): string {
  return `${formatPrefix(target)} ${owner} ${mode}`;
}

/** Nothing more fits: the map, or the rows of ports. */
function isFull({ code }: FalcodropError): boolean {
  return code === 'map_full' || code === 'scopes_full';
}

function stakeOf(set: PinnedSet, ends: Ends, now: bigint, at: number): Stake {
  const [owner = 'hand'] = ownerKinds(ends.owners).map(
    (kind): Owner => (kind === 'hand' ? kind : `${kind}:in the map`),
  );
  return { owner, ...endsHeld(ends, now, at), ports: portsAt(set, ends.scope), withdrawnAt: null };
}

function ownersOf(claims: readonly Stake[], at: number): Owner[] {
  const live = claims.filter((claim) => claim.withdrawnAt === null && isLiveClaim(claim, at));
  return [...new Set(live.map(({ owner }) => owner))];
}

function endsOf(wish: Wish, now: bigint, scope: number): Ends {
  const end = endAfter(now, wish.seconds);
  return {
    dropUntil: wish.mode === 'enforce' ? end : never,
    countUntil: wish.mode === 'monitor' ? end : never,
    action: 0,
    owners: ownerBits[kindOf(wish.owner)],
    scope,
  };
}

function vanished(target: Prefix): FalcodropError {
  return new FalcodropError(
    'kernel_call',
    `the entry of ${formatPrefix(target)} came and went while it was written`,
    'something else than falcodrop changes these maps: find it (bpftool map, fuser), then try again',
  );
}
