/** `falcodrop reconcile`, and what `attach` calls before the first packet meets fresh maps. */
import { formatPrefix, type Prefix } from '../address/prefix.ts';
import { identityOf } from '../blocklist/ledger/files.ts';
import type { Ledger } from '../blocklist/ledger/ledger.ts';
import { changesOf, type Mending, type ReconcileOptions, reconcile, type Summary } from '../blocklist/reconcile.ts';
import { FalcodropError } from '../errors.ts';
import { attachedIfindexes } from '../host/attached.ts';
import { readHostFacts } from '../host/facts.ts';
import { guard } from '../judge/guard/guard.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { type Call, flag, isRoot, stateDirOf } from './call.ts';
import { type Forced, forcedEnds, leftOf, readForced } from './forced.ts';
import { type Hand, isDamaged, openHand, setAside } from './hand.ts';
import { readConfig } from './settings.ts';

const sayings: Readonly<Record<Mending, string>> = {
  set: 'set to what the ledger says',
  removed: 'removed',
  adopted: 'adopted',
  ended: 'had ended',
  refused: 'refused by the guard',
  stays_refused: 'stays refused by the guard',
};

const foretold: Readonly<Record<Mending, string>> = {
  set: 'would be set to what the ledger says',
  removed: 'would be removed',
  adopted: 'would be adopted',
  ended: 'has ended',
  refused: 'would be refused by the guard',
  stays_refused: 'would stay refused by the guard',
};

/** Refused claims that are named one by one. */
const mostRefusedTold = 10;

/** What was put in force, for the verb that had this done by a process of its own. */
export interface Restored {
  /** Claims, forced ones among them. */
  readonly claims: number;
  /** Of them: from root's own list, or as far as it bears them out. */
  readonly forced: number;
  /** Claims that are in the ledger and not in force. */
  readonly refused: number;
  /** Some of these with the guard's words. */
  readonly refusals: readonly string[];
  /** Nothing was to be restored: it was begun just now. */
  readonly isNew: boolean;
}

export async function reconcileMaps(call: Call): Promise<void> {
  const { answer, clock } = call;
  const isDry = flag(call, 'dryRun');
  const pinDir = pinDirOf(call.environment);
  const stateDir = stateDirOf(call.environment);
  const config = await readConfig(call);
  const host = readHostFacts({ attachedIfindexes: attachedIfindexes(pinDir), aliases: config.hostAliases });
  // Anybody may read it, and it is root's word; what the ledger lacks of it only root's own hand brings back.
  const forced = readForced(stateDir);
  const byRoot = isRoot() ? forced : [];
  const names = new Set(forced.map(({ target }) => formatPrefix(target)));
  const refusals: string[] = [];
  const restored = { claims: 0, forced: 0, refused: 0, refusals, isNew: false };
  let refused = 0;
  const options: ReconcileOptions = {
    foreign: config.foreign,
    dryRun: isDry,
    refuses: (target) => guard(target, host, config.rules.guard, null)?.detail ?? null,
    forced: (target, ledgerNow) => forcedEnds(forced, target, { nowMs: clock.now(), ledgerNow }),
    onMended: ({ target, mending, why, claims = 0 }) => {
      const name = formatPrefix(target);
      if (mending === 'set') restored.claims += claims;
      if (mending === 'set' && names.has(name)) restored.forced += claims;
      const isRefused = mending === 'refused' || mending === 'stays_refused';
      if (isRefused) {
        restored.refused += claims;
        if (refusals.length < mostRefusedTold) refusals.push(`${name} is not blocked again: ${why}`);
      }
      if (answer.json) answer.object({ target: name, mending, ...(why === undefined ? {} : { why }) });
      else if (mending !== 'stays_refused') answer.line(`${name} ${(isDry ? foretold : sayings)[mending]}`);
      // Whoever started this process tells of them itself.
      if (mending === 'refused' && process.send === undefined && ++refused <= mostRefusedTold) {
        answer.note(`${name} is not blocked again: ${why}`);
      }
    },
  };
  let hand: Hand | null = openHand(call);
  try {
    restored.isNew = hand.ledger?.isNew === true;
    let summary: Summary;
    try {
      summary = await reconcile(hand.blocklist, ledgerOf(hand), options);
    } catch (error) {
      if (!isDamaged(error) || isDry) throw error;
      // Some damage is met only where it is read. It makes room for a new one, which learns what the maps hold.
      const { service, ledger } = hand;
      const bad = ledger?.identity ?? identityOf(stateDir);
      hand.close();
      hand = null;
      setAside(call, { stateDir, service, bad, error });
      hand = openHand(call);
      summary = await reconcile(hand.blocklist, ledgerOf(hand), options);
    }
    if (refused > mostRefusedTold) answer.note(`${refused - mostRefusedTold} more are not blocked again`);
    if (!answer.json) {
      const staying = stayingText(summary.stays_refused, refusals);
      if (changesOf(summary) > 0) {
        if (staying !== null) answer.line(staying);
      } else answer.line(staying === null ? 'unchanged: maps and ledger are equal' : `unchanged, ${staying}`);
    }
  } finally {
    try {
      // Also where there is no ledger to be had: root's list needs none.
      if (!isDry && hand !== null) await restoreForced(hand, byRoot, clock.now(), restored);
    } finally {
      await report(restored);
      hand?.close();
    }
  }
}

