/** `falcodrop unblock TARGET…|--all|filters` */
import { comparePrefixes, formatPrefix, type Prefix } from '../address/prefix.ts';
import { type Entry, slice, type UnblockOutcome, UnrecordedError, type Withdrawal } from '../blocklist/blocklist.ts';
import type { Owner } from '../blocklist/claims.ts';
import type { Cause, CauseId, Claim } from '../blocklist/ledger/record.ts';
import { isLive } from '../blocklist/ledger/union.ts';
import { finishWithdrawals } from '../blocklist/reconcile.ts';
import { TargetList } from '../blocklist/target-list.ts';
import { FalcodropError } from '../errors.ts';
import { blocksOf } from './blocks.ts';
import { type Call, flag, isRoot, stateDirOf } from './call.ts';
import { limitText, widerDrop } from './circumstance.ts';
import { failureOf } from './failure.ts';
import { type Filters, names, ownerMatches, readFilters } from './filter.ts';
import { readForced, removeForced } from './forced.ts';
import { type Hand, openHand } from './hand.ts';
import { amount } from './output/amount.ts';
import { clean } from './output/clean.ts';
import { untilText } from './output/entry.ts';
import { protectAnew } from './protect.ts';
import { ask } from './question.ts';
import { type Items, slicesOf } from './slices.ts';
import { parseTargets } from './target.ts';

type Whose = NonNullable<Withdrawal['owners']>;

export async function unblockTargets(call: Call): Promise<void> {
  const all = flag(call, 'all');
  const targets = parseTargets(call.operands);
  const filters = readFilters(call);
  const { owner, ...others } = filters;
  if (all && (targets.length > 0 || names(filters))) {
    throw new FalcodropError(
      'usage',
      '--all excludes targets and filters',
      'name the targets, or filters, or say --all alone',
    );
  }
  if (targets.length > 0 && names(others)) {
    throw new FalcodropError(
      'usage',
      'targets exclude filters (but --owner)',
      'name the targets, or choose by filters',
    );
  }
  if (!all && targets.length === 0 && !names(filters)) {
    throw new FalcodropError(
      'usage',
      'nothing was named to unblock',
      'falcodrop unblock TARGET…, or filters (--within, --owner, …), or --all',
    );
  }
  if (targets.length > 0) await unblockNamed(call, targets, owner);
  else await unblockChosen(call, filters);
}

async function unblockNamed(call: Call, targets: readonly Prefix[], owner: Filters['owner']): Promise<void> {
  const { answer, clock } = call;
  const isDryRun = flag(call, 'dryRun');
  // Before the hand becomes the service: what root unblocks is forced no more.
  if (isRoot() && !isDryRun && isHands(owner) && removeForced(stateDirOf(call.environment), targets)) {
    await protectAnew(call);
  }
  const hand = openHand(call);
  const { blocklist } = hand;
  try {
    for (const target of targets) {
      try {
        const { ending, staying } = foresee(hand, target, owner, flag(call, 'allClaims'));
        const wider = widerDrop(blocklist, target);
        if (ending !== null && ending.length === 0 && staying.length > 0) throw notTheirs(target, staying);
        const owners: Whose =
          owner !== undefined && ending !== null ? ending : flag(call, 'allClaims') ? 'all' : 'all_but_feeds';
        const { before, ended, remaining } = isDryRun
          ? { before: entryOf(hand, target), ended: ending ?? [], remaining: staying }
          : await blocklist.unblock(target, { owners, cause: hand.because(null) });
        // A claim whose entry is gone from the maps would have come back: that it does not is what was asked for.
        if ((before === null || before.state === 'ended') && ended.length === 0)
          throw notBlocked(target, before, wider);
        const limit = wider === null ? '' : limitText(blocklist.set, wider);
        tell(call, target, before, { wider, limit, remaining, nowMs: clock.now() });
      } catch (error) {
        answer.fail(failureOf(error, call.verb));
      }
      await answer.flush();
    }
  } finally {
    hand.close();
  }
}

/** Whose claims on a target would end, and whose would go on; null: the ledger knows of none, or can not be read. */
function foresee(
  { ledger }: Hand,
  target: Prefix,
  owner: Filters['owner'],
  allClaims: boolean,
): { readonly ending: readonly Owner[] | null; readonly staying: readonly Owner[] } {
  if (ledger === null) return { ending: null, staying: [] };
  let all: Claim[];
  try {
    const now = ledger.now();
    all = ledger.claimsOf(target).filter((claim) => claim.withdrawnAt === null && isLive(claim, now));
  } catch (error) {
    // Whoever ends it says why it can not be written down.
    if (error instanceof FalcodropError) return { ending: null, staying: [] };
    throw error;
  }
  if (all.length === 0) return { ending: null, staying: [] };
  const isMeant = ({ owner: whose }: { readonly owner: Owner }): boolean =>
    owner === undefined ? allClaims || !whose.startsWith('feed:') : ownerMatches(whose, owner);
  return {
    ending: all.filter(isMeant).map((claim) => claim.owner),
    staying: all.filter((claim) => !isMeant(claim)).map((claim) => claim.owner),
  };
}

