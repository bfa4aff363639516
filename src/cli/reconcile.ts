/** `falcodrop reconcile`, and what `attach` calls before the first packet meets fresh maps. */
import { formatPrefix, type Prefix } from '../address/prefix.ts';
import type { Blocklist } from '../blocklist/blocklist.ts';
import type { Ledger } from '../blocklist/ledger/ledger.ts';
import { type Mending, reconcile } from '../blocklist/reconcile.ts';
import { FalcodropError } from '../errors.ts';
import { attachedIfindexes } from '../host/attached.ts';
import { readHostFacts } from '../host/facts.ts';
import { guard } from '../judge/guard/guard.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { type Call, flag, isRoot, stateDirOf } from './call.ts';
import { type Forced, readForced } from './forced.ts';
import { openHand } from './hand.ts';
import { readConfig } from './settings.ts';

const sayings: Readonly<Record<Mending, string>> = {
  set: 'set to what the ledger says',
  removed: 'removed',
  adopted: 'adopted',
  ended: 'had ended',
  refused: 'refused by the guard',
};

export async function reconcileMaps(call: Call): Promise<void> {
  const { answer, clock } = call;
  const isDry = flag(call, 'dryRun');
  const pinDir = pinDirOf(call.environment);
  const stateDir = stateDirOf(call.environment);
  const config = await readConfig(call);
  const host = readHostFacts({ attachedIfindexes: attachedIfindexes(pinDir), aliases: config.hostAliases });
  const forced = isRoot() ? readForced(stateDir) : [];
  const hand = openHand(call);
  try {
    const { blocklist, ledger } = hand;
    if (ledger === null) {
      throw new FalcodropError(
        'failed',
        'without a ledger there is nothing to reconcile with',
        'drops go on as they are',
      );
    }
    const refuses = (target: Prefix): string | null => {
      if (forced.some((each) => formatPrefix(each.target) === formatPrefix(target))) return null;
      return guard(target, host, config.rules.guard, null)?.detail ?? null;
    };
    const summary = await reconcile(blocklist, ledger, {
      foreign: config.foreign,
      dryRun: isDry,
      refuses,
      onMended: ({ target, mending }) => {
        if (answer.json) answer.object({ target: formatPrefix(target), mending });
        else answer.line(`${formatPrefix(target)} ${sayings[mending]}`);
      },
    });
    if (!isDry) await restoreForced(blocklist, ledger, forced, clock.now());
    const done = Object.values(summary).reduce((sum, count) => sum + count, 0);
    if (!answer.json && done === 0) answer.line('unchanged: maps and ledger are equal');
  } finally {
    hand.close();
  }
}

/** Root's own list, for a ledger that is lost or does not know them; not what was unblocked since. */
async function restoreForced(
  blocklist: Blocklist,
  ledger: Ledger,
  forced: readonly Forced[],
  nowMs: number,
): Promise<void> {
  for (const { target, mode, until, since } of forced) {
    if (until !== null && until <= nowMs) continue;
    const [withdrawn] = ledger.history({ within: target, action: 'withdrawn', since, limit: 1 });
    if (withdrawn !== undefined) continue;
    const isThere = ledger.claimsOf(target).some((claim) => claim.owner === 'hand' && claim.withdrawnAt === null);
    if (isThere) continue;
    const seconds = until === null ? null : (until - nowMs) / 1000;
    const cause = { kind: 'restore', name: 'forced', hand: null, reason: 'forced by root' } as const;
    await blocklist.block({ target, owner: 'hand', mode, seconds, cause });
  }
}
