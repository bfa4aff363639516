/** A block with its claims in both forms. */
import type { Ports } from '../../address/port.ts';
import type { Block } from '../blocks.ts';
import { claimObject, handText, portsText, secondsOf, type ToldClaim } from '../claims.ts';
import { clean } from './clean.ts';
import { type EntryObject, entryColumns, entryObject, entryRow, shortEnd } from './entry.ts';
import type { Column, Row } from './table.ts';

/** Characters of a reason or rule in a table. */
const longestWhy = 60;

/** An entry's keys, then `claims`: null where the ledger can not be read. */
export function blockObject(
  { entry, ports, claims }: Block,
  nowMs: number,
): EntryObject & { readonly ports: string | null; readonly claims: readonly object[] | null } {
  return {
    ...entryObject(entry, nowMs),
    ports: portsText(ports),
    claims: claims === null ? null : claims.map((claim) => claimObject(claim, nowMs)),
  };
}

export function blockColumns(nowMs: number): readonly Column[] {
  const yields = [
    [1, 16],
    [5, 8],
    [7, 0],
  ] as const;
  return [...entryColumns(nowMs), { title: 'WHY', yields }];
}

/** One row, and one below it for each claim where there are several. */
export function* blockRows({ entry, ports, claims }: Block, nowMs: number): Generator<Row> {
  const [target = '', state = '', end = '', owners = '', ...counts] = entryRow(entry, nowMs);
  const [first, ...more] = claims ?? [];
  if (first === undefined) {
    yield [target, state, end, owners, ...counts, whyOf(ports, '')];
  } else if (more.length === 0) {
    yield [target, state, end, clean(first.owner, 70), ...counts, whyOf(ports, whyText(first))];
  } else {
    yield [target, state, end, `${more.length + 1} claims`, ...counts, whyOf(ports, '')];
    for (const claim of [first, ...more]) {
      const claimEnd = shortEnd(secondsOf(claim), nowMs);
      yield ['', claim.mode, claimEnd, clean(claim.owner, 70), '', '', '', whyOf(claim.ports, whyText(claim))];
    }
  }
}

/** What it is limited to stands first: it must not be overlooked. */
function whyOf(ports: Ports, why: string): string {
  const only = portsText(ports);
  return only === null ? why : `only ${only}${why === '' ? '' : `: ${why}`}`;
}

/** The rule, or the reason, or who it was. */
export function whyText({ rule, reason, by }: Pick<ToldClaim, 'rule' | 'reason' | 'by'>): string {
  const text = rule ?? reason ?? (by === null ? '' : handText(by));
  return clean(text, longestWhy);
}