/** Throws why there is none. */
function ledgerOf({ ledger, trouble }: Hand): Ledger {
  if (ledger !== null) return ledger;
  throw trouble ?? new FalcodropError('ledger_missing', 'without a ledger there is nothing to reconcile with');
}

function stayingText(staying: number, refusals: readonly string[]): string | null {
  if (staying === 0) return null;
  const [first = ''] = refusals;
  const more = staying === 1 ? '' : `, and ${staying - 1} more`;
  return `${staying} ${staying === 1 ? 'target stays' : 'targets stay'} refused (${first}${more})`;
}

/** To who started this process with a channel: attach. */
function report(restored: Restored): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined || !process.connected) resolve();
    else process.send(restored, undefined, {}, () => resolve());
  });
}

/** What root's own list has, and the ledger has not. */
async function restoreForced(
  { blocklist, ledger }: Hand,
  forced: readonly Forced[],
  nowMs: number,
  restored: { claims: number; forced: number },
): Promise<void> {
  const missing = forced.filter((each) => leftOf(each, nowMs) > 0 && !isKnown(ledger, each.target));
  let failure: unknown = null;
  for (const each of missing) {
    const { target, mode } = each;
    const left = leftOf(each, nowMs);
    const seconds = left === Number.POSITIVE_INFINITY ? null : left / 1000;
    const cause = { kind: 'restore', name: 'forced', hand: null, reason: 'forced by root' } as const;
    try {
      await blocklist.block({ target, owner: 'hand', mode, seconds, cause });
    } catch (error) {
      // It drops, and so shall the rest. Without a ledger the caller tells that nothing is written down.
      if (ledger !== null || !(error instanceof FalcodropError)) failure ??= error;
    }
    restored.claims++;
    restored.forced++;
  }
  if (failure !== null) throw failure;
}

/** Whether the hand's claim lives there, or has been unblocked or has ended since: then it is not to come back. */
function isKnown(ledger: Ledger | null, target: Prefix): boolean {
  if (ledger === null) return false;
  try {
    return isToldOf(ledger, target);
  } catch (error) {
    // In doubt it drops.
    if (error instanceof FalcodropError) return false;
    throw error;
  }
}

function isToldOf(ledger: Ledger, target: Prefix): boolean {
  const isHeld = ledger.claimsOf(target).some((claim) => claim.owner === 'hand' && claim.withdrawnAt === null);
  if (isHeld) return true;
  for (const { action, owner } of ledger.history({ exactly: target })) {
    if (owner !== null && owner !== 'hand') continue;
    if (action === 'withdrawn' || action === 'undone' || action === 'ended') return true;
    if (action !== 'refused' && action !== 'reconciled') return false;
  }
  return false;
}
