/** `falcodrop reconcile`, and what `attach` calls before the first packet meets fresh maps. */
import { formatPrefix, type Prefix } from '../address/prefix.ts';
import { identityOf } from '../blocklist/ledger/files.ts';
import type { Ledger } from '../blocklist/ledger/ledger.ts';
import { type Mending, type ReconcileOptions, reconcile, type Summary } from '../blocklist/reconcile.ts';
import { FalcodropError } from '../errors.ts';
import { attachedIfindexes } from '../host/attached.ts';
import { readHostFacts } from '../host/facts.ts';
import { guard } from '../judge/guard/guard.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { type Call, flag, isRoot, stateDirOf } from './call.ts';
import { type Forced, readForced } from './forced.ts';
import { type Hand, isDamaged, openHand, setAside } from './hand.ts';
import { readConfig } from './settings.ts';

const sayings: Readonly<Record<Mending, string>> = {
  set: 'set to what the ledger says',
  removed: 'removed',
  adopted: 'adopted',
  ended: 'had ended',
  refused: 'refused by the guard',
};

const foretold: Readonly<Record<Mending, string>> = {
  set: 'would be set to what the ledger says',
  removed: 'would be removed',
  adopted: 'would be adopted',
  ended: 'has ended',
  refused: 'would be refused by the guard',
};

/** Refused claims that are named one by one. */
const mostRefusedTold = 10;

export async function reconcileMaps(call: Call): Promise<void> {
  const { answer, clock } = call;
  const isDry = flag(call, 'dryRun');
  const pinDir = pinDirOf(call.environment);
  const stateDir = stateDirOf(call.environment);
  const config = await readConfig(call);
  const host = readHostFacts({ attachedIfindexes: attachedIfindexes(pinDir), aliases: config.hostAliases });
  const forced = isRoot() ? readForced(stateDir) : [];
  let hand = openHand(call);
  try {
    const refuses = (target: Prefix): string | null => {
      if (forced.some((each) => formatPrefix(each.target) === formatPrefix(target))) return null;
      return guard(target, host, config.rules.guard, null)?.detail ?? null;
    };
    let refused = 0;
    const options: ReconcileOptions = {
      foreign: config.foreign,
      dryRun: isDry,
      refuses,
      onMended: ({ target, mending, why }) => {
        if (answer.json)
          answer.object({ target: formatPrefix(target), mending, ...(why === undefined ? {} : { why }) });
        else answer.line(`${formatPrefix(target)} ${(isDry ? foretold : sayings)[mending]}`);
        if (mending === 'refused' && ++refused <= mostRefusedTold) {
          answer.note(`${formatPrefix(target)} is not blocked again: ${why}`);
        }
      },
    };
    let summary: Summary;
    const bad = identityOf(stateDir);
    try {
      summary = await reconcile(hand.blocklist, await ledgerOf(hand, forced, clock.now()), options);
    } catch (error) {
      if (!isDamaged(error) || isDry) throw error;
      // Some damage is met only where it is read. It makes room for a new one, which learns what the maps hold.
      const { service } = hand;
      hand.close();
      setAside(call, { stateDir, service, bad, error });
      hand = openHand(call);
      summary = await reconcile(hand.blocklist, await ledgerOf(hand, forced, clock.now()), options);
    }
    if (refused > mostRefusedTold) answer.note(`${refused - mostRefusedTold} more are not blocked again`);
    if (!isDry) await restoreForced(hand, forced, clock.now());
    const done = Object.values(summary).reduce((sum, count) => sum + count, 0);
    if (!answer.json && done === 0) answer.line('unchanged: maps and ledger are equal');
  } finally {
    hand.close();
  }
}

/** Throws why there is none; what root forced is in force all the same, for its list needs no ledger. */
async function ledgerOf(hand: Hand, forced: readonly Forced[], nowMs: number): Promise<Ledger> {
  if (hand.ledger !== null) return hand.ledger;
  await restoreForced(hand, forced, nowMs);
  throw hand.trouble ?? new FalcodropError('ledger_missing', 'without a ledger there is nothing to reconcile with');
}

/** Root's own list, for a ledger that is lost or does not know them; not what was unblocked since. */
async function restoreForced({ blocklist, ledger }: Hand, forced: readonly Forced[], nowMs: number): Promise<void> {
  for (const { target, mode, until, since } of forced) {
    if (until !== null && until <= nowMs) continue;
    if (ledger !== null) {
      const [withdrawn] = ledger.history({ within: target, action: 'withdrawn', since, limit: 1 });
      if (withdrawn !== undefined) continue;
      const isThere = ledger.claimsOf(target).some((claim) => claim.owner === 'hand' && claim.withdrawnAt === null);
      if (isThere) continue;
    }
    const seconds = until === null ? null : (until - nowMs) / 1000;
    const cause = { kind: 'restore', name: 'forced', hand: null, reason: 'forced by root' } as const;
    try {
      await blocklist.block({ target, owner: 'hand', mode, seconds, cause });
    } catch (error) {
      // It drops; that it could not be written down is what the caller tells.
      if (ledger !== null || !(error instanceof FalcodropError)) throw error;
    }
  }
}
