/** `falcodrop unblock TARGET…|--all|filters` */
import { comparePrefixes, formatPrefix, type Prefix } from '../address/prefix.ts';
import { type Entry, slice, type UnblockOutcome, type Withdrawal } from '../blocklist/blocklist.ts';
import type { Owner } from '../blocklist/claims.ts';
import { isLive } from '../blocklist/ledger/union.ts';
import { FalcodropError } from '../errors.ts';
import { blocksOf } from './blocks.ts';
import { type Call, flag, isRoot, stateDirOf } from './call.ts';
import { widerDrop } from './circumstance.ts';
import { failureOf } from './failure.ts';
import { type Filters, names, ownerMatches, readFilters } from './filter.ts';
import { readForced, removeForced } from './forced.ts';
import { type Hand, openHand } from './hand.ts';
import { amount } from './output/amount.ts';
import { clean } from './output/clean.ts';
import { untilText } from './output/entry.ts';
import { protectAnew } from './protect.ts';
import { ask } from './question.ts';
import { slicesOf } from './slices.ts';
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
        const { before, remaining } = isDryRun
          ? { before: entryOf(hand, target), remaining: staying }
          : await blocklist.unblock(target, { owners, cause: hand.because(null) });
        if (before === null || before.state === 'ended') throw notBlocked(target, before, wider);
        tell(call, before, { wider, remaining, nowMs: clock.now() });
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
  const now = ledger.now();
  const all = ledger.claimsOf(target).filter((claim) => claim.withdrawnAt === null && isLive(claim, now));
  if (all.length === 0) return { ending: null, staying: [] };
  const isMeant = ({ owner: whose }: { readonly owner: Owner }): boolean =>
    owner === undefined ? allClaims || !whose.startsWith('feed:') : ownerMatches(whose, owner);
  return {
    ending: all.filter(isMeant).map((claim) => claim.owner),
    staying: all.filter((claim) => !isMeant(claim)).map((claim) => claim.owner),
  };
}

interface Chosen {
  readonly target: Prefix;
  readonly whose: Whose;
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
    let chosen = choose(hand, filters, flag(call, 'allClaims'));
    if (!all) chosen = withoutForced(call, chosen, forced);
    const number = `${chosen.length} ${chosen.length === 1 && !all ? 'block' : 'blocks'}`;
    if (!isDryRun && !(all && forced.length > 0)) {
      if (all || chosen.length > 0) await ask(call, all ? `End all ${number}?` : `End ${number}?`);
    }
    let ended = 0;
    let done = 0;
    const say = async ({ before, remaining }: UnblockOutcome): Promise<void> => {
      if (before === null || before.state === 'ended') return;
      ended++;
      if (answer.json || isDryRun) tell(call, before, { wider: null, remaining, nowMs: clock.now() });
      if (answer.full) await answer.flush();
    };
    if (isDryRun) {
      for (const { target } of chosen) await say({ before: entryOf(hand, target), remaining: [] });
      return;
    }
    // Of many targets the history has one row, with their number.
    const cause =
      chosen.length > slice && hand.ledger !== null ? hand.ledger.addCause(hand.because(null)) : hand.because(null);
    for (const { targets, whose } of groupsOf(chosen)) {
      for await (const some of slicesOf(targets, hand.ledger)) {
        const outcomes = await hand.blocklist.unblockMany(some, { owners: whose, cause });
        for (const outcome of outcomes) await say(outcome);
        done += some.length;
        if (chosen.length > slice) answer.progress(`${done} of ${chosen.length}`);
      }
    }
    answer.progress('');
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
function choose(hand: Hand, filters: Filters, allClaims: boolean): Chosen[] {
  const { within, sort: _, limit: __, ...aboutClaims } = filters;
  const isExact = names(aboutClaims);
  const rest: Whose = allClaims ? 'all' : 'all_but_feeds';
  const withFeeds = allClaims || filters.owner?.startsWith('feed') === true;
  const chosen: Chosen[] = [];
  if (hand.ledger !== null) {
    const { sort: ___, ...filter } = filters;
    let last: { readonly target: Prefix; readonly owners: Owner[] } | null = null;
    // By address: what is on one target comes together.
    for (const { target, owner } of hand.ledger.claims(filter)) {
      if (!withFeeds && owner.startsWith('feed:')) continue;
      if (last !== null && same(last.target, target)) {
        last.owners.push(owner);
        continue;
      }
      last = { target, owners: [owner] };
      chosen.push({ target, whose: isExact ? last.owners : rest });
    }
  }
  for (const { entry, claims } of blocksOf(hand, filters)) {
    if (claims === null || claims.length === 0) chosen.push({ target: entry.target, whose: rest });
  }
  return chosen.sort((a, b) => comparePrefixes(a.target, b.target));
}

/** They would come back with the next reconcile, for root's list is not the service's to change. */
function withoutForced({ answer }: Call, chosen: readonly Chosen[], forced: ReturnType<typeof readForced>): Chosen[] {
  const kept = new Set(forced.map(({ target }) => formatPrefix(target)));
  return chosen.filter(({ target }) => {
    const name = formatPrefix(target);
    if (!kept.has(name)) return true;
    answer.note(`${name} was forced by root, and is left: falcodrop unblock ${name}`);
    return false;
  });
}

function* groupsOf(
  chosen: readonly Chosen[],
): Generator<{ readonly targets: readonly Prefix[]; readonly whose: Whose }> {
  const groups = new Map<string, { readonly targets: Prefix[]; readonly whose: Whose }>();
  for (const { target, whose } of chosen) {
    const name = typeof whose === 'string' ? whose : whose.join(' ');
    const group = groups.get(name);
    if (group === undefined) groups.set(name, { targets: [target], whose });
    else group.targets.push(target);
  }
  yield* groups.values();
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
  /** Whose claims go on. */
  readonly remaining: readonly Owner[];
  readonly nowMs: number;
}

function tell(call: Call, entry: Entry, { wider, remaining, nowMs }: Told): void {
  const { answer } = call;
  const isDryRun = flag(call, 'dryRun');
  const target = formatPrefix(entry.target);
  const widerName = wider === null ? null : formatPrefix(wider.target);
  if (answer.json) {
    answer.object({
      target,
      status: isDryRun ? 'would_unblock' : 'unblocked',
      packets: entry.packets,
      bytes: entry.bytes,
      still_dropped_by: widerName,
      remaining,
    });
    return;
  }
  const met = entry.packets === 0 ? '' : `, after ${amount(entry.packets)} packets (${amount(entry.bytes)} bytes)`;
  answer.line(isDryRun ? `would unblock ${target}` : `${target} unblocked${met}`);
  if (remaining.length > 0) {
    answer.note(
      `${remaining.map((owner) => clean(owner)).join(', ')} still wants it: falcodrop unblock ${target} --all-claims`,
    );
  }
  if (wider !== null) answer.note(`${widerName} still drops it ${untilText(wider.dropSeconds, nowMs)}`);
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
