/** `falcodrop history [TARGET]`: what was done, by whom and why. */
import { formatPrefix, parsePrefix } from '../address/prefix.ts';
import { type Anchor, toWall } from '../blocklist/ledger/clock.ts';
import { type Ends, forEver, type HistoryRow, never, type StoredCause } from '../blocklist/ledger/record.ts';
import { FalcodropError } from '../errors.ts';
import type { Call } from './call.ts';
import { handObject, handText, portsText, type Teller, tellerOf, whyOf } from './claims.ts';
import { readFilters } from './filter.ts';
import { openLedgerAlone } from './ledger.ts';
import { clean } from './output/clean.ts';
import { local, offset, utc } from './output/moment.ts';
import { type Column, type Row, table } from './output/table.ts';

/** Characters of a reason, a rule or a name in the table. */
const longestCell = 60;

export async function showHistory(call: Call): Promise<void> {
  const { answer, clock } = call;
  const { sort: _, ...filters } = readFilters(call);
  const [operand] = call.operands;
  const target = operand === undefined ? null : parsePrefix(operand);
  if (target !== null && filters.within !== undefined) {
    throw new FalcodropError('usage', 'a target and --within exclude each other', 'give one of them');
  }
  const { ledger, close } = openLedgerAlone(call);
  try {
    const filter = { ...filters, ...(target === null ? {} : { about: target }) };
    const teller = tellerOf(ledger);
    const nowMs = clock.now();
    if (answer.json) {
      for (const row of ledger.history(filter)) {
        answer.object(historyObject(row, causeOf(teller, row), teller.anchor));
        if (answer.full) await answer.flush();
        if (answer.closed) return;
      }
      return;
    }
    let count = 0;
    function* rows() {
      count = 0;
      for (const row of ledger.history(filter)) {
        count++;
        yield historyRow(row, causeOf(teller, row), teller.anchor, nowMs);
      }
    }
    for (const line of table(columnsAt(nowMs), rows, answer.colour, answer.width)) {
      if (count === 0) break;
      answer.line(line);
      if (answer.full) await answer.flush();
      if (answer.closed) return;
    }
    if (count === 0) answer.line('nothing of that is in the history');
  } finally {
    close();
  }
}

function causeOf(teller: Teller, { cause }: HistoryRow): StoredCause | null {
  return cause === null ? null : teller.cause(cause);
}

/**
 * Keys of an action in JSON. `target` null: a set of `count`. `mode` null: there is no claim (any more); with a mode `ends_at`
 * null = for ever. `*_before`: of the claim before it.
 */
function historyObject(row: HistoryRow, cause: StoredCause | null, anchor: Anchor) {
  const { rule, policy, reason, by } = whyOf(cause);
  const after = endOf(row.ends, anchor);
  const before = endOf(row.before, anchor);
  return {
    id: row.id,
    at: utc(row.wallMs),
    action: row.action,
    target: row.target === null ? null : formatPrefix(row.target),
    count: row.count,
    owner: row.owner,
    ports: portsText(row.ports),
    mode: after?.mode ?? null,
    ends_at: after?.endMs == null ? null : utc(after.endMs),
    mode_before: before?.mode ?? null,
    ends_at_before: before?.endMs == null ? null : utc(before.endMs),
    rule: row.rule ?? rule,
    policy,
    reason,
    detail: row.detail,
    by: handObject(by),
    cause: cause?.kind ?? null,
    alert:
      cause?.kind === 'alert'
        ? {
            id: cause.id,
            priority: cause.priority,
            hostname: cause.hostname,
            time: cause.timeMs === null ? null : utc(cause.timeMs),
          }
        : null,
  };
}

/** On a narrow terminal when, what and to whom stay whole. */
function columnsAt(nowMs: number): readonly Column[] {
  return [
    { title: `WHEN (${offset(nowMs)})` },
    { title: 'ACTION', colour: (action) => (action === 'made' ? 'red' : action === 'refused' ? 'yellow' : null) },
    { title: 'TARGET' },
    {
      title: 'OWNER',
      yields: [
        [4, 8],
        [9, 0],
      ],
    },
    {
      title: 'UNTIL',
      yields: [
        [3, 10],
        [6, 0],
      ],
    },
    {
      title: 'BY',
      yields: [
        [1, 12],
        [5, 0],
      ],
    },
    {
      title: 'WHY',
      yields: [
        [2, 16],
        [7, 8],
        [8, 0],
      ],
    },
  ];
}

function historyRow(row: HistoryRow, cause: StoredCause | null, anchor: Anchor, nowMs: number): Row {
  const { rule, policy, reason, by } = whyOf(cause);
  const after = endOf(row.ends, anchor);
  const until =
    after === null
      ? ''
      : `${after.endMs === null ? 'for ever' : at(after.endMs, nowMs)}${after.mode === 'monitor' ? ' (monitor)' : ''}`;
  const who = by === null ? (policy === null ? '' : `policy ${policy}`) : handText(by);
  const only = portsText(row.ports);
  const why = [only === null ? null : `only ${only}`, row.rule ?? rule, reason, row.detail].filter(
    (text) => text !== null && text !== '',
  );
  return [
    at(row.wallMs, nowMs),
    row.action,
    row.target === null ? `${row.count} targets` : formatPrefix(row.target),
    clean(row.owner ?? '-', longestCell),
    until,
    clean(who, longestCell),
    clean(why.join('; '), longestCell),
  ];
}

/** The offset stands in the heading, unless it is another one. */
function at(ms: number, nowMs: number): string {
  const text = local(ms);
  return offset(ms) === offset(nowMs) ? text.slice(0, -' +00:00'.length) : text;
}

interface End {
  readonly mode: 'enforce' | 'monitor';
  /** ms since 1970; null = for ever. */
  readonly endMs: number | null;
}

function endOf(ends: Ends | null, anchor: Anchor): End | null {
  if (ends === null) return null;
  const mode = ends.dropEnd === never ? 'monitor' : 'enforce';
  const end = mode === 'enforce' ? ends.dropEnd : ends.countEnd;
  return { mode, endMs: end === forEver ? null : toWall(anchor, end) };
}
