/** The filters of all that lists, as SQL; and rows as records. */
import { everyPort, type Ports, parsePorts } from '../../address/port.ts';
import type { Prefix } from '../../address/prefix.ts';
import type { Owner } from '../claims.ts';
import { type Anchor, fromWall } from './clock.ts';
import { keyOfTarget, keysHolding, keysWithin, targetOfKey } from './key.ts';
import type {
  Action,
  CauseId,
  Claim,
  ClaimFilter,
  Filter,
  Hand,
  HistoryFilter,
  HistoryRow,
  StoredCause,
} from './record.ts';

export interface Query {
  readonly sql: string;
  readonly values: readonly (string | number | Uint8Array)[];
}

export interface ClaimRow {
  readonly target: Uint8Array;
  readonly owner: string;
  readonly drop_end: number;
  readonly count_end: number;
  readonly wished_end: number | null;
  readonly ports: string;
  readonly begun: number;
  readonly cause: number;
  readonly withdrawn: number | null;
}

export const claimColumns =
  'claims.target, claims.owner, claims.drop_end, claims.count_end, claims.wished_end, claims.ports, claims.begun, claims.cause, claims.withdrawn';

/** RangeError for what nobody can have written: the row is damaged. */
export function claimOf(row: ClaimRow): Claim {
  for (const number of [row.drop_end, row.count_end, row.wished_end ?? 0]) {
    if (!Number.isSafeInteger(number) || number < 0) throw new RangeError(`${number} is no end`);
  }
  return {
    target: targetOfKey(row.target),
    owner: row.owner as Owner,
    dropEnd: row.drop_end,
    countEnd: row.count_end,
    ports: portsOf(row.ports),
    wishedEnd: row.wished_end,
    begun: row.begun,
    cause: row.cause,
    withdrawnAt: row.withdrawn,
  };
}

/** Throws `RangeError` for what this ledger can not have written. */
export function portsOf(text: string): Ports {
  if (text === '') return everyPort;
  try {
    return parsePorts(text);
  } catch {
    throw new RangeError('a claim is limited to what are no ports');
  }
}

/** `now`: an anchor of now, for what lives and for wall times. */
export function claimQuery(filter: ClaimFilter, now: Anchor): Query {
  const where = new Conditions();
  where.common('claims', filter);
  const time = Math.floor(now.ledgerMs);
  const isLive = 'claims.withdrawn IS NULL AND (claims.drop_end > ? OR claims.count_end > ?)';
  const { state = 'live', mode, rule, since, until } = filter;
  if (state === 'live') where.add(isLive, time, time);
  if (state === 'ended')
    where.add('claims.withdrawn IS NULL AND claims.drop_end <= ? AND claims.count_end <= ?', time, time);
  if (state === 'withdrawn') where.add('claims.withdrawn IS NOT NULL');
  if (mode === 'enforce') where.add('claims.drop_end > ?', time);
  if (mode === 'monitor') where.add('claims.drop_end <= ? AND claims.count_end > ?', time, time);
  if (since !== undefined) where.add('claims.begun >= ?', fromWall(now, since));
  if (until !== undefined) where.add('claims.begun < ?', fromWall(now, until));
  if (rule !== undefined) where.add('causes.rule = ?', rule);
  const join = rule === undefined ? '' : ' JOIN causes ON causes.id = claims.cause';
  const direction = filter.descending === true ? ' DESC' : '';
  const order = { address: '', begin: 'claims.begun', end: 'max(claims.drop_end, claims.count_end)' }[
    filter.sort ?? 'address'
  ];
  const byKey = `claims.target${direction}, claims.owner${direction}, claims.ports${direction}`;
  return where.query(
    `SELECT ${claimColumns} FROM claims${join}`,
    `ORDER BY ${order === '' ? '' : `${order}${direction}, `}${byKey}`,
    filter.limit,
  );
}

interface HistoryColumns {
  readonly id: number;
  readonly at: number;
  readonly wall: number;
  readonly action: string;
  readonly target: Uint8Array | null;
  readonly owner: string | null;
  readonly rule: string | null;
  readonly drop_end: number | null;
  readonly count_end: number | null;
  readonly drop_before: number | null;
  readonly count_before: number | null;
  readonly cause: number | null;
  readonly count: number;
  readonly detail: string | null;
  readonly ports: string | null;
}

export function historyOf(row: unknown): HistoryRow {
  const columns = row as HistoryColumns;
  const { id, at, wall, action, target, owner, rule, cause, count, detail } = columns;
  const endsOf = (dropEnd: number | null, countEnd: number | null) =>
    dropEnd === null || countEnd === null ? null : { dropEnd, countEnd };
  return {
    id,
    at,
    wallMs: wall,
    action: action as Action,
    target: target === null ? null : targetOfKey(target),
    owner: owner as Owner | null,
    rule,
    ends: endsOf(columns.drop_end, columns.count_end),
    before: endsOf(columns.drop_before, columns.count_before),
    cause,
    count,
    detail,
    ports: columns.ports === null ? everyPort : portsOf(columns.ports),
  };
}

