/** `falcodrop undo`: what policies did lately is taken back. */
import { formatPrefix, type Prefix } from '../address/prefix.ts';
import type { Owner, Wish } from '../blocklist/claims.ts';
import { fromWall } from '../blocklist/ledger/clock.ts';
import { keyOfTarget } from '../blocklist/ledger/key.ts';
import type { Ledger } from '../blocklist/ledger/ledger.ts';
import { type Ends, type HistoryRow, never } from '../blocklist/ledger/record.ts';
import { isLive } from '../blocklist/ledger/union.ts';
import { adoptAutomatic, finishWithdrawals } from '../blocklist/reconcile.ts';
import { FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import { type Call, flag, text } from './call.ts';
import { secondsTo } from './claims.ts';
import { type Filters, readFilters } from './filter.ts';
import { type Hand, openHand } from './hand.ts';
import { clean } from './output/clean.ts';
import { endAt, untilText, wholeSeconds } from './output/entry.ts';
import { ask } from './question.ts';
import { slicesOf } from './slices.ts';

const defaultWindowMs = 15 * 60_000;

/** One claim of a policy, and what it goes back to: the ends it had before, or nothing. */
export interface Reversal {
  readonly target: Prefix;
  readonly owner: Owner;
  readonly rule: string | null;
  readonly back: Ends | null;
}

export async function undoActions(call: Call): Promise<void> {
  const { answer, clock } = call;
  const filters = readFilters(call);
  const { owner = 'policy', since = clock.now() - defaultWindowMs } = filters;
  if (owner !== 'policy' && !owner.startsWith('policy:')) {
    throw new FalcodropError(
      'usage',
      'undo takes back what policies did',
      'for hands and feeds: falcodrop unblock with the same filters',
    );
  }
  const hand = openHand(call);
  try {
    const { ledger } = hand;
    if (ledger === null) throw hand.trouble ?? new FalcodropError('ledger_missing', 'there is no ledger');
    if (!flag(call, 'dryRun')) {
      await finishWithdrawals(hand.blocklist, ledger);
      await adoptAutomatic(hand.blocklist, ledger);
    }
    const reversals = findReversals(ledger, { ...filters, owner, since });
    const isDryRun = flag(call, 'dryRun');
    if (reversals.length === 0) {
      if (!answer.json) answer.line('nothing to undo: no policy has made or extended a claim in that time that lives');
      return;
    }
    // Who is asked must see what about; who is not hears of it when it is done.
    const isAsked = !isDryRun && !flag(call, 'yes') && !answer.json;
    if (isDryRun || isAsked) await tell(call, reversals, ledger, true);
    if (isDryRun) return;
    const number = reversals.length === 1 ? 'this claim' : `these ${reversals.length} claims`;
    await ask(call, `Undo ${number}?`);
    await revert(hand, ledger, reversals, text(call, 'since') ?? '15m');
    if (isAsked) answer.line(`${reversals.length} undone`);
    else await tell(call, reversals, ledger, false);
  } finally {
    hand.close();
  }
}

/** Of claims that live, by target; the history's rows come the oldest first. */
export function reversalsOf(
  rows: Iterable<HistoryRow>,
  isLiveClaim: (target: Prefix, owner: Owner) => boolean,
  now: number,
): Reversal[] {
  const found = new Map<string, Reversal>();
  for (const { target, owner, action, before, rule } of rows) {
    if (target === null || owner === null) continue;
    const name = `${keyOfTarget(target).toString('latin1')} ${owner}`;
    if (action === 'made' || action === 'adopted') {
      found.set(name, { target, owner, rule, back: null });
    } else if (action === 'extended' || action === 'replaced') {
      // The first of the window says what there was before it.
      const back = before !== null && isLive(before, now) ? before : null;
      if (!found.has(name)) found.set(name, { target, owner, rule, back });
    } else {
      // Ended, withdrawn or undone since: what comes after begins anew.
      found.delete(name);
    }
  }
  return [...found.values()].filter(({ target, owner }) => isLiveClaim(target, owner));
}

function findReversals(ledger: Ledger, { within, owner = 'policy', rule, since, until }: Filters): Reversal[] {
  // A quarter of an hour is one that has passed: a clock that was stepped meanwhile neither hides what was done nor adds to it.
  const anchor = ledger.anchor();
  const filter = {
    owner,
    ...(within === undefined ? {} : { within }),
    ...(since === undefined ? {} : { from: fromWall(anchor, since) }),
    ...(until === undefined ? {} : { to: fromWall(anchor, until) }),
  };
  const now = ledger.now();
  const isLiveClaim = (target: Prefix, of: Owner): boolean =>
    ledger.claimsOf(target).some((claim) => claim.owner === of && claim.withdrawnAt === null && isLive(claim, now));
  // All rules' rows: what ended a claim may be of another one.
  const all = reversalsOf(ledger.history({ ...filter, oldestFirst: true }), isLiveClaim, now);
  return rule === undefined ? all : all.filter((reversal) => reversal.rule === rule);
}

/** One action: one cause, one reason. */
async function revert(hand: Hand, ledger: Ledger, reversals: readonly Reversal[], since: string) {
  const { blocklist, because } = hand;
  const cause = because(`undo of what was done since ${since}`);
  const owners = new Set(reversals.map(({ owner }) => owner));
  for (const owner of owners) {
    const own = reversals.filter((reversal) => reversal.owner === owner);
    const gone = own.filter(({ back }) => back === null).map(({ target }) => target);
    for await (const some of slicesOf(gone, hand)) {
      await blocklist.unblockMany(some, { owners: [owner], action: 'undone', cause });
    }
  }
  fault('undo.withdrawn');
  const now = ledger.now();
  const set: Wish[] = [];
  const raised: Wish[] = [];
  for (const { target, owner, back } of reversals) {
    if (back === null) continue;
    const wish = (mode: 'enforce' | 'monitor', end: number): Wish => ({
      target,
      owner,
      mode,
      seconds: secondsTo(end, now),
      cause,
    });
    const isDrop = back.dropEnd > now;
    set.push(isDrop ? wish('enforce', back.dropEnd) : wish('monitor', back.countEnd));
    if (isDrop && back.countEnd > back.dropEnd) raised.push(wish('monitor', back.countEnd));
  }
  for (const [wishes, replace] of [
    [set, true],
    [raised, false],
  ] as const) {
    for await (const some of slicesOf(wishes, hand)) {
      const outcomes = await blocklist.blockMany(some, { replace, undo: replace });
      fault('undo.set');
      const failed = outcomes.find((outcome) => outcome instanceof FalcodropError);
      if (failed !== undefined) throw failed;
    }
  }
}

async function tell(call: Call, reversals: readonly Reversal[], ledger: Ledger, isForetold: boolean): Promise<void> {
  const { answer, clock } = call;
  const nowMs = clock.now();
  const now = ledger.now();
  for (const { target, owner, rule, back } of reversals) {
    const name = formatPrefix(target);
    const isDrop = back !== null && back.dropEnd !== never && back.dropEnd > now;
    const seconds = back === null ? 0 : secondsTo(isDrop ? back.dropEnd : back.countEnd, now);
    if (answer.json) {
      answer.object({
        target: name,
        owner,
        status: back === null ? 'withdrawn' : 'set_back',
        mode: back === null ? null : isDrop ? 'enforce' : 'monitor',
        ends_at: endAt(seconds, nowMs),
        ends_in_seconds: back === null ? null : wholeSeconds(seconds),
        rule,
        dry_run: isForetold,
      });
    } else {
      const why = `${clean(owner, 80)}${rule === null ? '' : `, ${clean(rule, 80)}`}`;
      const what =
        back === null ? 'withdrawn' : `set back: ${isDrop ? 'blocked' : 'watched'} ${untilText(seconds, nowMs)}`;
      answer.line(`${isForetold ? 'would be ' : ''}${what}: ${name} (${why})`);
    }
    if (answer.full) await answer.flush();
  }
}
