/** Blocks that end by themselves unless confirmed: they get the end that was wished for. */
import { formatPrefix } from '../address/prefix.ts';
import type { Wish } from '../blocklist/claims.ts';
import { toWall } from '../blocklist/ledger/clock.ts';
import { type Claim, forEver } from '../blocklist/ledger/record.ts';
import { isLive } from '../blocklist/ledger/union.ts';
import { FalcodropError } from '../errors.ts';
import type { Call } from './call.ts';
import { secondsTo } from './claims.ts';
import { failureOf } from './failure.ts';
import { openHand } from './hand.ts';
import { slicesOf } from './slices.ts';

export interface ConfirmedBlock {
  /** As `falcodrop list` shows it. */
  readonly target: string;
  /** ms since 1970; null = for ever. */
  readonly until: number | null;
}

/**
 * Gives pending blocks the end that was wished for; those of which it is too late are not among them. A root hand is the service
 * afterwards. Without a ledger nothing is known to be pending, which openHand says.
 */
export async function confirmBlocks(call: Call): Promise<readonly ConfirmedBlock[]> {
  const hand = openHand(call);
  try {
    const { ledger, blocklist } = hand;
    if (ledger === null) return [];
    const anchor = ledger.anchor();
    const pending = [...ledger.wished()].filter((claim) => isLive(claim, anchor.ledgerMs));
    const confirmed: ConfirmedBlock[] = [];
    for await (const some of slicesOf(pending, hand)) {
      const wishes = some.map((claim) => wishOf(claim, anchor.ledgerMs, hand.because('confirmed')));
      const outcomes = await blocklist.blockMany(wishes);
      for (const [index, outcome] of outcomes.entries()) {
        const claim = some[index];
        if (outcome instanceof FalcodropError) call.answer.fail(failureOf(outcome, call.verb));
        else if (claim !== undefined && claim.wishedEnd !== null) {
          const until = claim.wishedEnd === forEver ? null : toWall(anchor, claim.wishedEnd);
          confirmed.push({ target: formatPrefix(claim.target), until });
        }
      }
    }
    return confirmed;
  } finally {
    hand.close();
  }
}

function wishOf(claim: Claim, now: number, cause: Wish['cause']): Wish {
  return {
    target: claim.target,
    owner: claim.owner,
    mode: now < claim.dropEnd ? 'enforce' : 'monitor',
    seconds: secondsTo(claim.wishedEnd ?? 0, now),
    ...(claim.ports.length === 0 ? {} : { ports: claim.ports }),
    cause,
  };
}