export function historyQuery(filter: HistoryFilter): Query {
  const where = new Conditions();
  where.common('history', filter);
  const { mode, rule, since, until, from, to, action, about, exactly } = filter;
  if (about !== undefined) where.about(about);
  if (exactly !== undefined) where.add('history.target = ?', keyOfTarget(exactly));
  if (action !== undefined) where.add('history.action = ?', action);
  if (mode === 'enforce') where.add('history.drop_end > 0');
  if (mode === 'monitor') where.add('history.drop_end = 0 AND history.count_end > 0');
  if (since !== undefined) where.add('history.wall >= ?', since);
  if (until !== undefined) where.add('history.wall < ?', until);
  if (from !== undefined) where.add('history.at >= ?', from);
  if (to !== undefined) where.add('history.at < ?', to);
  if (rule !== undefined) where.add('history.rule = ?', rule);
  const newest = where.query('SELECT * FROM history', 'ORDER BY id DESC', filter.limit);
  if (filter.oldestFirst !== true) return newest;
  return { ...newest, sql: `SELECT * FROM (${newest.sql}) ORDER BY id` };
}

class Conditions {
  readonly #conditions: string[] = [];
  readonly #values: (string | number | Uint8Array)[] = [];

  add(condition: string, ...values: readonly (string | number | Uint8Array)[]): void {
    this.#conditions.push(`(${condition})`);
    this.#values.push(...values);
  }

  common(table: 'claims' | 'history', { within, owner }: Filter): void {
    if (within !== undefined) {
      const [first, last] = keysWithin(within);
      this.add(
        `${table}.target BETWEEN ? AND ? AND substr(${table}.target, -1) >= ?`,
        first,
        last,
        Buffer.of(within.length),
      );
    }
    // ";" comes after ":" in ASCII.
    if (owner === 'policy' || owner === 'feed')
      this.add(`${table}.owner > ? AND ${table}.owner < ?`, `${owner}:`, `${owner};`);
    else if (owner !== undefined) this.add(`${table}.owner = ?`, owner);
  }

  about(target: Prefix): void {
    const [first, last] = keysWithin(target);
    const holders = keysHolding(target);
    const each = holders.map(() => '?').join(', ');
    this.add(
      `history.target IN (${each}) OR (history.target BETWEEN ? AND ? AND substr(history.target, -1) >= ?)
       OR (history.target IS NULL AND history.owner IS NOT NULL AND history.cause IS NOT NULL
           AND history.cause IN (SELECT claims.cause FROM claims WHERE claims.target IN (${each})))`,
      ...holders,
      first,
      last,
      Buffer.of(target.length),
      ...holders,
    );
  }

  query(select: string, order: string, limit: number | undefined): Query {
    const where = this.#conditions.length === 0 ? '' : ` WHERE ${this.#conditions.join(' AND ')}`;
    const sql = `${select}${where} ${order}`;
    return limit === undefined
      ? { sql, values: this.#values }
      : { sql: `${sql} LIMIT ?`, values: [...this.#values, limit] };
  }
}

interface CauseColumns {
  readonly id: number;
  readonly at: number;
  readonly wall: number;
  readonly kind: string;
  readonly name: string | null;
  readonly reason: string | null;
  readonly alert_id: string | null;
  readonly rule: string | null;
  readonly priority: string | null;
  readonly hostname: string | null;
  readonly alert_time: number | null;
  readonly policy: string | null;
  readonly policy_hash: string | null;
  readonly alert: string | null;
  readonly verb: string | null;
  readonly login_uid: number | null;
  readonly uid: number | null;
  readonly sudo_user: string | null;
  readonly tty: string | null;
  readonly ssh_client: string | null;
}

export function causeOf(row: unknown): StoredCause {
  const columns = row as CauseColumns;
  const stored = { causeId: columns.id as CauseId, at: columns.at, wallMs: columns.wall };
  const { kind, name, reason } = columns;
  if (kind === 'alert') {
    return {
      ...stored,
      kind,
      id: columns.alert_id ?? '',
      rule: columns.rule ?? '',
      priority: columns.priority ?? '',
      hostname: columns.hostname,
      timeMs: columns.alert_time,
      policy: columns.policy,
      policyHash: columns.policy_hash,
      alert: columns.alert,
    };
  }
  const hand = handOf(columns);
  if (kind === 'hand' && hand !== null) return { ...stored, kind, hand, reason };
  return {
    ...stored,
    kind: kind === 'import' || kind === 'feed' || kind === 'restore' ? kind : 'adopted',
    name,
    hand,
    reason,
  };
}

function handOf(columns: CauseColumns): Hand | null {
  if (columns.verb === null || columns.uid === null) return null;
  return {
    verb: columns.verb,
    loginUid: columns.login_uid,
    uid: columns.uid,
    sudoUser: columns.sudo_user,
    tty: columns.tty,
    sshClient: columns.ssh_client,
  };
}