/** By address, each with whose claims on it end. */
class Choice {
  readonly #targets = new TargetList();
  readonly #names = new Map<string, number>();
  readonly #whose: Whose[] = [];
  #groupOf = new Uint32Array(1024);
  #order = new Uint32Array();

  get length(): number {
    return this.#order.length;
  }

  add(target: Prefix, whose: Whose): void {
    const row = this.#targets.length;
    if (row === this.#groupOf.length) {
      const grown = new Uint32Array(2 * row);
      grown.set(this.#groupOf);
      this.#groupOf = grown;
    }
    const name = typeof whose === 'string' ? whose : whose.join(' ');
    const group = this.#names.get(name) ?? this.#whose.length;
    if (group === this.#whose.length) {
      this.#names.set(name, group);
      this.#whose.push(whose);
    }
    this.#groupOf[row] = group;
    this.#targets.push(target);
  }

  /** After the last `add`. What `isLeft` says is left out. */
  sort(isLeft: (target: Prefix) => boolean): void {
    this.#order = this.#targets.order().filter((row) => !isLeft(this.#targets.at(row)));
  }

  *targets(): Generator<Prefix> {
    for (const row of this.#order) yield this.#targets.at(row);
  }

  /** In slices of whose claims are the same. */
  *groups(): Generator<{ readonly targets: Items<Prefix>; readonly whose: Whose }> {
    for (const [group, whose] of this.#whose.entries()) {
      const rows = this.#order.filter((row) => this.#groupOf[row] === group);
      const slice = (first: number, end: number): Prefix[] =>
        Array.from(rows.subarray(first, end), (row) => this.#targets.at(row));
      yield { targets: { length: rows.length, slice }, whose };
    }
  }
}

async function unblockChosen(call: Call, filters: Filters): Promise<void> {
  const { answer, clock } = call;
  const isDryRun = flag(call, 'dryRun');
  const all = flag(call, 'all');
  const forced = isRoot() && isHands(filters.owner) ? readForced(stateDirOf(call.environment)) : [];
  if (all && forced.length > 0 && !isDryRun) {
    // Root's own list is only root's to change, so this is asked before all the rest.
    await ask(call, `End all blocks, ${forced.length} that were forced among them?`);
    removeForced(
      stateDirOf(call.environment),
      forced.map(({ target }) => target),
    );
    await protectAnew(call);
  }
  const hand = openHand(call);
  try {
    if (!isDryRun) await finishOthers(hand);
    const chosen = choose(hand, filters, flag(call, 'allClaims'));
    chosen.sort(all ? () => false : isForced(call, forced));
    const number = `${chosen.length} ${chosen.length === 1 && !all ? 'block' : 'blocks'}`;
    if (!isDryRun && !(all && forced.length > 0)) {
      if (all || chosen.length > 0) await ask(call, all ? `End all ${number}?` : `End ${number}?`);
    }
    let ended = 0;
    let done = 0;
    let trouble = null as UnrecordedError | null;
    const say = async (target: Prefix, { before, ended: owners, remaining }: UnblockOutcome): Promise<void> => {
      if ((before === null || before.state === 'ended') && owners.length === 0) return;
      ended++;
      if (answer.json || isDryRun)
        tell(call, target, before, { wider: null, limit: '', remaining, nowMs: clock.now() });
      if (answer.full) await answer.flush();
    };
    if (isDryRun) {
      for (const target of chosen.targets())
        await say(target, { before: entryOf(hand, target), ended: [], remaining: [] });
      return;
    }
    const cause = causeOf(hand, chosen.length);
    for (const { targets, whose } of chosen.groups()) {
      for await (const some of slicesOf(targets, hand)) {
        let outcomes: readonly UnblockOutcome[];
        try {
          outcomes = await hand.blocklist.unblockMany(some, { owners: whose, cause });
        } catch (error) {
          // A hand in need: the others are to pass too.
          if (!(error instanceof UnrecordedError)) throw error;
          trouble = trouble?.isKept === false ? trouble : error;
          outcomes = error.outcomes;
        }
        for (const [index, outcome] of outcomes.entries()) {
          const target = some[index];
          if (target !== undefined) await say(target, outcome);
        }
        done += some.length;
        if (chosen.length > slice) answer.progress(`${done} of ${chosen.length}`);
      }
    }
    answer.progress('');
    if (trouble !== null) answer.fail(trouble);
    if (answer.json) return;
    const nothing = all ? 'nothing was blocked' : 'nothing that is blocked fits';
    answer.line(ended === 0 ? nothing : `${ended} ${ended === 1 ? 'block' : 'blocks'} ended`);
  } finally {
    hand.close();
  }
}

/**
 * By address. Filters that are about claims end those that fit alone; without such, all but feeds'. What only the ledger or only
 * the maps know of is among them: the one would come back, the other is blocked.
 */
function choose(hand: Hand, filters: Filters, allClaims: boolean): Choice {
  const { within, sort: _, limit: __, ...aboutClaims } = filters;
  const isExact = names(aboutClaims);
  const rest: Whose = allClaims ? 'all' : 'all_but_feeds';
  const withFeeds = allClaims || filters.owner?.startsWith('feed') === true;
  const chosen = new Choice();
  if (hand.ledger !== null) {
    const { sort: ___, ...filter } = filters;
    let last: { readonly target: Prefix; readonly owners: Owner[] } | null = null;
    const add = (): void => {
      if (last !== null) chosen.add(last.target, isExact ? last.owners : rest);
    };
    // By address: what is on one target comes together.
    for (const { target, owner } of hand.ledger.claims(filter)) {
      if (!withFeeds && owner.startsWith('feed:')) continue;
      if (last !== null && same(last.target, target)) {
        last.owners.push(owner);
        continue;
      }
      add();
      last = { target, owners: [owner] };
    }
    add();
  }
  for (const { entry, claims } of blocksOf(hand, filters)) {
    if (claims === null || claims.length === 0) chosen.add(entry.target, rest);
  }
  return chosen;
}

/** Before anything is chosen in the ledger: what it wants no more and the maps still hold would not be found there. */
async function finishOthers({ blocklist, ledger }: Hand): Promise<void> {
  try {
    if (ledger !== null) await finishWithdrawals(blocklist, ledger);
  } catch (error) {
    // A ledger that can not be written: what is chosen passes all the same, and that is said then.
    if (!(error instanceof FalcodropError)) throw error;
  }
}

/** Of many targets the history has one row, with their number. */
function causeOf({ ledger, because }: Hand, count: number): Cause | CauseId {
  try {
    if (count > slice && ledger !== null) return ledger.addCause(because(null));
  } catch (error) {
    // What ends them says so.
    if (!(error instanceof FalcodropError)) throw error;
  }
  return because(null);
}

/** They would come back with the next reconcile, for root's list is not the service's to change. */
function isForced({ answer }: Call, forced: ReturnType<typeof readForced>): (target: Prefix) => boolean {
  return (target) => {
    if (!forced.some((each) => same(each.target, target))) return false;
    const name = formatPrefix(target);
    answer.note(`${name} was forced by root, and is left: falcodrop unblock ${name}`);
    return true;
  };
}

function isHands(owner: Filters['owner']): boolean {
  return owner === undefined || owner === 'hand';
}

function same(a: Prefix, b: Prefix): boolean {
  return comparePrefixes(a, b) === 0;
}

function entryOf({ blocklist }: Hand, target: Prefix): Entry | null {
  return blocklist.covering(target).find((entry) => same(entry.target, target)) ?? null;
}

interface Told {
  readonly wider: Entry | null;
  /** What that one is limited to. */
  readonly limit: string;
  /** Whose claims go on. */
  readonly remaining: readonly Owner[];
  readonly nowMs: number;
}

/** `entry` as it was; null: only the ledger knew of it. */
function tell(call: Call, prefix: Prefix, entry: Entry | null, { wider, limit, remaining, nowMs }: Told): void {
  const { answer } = call;
  const isDryRun = flag(call, 'dryRun');
  const target = formatPrefix(prefix);
  const { packets, bytes } = entry ?? { packets: 0, bytes: 0 };
  const widerName = wider === null ? null : formatPrefix(wider.target);
  if (answer.json) {
    answer.object({
      target,
      status: isDryRun ? 'would_unblock' : 'unblocked',
      packets,
      bytes,
      still_dropped_by: widerName,
      remaining,
    });
    return;
  }
  const met = packets === 0 ? '' : `, after ${amount(packets)} packets (${amount(bytes)} bytes)`;
  answer.line(isDryRun ? `would unblock ${target}` : `${target} unblocked${met}`);
  if (remaining.length > 0) {
    answer.note(
      `${remaining.map((owner) => clean(owner)).join(', ')} still wants it: falcodrop unblock ${target} --all-claims`,
    );
  }
  if (wider !== null) answer.note(`${widerName} still drops it${limit} ${untilText(wider.dropSeconds, nowMs)}`);
}

function notTheirs(target: Prefix, staying: readonly Owner[]): FalcodropError {
  const name = formatPrefix(target);
  return new FalcodropError(
    'not_blocked',
    `${name} is blocked by ${staying.map((owner) => clean(owner)).join(', ')} alone, whose claim goes on`,
    `falcodrop unblock ${name} --all-claims ends it`,
  );
}

function notBlocked(target: Prefix, entry: Entry | null, wider: Entry | null): FalcodropError {
  const name = formatPrefix(target);
  const message = entry === null ? `${name} is not blocked` : `${name} is not blocked: its block had ended`;
  if (wider === null) return new FalcodropError('not_blocked', message, 'falcodrop list tells what is');
  const widerName = formatPrefix(wider.target);
  return new FalcodropError(
    'not_blocked',
    `${name} has no block of its own: ${widerName} still drops it`,
    `falcodrop unblock ${widerName}`,
  );
}
