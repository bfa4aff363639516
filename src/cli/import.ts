/**
 * `falcodrop import FILE|-`: targets of a file become claims.
 *
 * All lines are read before anything is done. What is to be done is found by going through the sorted file and the ledger's
 * claims side by side; what is as it should be already is not touched, and leaves no trace. Then it is done in slices, each
 * one hold of the lock and one transaction.
 */
import { formatPorts, parsePorts } from '../address/port.ts';
import { comparePrefixes, formatPrefix, isHost, type Prefix } from '../address/prefix.ts';
import type { Owner, Wish } from '../blocklist/claims.ts';
import { keyOfTarget } from '../blocklist/ledger/key.ts';
import type { Ledger } from '../blocklist/ledger/ledger.ts';
import { type CauseId, type Claim, forEver, never, type SetCause } from '../blocklist/ledger/record.ts';
import { finishWithdrawals } from '../blocklist/reconcile.ts';
import { TargetList } from '../blocklist/target-list.ts';
import { FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import { attachedIfindexes } from '../host/attached.ts';
import { readCaller } from '../host/caller.ts';
import { readHostFacts } from '../host/facts.ts';
import { guard, type Refusal } from '../judge/guard/guard.ts';
import { secondsLeft } from '../kernel/clock.ts';
import { pinDirOf } from '../kernel/pins.ts';
import type { PinnedSet } from '../kernel/set.ts';
import { type Clock, steady } from '../time/clock.ts';
import { parseDuration } from '../time/duration.ts';
import { type Call, flag, text } from './call.ts';
import { type Hand, openHand } from './hand.ts';
import { readImportLine } from './import-line.ts';
import { openInput, unreadable } from './input.ts';
import { linesOf } from './lines.ts';
import { RefusedError } from './output/answer.ts';
import { clean } from './output/clean.ts';
import { local, utc } from './output/moment.ts';
import { ask } from './question.ts';
import { mostNamed as mostToldOfRefused, type Refused, recordRefusals } from './refusals.ts';
import { readHandSettings } from './settings.ts';
import { type Items, slicesOf } from './slices.ts';
import { type Group, type TableWish, WishTable } from './wish-table.ts';

const defaultSeconds = 3600;

/** Wrong lines, and refused ones, that are named; of the rest the number is told. */
const mostNamed = 20;

/** As many as the largest map may hold. */
const mostLines = 1 << 24;

/** An end is not moved for so little: repeating an import changes nothing. */
const leastMoveMs = 2_000;
const mostSlackMs = 60_000;
const slackShare = 0.01;

/** Between two syncs of the ledger's log. */
const slicesASync = 16;

/** Between two words of how far it is. */
const progressEveryMs = 200;

interface Terms {
  /** null = for ever. */
  readonly seconds: number | null;
  readonly mode: 'enforce' | 'monitor';
  readonly reason: string | null;
  readonly feed: Owner | null;
  readonly replace: boolean;
  readonly isDryRun: boolean;
  readonly file: string;
}

type Deed = 'block' | 'extend' | 'replace';
const deeds = ['block', 'extend', 'replace'] as const;

/** What is to be done with a row of the table. */
interface Planned {
  readonly deed: Deed;
  readonly row: number;
  /** A second wish on a claim that was replaced just now: a raise of what the first has set. */
  readonly isSecond: boolean;
}

/** Of any length, in 5 bytes each. */
class PlannedRows {
  #rows = new Uint32Array(1024);
  #deeds = new Uint8Array(1024);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push({ deed, row, isSecond }: Planned): void {
    if (this.#length === this.#rows.length) {
      const [rows, of] = [new Uint32Array(2 * this.#length), new Uint8Array(2 * this.#length)];
      rows.set(this.#rows);
      of.set(this.#deeds);
      this.#rows = rows;
      this.#deeds = of;
    }
    this.#rows[this.#length] = row;
    this.#deeds[this.#length++] = deeds.indexOf(deed) + (isSecond ? deeds.length : 0);
  }

  *[Symbol.iterator](): Generator<Planned> {
    for (let n = 0; n < this.#length; n++) yield this.#at(n);
  }

  /** Those that set a claim exactly, or all others. */
  part(replace: boolean): Items<Planned> {
    let count = 0;
    const chosen = new Uint32Array(this.#length);
    for (let n = 0; n < this.#length; n++) {
      if ((this.#deeds[n] === deeds.indexOf('replace')) === replace) chosen[count++] = n;
    }
    return {
      length: count,
      slice: (first, end) => Array.from(chosen.subarray(first, Math.min(end, count)), (n) => this.#at(n)),
    };
  }

  #at(n: number): Planned {
    const deed = this.#deeds[n] ?? 0;
    return {
      deed: deeds[deed % deeds.length] ?? 'block',
      row: this.#rows[n] ?? 0,
      isSecond: deed >= deeds.length,
    };
  }
}

interface Counts {
  lines: number;
  targets: number;
  blocked: number;
  extended: number;
  replaced: number;
  unchanged: number;
  withdrawn: number;
  refused: number;
  ended: number;
}

export async function importTargets(call: Call): Promise<void> {
  const { answer } = call;
  const terms = readTerms(call);
  const clock = steady(call.clock);
  const nowMs = clock.now();
  const counts: Counts = {
    lines: 0,
    targets: 0,
    blocked: 0,
    extended: 0,
    replaced: 0,
    unchanged: 0,
    withdrawn: 0,
    refused: 0,
    ended: 0,
  };
  const table = await readTable(call, terms, counts, nowMs);
  if (table === null) return;
  const refused: Refused[] = [];
  const rows = await allowedRows(call, table, counts, refused);
  if (table.reasonsLeftOut > 0) {
    answer.note(`${table.reasonsLeftOut} lines have a reason each: more than are kept, and theirs are left out`);
  }

  // From here on as the service.
  const hand = openHand(call);
  try {
    const { ledger } = hand;
    if (!terms.isDryRun) {
      const owner = terms.feed ?? 'hand';
      recordRefusals(call, hand, { refused, count: counts.refused, owner, isOfFile: true });
    }
    if (ledger === null) throw hand.trouble ?? new FalcodropError('ledger_missing', 'there is no ledger');
    if (terms.replace && !terms.isDryRun) await finishWithdrawals(hand.blocklist, ledger);
    const { planned, surplus } = plan(ledger, hand.blocklist.set, table, rows, terms, counts, clock);
    if (rows.length === 0 && surplus.length > 0 && !terms.isDryRun) {
      await ask(call, `The file names no target. End all ${surplus.length} claims of ${terms.feed}?`);
    }
    if (terms.isDryRun) {
      await foretell(call, table, { planned, surplus }, terms, counts, nowMs);
    } else {
      try {
        await carryOut({ ...call, clock }, hand, table, { planned, surplus }, terms, counts);
      } finally {
        // Also for what is told as unchanged: it may be of somebody who has not synced it yet.
        ledger.sync();
      }
    }
  } finally {
    answer.progress('');
    hand.close();
  }
  tell(call, counts, terms);
}

/** Throws `usage`, `duration_invalid`. */
function readTerms(call: Call): Terms {
  const given = text(call, 'for');
  const isForever = flag(call, 'forever');
  const name = text(call, 'feed');
  const replace = flag(call, 'replace');
  if (given !== undefined && isForever) {
    throw new FalcodropError('usage', '--for and --forever exclude each other', 'give one of them');
  }
  if (name !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) {
    throw new FalcodropError(
      'usage',
      `${JSON.stringify(name.slice(0, 80))} is no name of a feed`,
      'take letters, digits, ".", "_" and "-", 64 at most',
    );
  }
  if (replace && name === undefined) {
    throw new FalcodropError(
      'usage',
      '--replace is about a feed: what hands and policies wish is not in a file',
      'falcodrop import FILE --feed NAME --replace',
    );
  }
  const usual = name === undefined && !isForever ? defaultSeconds : null;
  return {
    seconds: given === undefined ? usual : parseDuration(given),
    mode: flag(call, 'monitor') ? 'monitor' : 'enforce',
    reason: text(call, 'reason') ?? null,
    feed: name === undefined ? null : `feed:${name}`,
    replace,
    isDryRun: flag(call, 'dryRun'),
    file: call.operands[0] ?? '-',
  };
}

const endAfter = (seconds: number | null, nowMs: number): number =>
  seconds === null ? Number.POSITIVE_INFINITY : nowMs + seconds * 1000;

/** Null when a line was wrong: each is named, and nothing may be done. */
async function readTable(call: Call, terms: Terms, counts: Counts, nowMs: number): Promise<WishTable | null> {
  const { answer } = call;
  const table = new WishTable(endAfter(terms.seconds, nowMs));
  let wrong = 0;
  const isWrong = (n: number, message: string, hint?: string): void => {
    // For people lines count from 1, as in an editor.
    if (++wrong <= mostNamed) answer.fail(new FalcodropError('import_invalid', `line ${n + 1}: ${message}`, hint));
  };
  const plain: Group = { owner: terms.feed ?? 'hand', mode: terms.mode, ports: '', reason: terms.reason };
  try {
    for await (const { n, text: line } of linesOf(openInput(terms.file))) {
      if (line === null) {
        isWrong(n, 'it is longer than any line should be');
        continue;
      }
      try {
        const read = readImportLine(line);
        if (read === null) continue;
        if (++counts.lines > mostLines) {
          throw new FalcodropError('usage', `the file has more than ${mostLines} targets`, 'no map holds so many');
        }
        const { target, owner, mode, ports = '', endMs, reason } = read;
        if (endMs !== undefined && endMs !== null && endMs <= nowMs) {
          counts.ended++;
          continue;
        }
        const group =
          owner === undefined && mode === undefined && ports === '' && reason === undefined
            ? plain
            : {
                owner: terms.feed ?? owner ?? 'hand',
                mode: mode ?? terms.mode,
                ports,
                reason: reason ?? terms.reason,
              };
        table.add(target, group, endMs === undefined ? Number.NaN : (endMs ?? Number.POSITIVE_INFINITY));
      } catch (error) {
        if (!(error instanceof FalcodropError) || error.code !== 'import_invalid') throw error;
        isWrong(n, error.message, error.hint);
      }
    }
  } catch (error) {
    throw unreadable(terms.file, error);
  }
  if (wrong === 0) return table;
  const more = wrong > mostNamed ? `${wrong - mostNamed} more lines are wrong; ` : '';
  answer.fail(new FalcodropError('import_invalid', `${more}nothing was done`, 'mend the lines, or take them out'));
  return null;
}

/** Sorted, without what the guard refuses: that is named, and the first of it told in `first`. */
async function allowedRows(call: Call, table: WishTable, counts: Counts, first: Refused[]): Promise<Uint32Array> {
  const { answer } = call;
  const pinDir = pinDirOf(call.environment);
  const settings = await readHandSettings(call);
  const host = readHostFacts({ attachedIfindexes: attachedIfindexes(pinDir), aliases: settings.hostAliases });
  const caller = readCaller(call.environment)?.client ?? null;
  const rows = table.sorted();
  let kept = 0;
  let before: Prefix | null = null;
  let verdict: Refusal | null = null;
  for (const row of rows) {
    const { target } = table.at(row);
    if (before === null || comparePrefixes(before, target) !== 0) {
      verdict = guard(target, host, settings.guard, caller);
      counts.targets++;
    }
    before = target;
    if (verdict === null) {
      rows[kept++] = row;
      continue;
    }
    if (++counts.refused <= mostNamed) answer.fail(refused(verdict));
    if (first.length < mostToldOfRefused) first.push({ target, refusal: verdict });
  }
  if (counts.refused > mostNamed) {
    answer.fail(new RefusedError('more', `${counts.refused - mostNamed} more lines are refused`, hintOfRefusal));
  }
  return rows.subarray(0, kept);
}

const hintOfRefusal = 'it is left out, the rest is done; root may block one all the same: falcodrop block --force';

function refused({ reason, detail }: Refusal): FalcodropError {
  return new RefusedError(reason, `refused: ${detail}`, hintOfRefusal);
}

interface Plan {
  readonly planned: PlannedRows;
  /** Of the feed, and not in the file. */
  readonly surplus: TargetList;
}

/**
 * The sorted rows and the ledger's claims side by side. What the ledger holds long enough is only unchanged when the maps do
 * too: an unblock that could not be written down leaves a claim without an entry until the next reconcile.
 */
function plan(
  ledger: Ledger,
  set: PinnedSet,
  table: WishTable,
  rows: Uint32Array,
  terms: Terms,
  counts: Counts,
  clock: Clock,
): Plan {
  // One moment in both times: going through a million takes seconds.
  const anchor = ledger.anchor();
  const moment = { ledgerMs: anchor.ledgerMs, dropNs: set.now() };
  const wallMs = clock.now();
  const ledgerEnd = ({ endMs }: TableWish): number => {
    const seconds = secondsTo(endMs, terms, wallMs);
    return seconds === null ? forEver : anchor.ledgerMs + seconds * 1000;
  };
  const planned = new PlannedRows();
  const surplus = new TargetList();
  const claims = ledger.claims(terms.feed === null ? {} : { owner: terms.feed });
  try {
    let next = claims.next();
    let row = 0;
    while (row < rows.length || next.done !== true) {
      const wish = row < rows.length ? table.at(rows[row] ?? 0) : null;
      const key = next.done === true ? null : keyOfTarget(next.value.target).toString('latin1');
      if (key !== null && next.done !== true && (wish === null || key < wish.key)) {
        if (terms.replace) surplus.push(next.value.target);
        next = claims.next();
        continue;
      }
      if (wish === null) break;
      // All claims on this target, then all rows.
      const there: Claim[] = [];
      while (next.done !== true && keyOfTarget(next.value.target).toString('latin1') === wish.key) {
        there.push(next.value);
        next = claims.next();
      }
      while (row < rows.length) {
        const [first, second] = rowsOfClaim(table, rows, row);
        if (first === undefined || first.key !== wish.key) break;
        const claim = there.find((each) => isClaimOf(each, first.group)) ?? null;
        const wanted = endsOf([first, second], ledgerEnd);
        const decided = decide(claim, wanted, terms.replace, anchor.ledgerMs);
        for (const [index, one] of [first, second].entries()) {
          if (one === undefined) continue;
          const { mode } = one.group;
          const deed = decided[mode] ?? (isHeld(set, claim, one.target, mode, moment) ? null : 'block');
          if (deed === null) counts.unchanged++;
          else planned.push({ deed, row: rows[row + index] ?? 0, isSecond: index > 0 && deed === 'replace' });
        }
        row += second === undefined ? 1 : 2;
      }
    }
  } finally {
    claims.return(undefined);
  }
  return { planned, surplus };
}

/** Whether the maps hold an end as the ledger has it; what is over is held anyhow. */
function isHeld(
  set: PinnedSet,
  claim: Claim | null,
  target: Prefix,
  mode: 'enforce' | 'monitor',
  { ledgerMs: now, dropNs }: { readonly ledgerMs: number; readonly dropNs: bigint },
): boolean {
  const end = (mode === 'enforce' ? claim?.dropEnd : claim?.countEnd) ?? never;
  if (end <= now) return true;
  const value = set.lookup(target);
  if (value === null) return false;
  const until = mode === 'enforce' || value.dropUntil > value.countUntil ? value.dropUntil : value.countUntil;
  const seconds = secondsLeft(until, dropNs);
  return seconds === null || (end !== forEver && seconds * 1000 >= end - now - leastMoveMs);
}

function isSameClaim(a: Group, b: Group): boolean {
  return a.owner === b.owner && a.ports === b.ports;
}

function isClaimOf(claim: Claim, group: Group): boolean {
  return claim.owner === group.owner && formatPorts(claim.ports) === group.ports;
}

/** At most two: it drops, and it counts for longer. */
function rowsOfClaim(table: WishTable, rows: Uint32Array, at: number): [TableWish | undefined, TableWish | undefined] {
  const first = at < rows.length ? table.at(rows[at] ?? 0) : undefined;
  const second = at + 1 < rows.length ? table.at(rows[at + 1] ?? 0) : undefined;
  const isSame = first !== undefined && second?.key === first.key && isSameClaim(second.group, first.group);
  return [first, isSame ? second : undefined];
}

interface Wanted {
  readonly enforce: number;
  readonly monitor: number;
}

function endsOf(wishes: readonly (TableWish | undefined)[], ledgerEnd: (wish: TableWish) => number): Wanted {
  const of = (mode: 'enforce' | 'monitor'): number => {
    const wish = wishes.find((one) => one?.group.mode === mode);
    return wish === undefined ? never : ledgerEnd(wish);
  };
  return { enforce: of('enforce'), monitor: of('monitor') };
}

/** What each of the two ends needs; null = nothing. */
function decide(
  claim: Claim | null,
  wanted: Wanted,
  isExact: boolean,
  now: number,
): Readonly<Record<'enforce' | 'monitor', Deed | null>> {
  if (claim === null) return { enforce: 'block', monitor: 'block' };
  const isReached = (held: number, end: number): boolean => held >= end - slack(end, now);
  const isSame = (held: number, end: number): boolean =>
    isReached(held, end) && (isReached(end, held) || Math.max(held, end) <= now);
  if (isExact) {
    const isEqual = isSame(claim.dropEnd, wanted.enforce) && isSame(claim.countEnd, wanted.monitor);
    const deed = isEqual ? null : 'replace';
    return { enforce: deed, monitor: deed };
  }
  return {
    enforce: isReached(claim.dropEnd, wanted.enforce) ? null : 'extend',
    monitor: isReached(claim.countEnd, wanted.monitor) ? null : 'extend',
  };
}

function slack(end: number, now: number): number {
  if (end === forEver || end === never) return 0;
  return Math.max(leastMoveMs, Math.min(mostSlackMs, (end - now) * slackShare));
}

const seldom = () => {
  let last = 0;
  return (nowMs: number): boolean => {
    if (nowMs - last < progressEveryMs) return false;
    last = nowMs;
    return true;
  };
};

/** Throws `map_full` when there is no more room; what was done until then stays. */
async function carryOut(
  call: Call,
  hand: Hand,
  table: WishTable,
  { planned, surplus }: Plan,
  terms: Terms,
  counts: Counts,
): Promise<void> {
  const { answer, clock } = call;
  const total = planned.length + surplus.length;
  const isDue = seldom();
  const say = (done: number): void => {
    if (isDue(performance.now())) answer.progress(`${done} of ${total}`);
  };
  const causes = causesOf(hand, terms);
  requireRoom(hand, table, planned);

  // What a feed no longer has makes room for what it has now.
  for await (const targets of slicesOf(surplus, hand)) {
    const cause = causes({ reason: terms.reason });
    await hand.blocklist.unblockMany(targets, { owners: terms.feed === null ? [] : [terms.feed], cause });
    fault('import.withdrawn');
    counts.withdrawn += targets.length;
    say(counts.withdrawn);
  }

  let done = surplus.length;
  let slices = 0;
  for (const replace of [true, false]) {
    for await (const some of slicesOf(planned.part(replace), hand)) {
      const wishes = some.map(({ row }): Wish => {
        const { target, group, endMs } = table.at(row);
        return {
          target,
          owner: group.owner,
          mode: group.mode,
          seconds: secondsTo(endMs, terms, clock.now()),
          ...(group.ports === '' ? {} : { ports: parsePorts(group.ports) }),
          cause: causes(group),
        };
      });
      const outcomes = await hand.blocklist.blockMany(wishes, { replace, isSynced: false });
      fault('import.sliced');
      // Nothing is told before the end, so the disk is waited for now and then: what can be lost with the kernel stays little.
      if (++slices % slicesASync === 0) hand.ledger?.sync();
      let full: FalcodropError | null = null;
      for (const [index, outcome] of outcomes.entries()) {
        const deed = some[index]?.deed;
        if (outcome instanceof FalcodropError) full ??= outcome;
        else if (deed === 'block') counts.blocked++;
        else if (deed === 'extend') counts.extended++;
        else counts.replaced++;
      }
      done += some.length;
      if (full !== null) {
        answer.progress('');
        const rest = total - counts.withdrawn - counts.blocked - counts.extended - counts.replaced;
        answer.fail(new FalcodropError(full.code, `${full.message}; ${rest} were left out`, full.hint));
        return;
      }
      say(done);
    }
  }
}

/** A file that no map could hold is refused before anything is done. */
function requireRoom({ blocklist }: Hand, table: WishTable, planned: PlannedRows): void {
  const needed = new Map<string, number>();
  for (const { deed, row } of planned) {
    if (deed !== 'block') continue;
    const { target } = table.at(row);
    const map = `blocked_${isHost(target) ? '' : 'cidr_'}v${target.address.family}` as const;
    needed.set(map, (needed.get(map) ?? 0) + 1);
  }
  for (const map of ['blocked_v4', 'blocked_v6', 'blocked_cidr_v4', 'blocked_cidr_v6'] as const) {
    const count = needed.get(map) ?? 0;
    const room = blocklist.set.blockMap(map).info.maxEntries;
    if (count > room) {
      throw new FalcodropError(
        'map_full',
        `the file has ${count} targets for ${map}, which has room for ${room}: nothing was done`,
        'make the maps larger: falcodrop detach --all --purge, then attach with --addresses or --prefixes',
      );
    }
  }
}

/** One row for all that has the same reason, made when it is first needed. */
function causesOf({ ledger, because }: Hand, { feed, file, reason }: Terms): (group: Pick<Group, 'reason'>) => CauseId {
  const made = new Map<string | null, CauseId>();
  const name = feed === null ? (file === '-' ? 'stdin' : file) : feed.slice('feed:'.length);
  return ({ reason: own }) => {
    const known = made.get(own);
    if (known !== undefined) return known;
    if (ledger === null) throw new FalcodropError('ledger_missing', 'there is no ledger');
    const { hand } = because(null);
    const cause: SetCause = { kind: feed === null ? 'import' : 'feed', name, hand, reason: own ?? reason };
    const id = ledger.addCause(cause);
    fault('import.caused');
    made.set(own, id);
    return id;
  };
}

function secondsTo(endMs: number, terms: Terms, nowMs: number): number | null {
  if (Number.isNaN(endMs)) return terms.seconds;
  if (endMs === Number.POSITIVE_INFINITY) return null;
  // What ends while the file is worked through still gets its moment.
  return Math.max(0.001, (endMs - nowMs) / 1000);
}

/** Every change that would be made. */
async function foretell(
  call: Call,
  table: WishTable,
  { planned, surplus }: Plan,
  terms: Terms,
  counts: Counts,
  nowMs: number,
): Promise<void> {
  const { answer } = call;
  const say = async (would: string, target: Prefix, owner: Owner, mode: string, endMs: number | null) => {
    const end = endMs === null || endMs === Number.POSITIVE_INFINITY ? null : endMs;
    const name = formatPrefix(target);
    if (answer.json) {
      answer.object({ target: name, owner, mode, would, ends_at: end === null ? null : utc(end) });
    } else if (would === 'withdraw') {
      answer.line(`would withdraw ${name} (${clean(owner)})`);
    } else {
      const until = end === null ? 'for ever' : `until ${local(end)}`;
      answer.line(`would ${would} ${name} ${until} (${clean(owner)}${mode === 'monitor' ? ', monitor' : ''})`);
    }
    if (answer.full) await answer.flush();
  };
  for (let n = 0; n < surplus.length; n++) await say('withdraw', surplus.at(n), terms.feed ?? 'hand', terms.mode, null);
  counts.withdrawn = surplus.length;
  for (const { deed, row } of planned) {
    const { target, group, endMs } = table.at(row);
    await say(deed, target, group.owner, group.mode, Number.isNaN(endMs) ? endAfter(terms.seconds, nowMs) : endMs);
    if (answer.closed) return;
    if (deed === 'block') counts.blocked++;
    else if (deed === 'extend') counts.extended++;
    else counts.replaced++;
  }
}

function tell({ answer }: Call, counts: Counts, { isDryRun }: Terms): void {
  const { blocked, extended, replaced, withdrawn, unchanged, refused: left, ended } = counts;
  const changed = blocked + extended + replaced + withdrawn;
  if (answer.json) {
    answer.object({ status: changed === 0 ? 'unchanged' : 'changed', ...counts, dry_run: isDryRun });
    return;
  }
  const parts = [
    [blocked, 'blocked'],
    [extended, 'extended'],
    [replaced, 'replaced'],
    [withdrawn, 'withdrawn'],
    [unchanged, 'unchanged'],
    [left, 'refused'],
    [ended, 'ended already'],
  ] as const;
  const said = parts.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  const what = changed === 0 ? 'unchanged' : isDryRun ? 'would be' : 'done';
  answer.line(said.length === 0 ? 'unchanged: the file names no target' : `${what}: ${said.join(', ')}`);
}
