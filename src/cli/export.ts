/** `falcodrop export`: claims as JSON lines that `falcodrop import` takes back. */
import { formatPrefix } from '../address/prefix.ts';
import { toWall } from '../blocklist/ledger/clock.ts';
import { type Claim, forEver, type StoredCause } from '../blocklist/ledger/record.ts';
import type { Call } from './call.ts';
import { portsText, type Teller, tellerOf } from './claims.ts';
import { readFilters } from './filter.ts';
import { openLedgerAlone } from './ledger.ts';
import { utc } from './output/moment.ts';

/** One line. `ends_at` null: for ever. */
export interface ExportLine {
  readonly target: string;
  readonly owner: string;
  readonly mode: 'enforce' | 'monitor';
  /** null: every port. */
  readonly ports: string | null;
  readonly ends_at: string | null;
  readonly begun_at: string;
  readonly reason: string | null;
}

export async function exportClaims(call: Call): Promise<void> {
  const { answer } = call;
  const { sort: _, ...filters } = readFilters(call);
  const { ledger, close } = openLedgerAlone(call);
  try {
    const teller = tellerOf(ledger);
    for (const claim of ledger.claims(filters)) {
      for (const line of exportLines(claim, teller)) answer.object(line);
      if (answer.full) await answer.flush();
      if (answer.closed) return;
    }
  } finally {
    close();
  }
}

/** Two where it counts for longer than it drops. */
export function exportLines(claim: Claim, { anchor, cause }: Teller): ExportLine[] {
  const now = anchor.ledgerMs;
  const rest = {
    begun_at: utc(toWall(anchor, claim.begun)),
    reason: reasonOf(cause(claim.cause)),
  };
  const line = (mode: 'enforce' | 'monitor', end: number): ExportLine => ({
    target: formatPrefix(claim.target),
    owner: claim.owner,
    mode,
    ports: portsText(claim.ports),
    ends_at: end === forEver ? null : new Date(Math.round(toWall(anchor, end))).toISOString(),
    ...rest,
  });
  const lines: ExportLine[] = [];
  if (now < claim.dropEnd) lines.push(line('enforce', claim.dropEnd));
  if (now < claim.countEnd && claim.countEnd > claim.dropEnd) lines.push(line('monitor', claim.countEnd));
  return lines;
}

/** In words: the alert itself stays here. */
function reasonOf(cause: StoredCause | null): string | null {
  if (cause === null) return null;
  return cause.kind === 'alert' ? cause.rule : cause.reason;
}
