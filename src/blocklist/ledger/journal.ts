/**
 * Events to rows: the statements inside one transaction. Everything here runs under SQLite's write lock.
 *
 * A cause that is handed over as an object is one target's, and every event of it gets its row of history; a cause by its
 * number is a set's, and what is done to the set is one row with a count, however many slices it takes.
 */
import type { Database } from 'better-sqlite3';
import { everyPort, formatPorts } from '../../address/port.ts';
import type { Owner } from '../claims.ts';
import { keyOfTarget } from './key.ts';
import { type ClaimRow, claimColumns } from './query.ts';
import {
  type Action,
  type BuryEvent,
  type Cause,
  type CauseId,
  type EndEvent,
  type Ends,
  type LedgerEvent,
  longestAlertBytes,
  longestTextBytes,
  type Outcome,
  type WishEvent,
  type WithdrawEvent,
  type Written,
} from './record.ts';

/** What is now, for all events of a transaction. `wallOf`: the wall clock at a moment of ledger time. */
export interface Now {
  readonly ledgerMs: number;
  readonly wallOf: (ledgerMs: number) => number;
}

interface CauseFacts {
  readonly id: CauseId;
  readonly rule: string | null;
  readonly isSet: boolean;
}

interface Line {
  readonly at: number;
  readonly action: Action;
  readonly target: Uint8Array | null;
  readonly owner: Owner | null;
  readonly rule: string | null;
  readonly ends: Ends | null;
  readonly before: Ends | null;
  readonly cause: CauseId | null;
  readonly count: number;
  readonly detail: string | null;
  /** '' = every port; null where no claim is spoken of. */
  readonly ports?: string | null;
}

const nothing: readonly Owner[] = [];
const unchanged: Outcome = { status: 'unchanged', owners: nothing, remaining: nothing };

export type Journal = ReturnType<typeof openJournal>;

/** Prepares what it needs once for a connection. */
export function openJournal(database: Database) {
  const claims = {
    insert: database.prepare(
      `INSERT INTO claims (target, owner, drop_end, count_end, begun, cause, ports, wished_end) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT DO NOTHING`,
    ),
    get: database.prepare<[Uint8Array, string, string], ClaimRow>(
      `SELECT ${claimColumns} FROM claims WHERE target = ? AND owner = ? AND ports = ?`,
    ),
    all: database.prepare<[Uint8Array], ClaimRow>(
      `SELECT ${claimColumns} FROM claims WHERE target = ? ORDER BY owner, ports`,
    ),
    set: database.prepare(
      `UPDATE claims SET drop_end = ?, count_end = ?, begun = ?, cause = ?, wished_end = ?, withdrawn = NULL
       WHERE target = ? AND owner = ? AND ports = ?`,
    ),
    withdraw: database.prepare('UPDATE claims SET withdrawn = ? WHERE target = ? AND owner = ? AND ports = ?'),
    remove: database.prepare('DELETE FROM claims WHERE target = ? AND owner = ? AND ports = ?'),
    bury: database.prepare('DELETE FROM claims WHERE target = ? AND withdrawn IS NOT NULL'),
  };
  const causeInsert = database.prepare(
    `INSERT INTO causes (at, wall, kind, target, name, reason, alert_id, rule, priority, hostname, alert_time, policy,
       policy_hash, alert, verb, login_uid, uid, sudo_user, tty, ssh_client)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const causeFacts = database.prepare<[number], { rule: string | null; is_set: number }>(
    'SELECT rule, target IS NULL AS is_set FROM causes WHERE id = ?',
  );
  const lineInsert = database.prepare(
    `INSERT INTO history (at, wall, action, target, owner, rule, drop_end, count_end, drop_before, count_before, cause, count, detail, ports)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const setInsert = database.prepare<unknown[], { id: number }>(
    `INSERT INTO history (at, wall, action, owner, rule, drop_end, count_end, cause, count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (cause, action, owner) WHERE target IS NULL AND cause IS NOT NULL AND owner IS NOT NULL
     DO UPDATE SET count = count + excluded.count RETURNING id`,
  );

  /** A cause is written when first needed: an event that changes nothing leaves none behind. */
  function insertCause(cause: Cause, target: Uint8Array | null, at: number, now: Now): CauseId {
    const alert = cause.kind === 'alert' ? cause : null;
    const hand = cause.kind === 'alert' ? null : cause.hand;
    const { lastInsertRowid } = causeInsert.run(
      at,
      now.wallOf(at),
      cause.kind,
      target,
      'name' in cause ? cutText(cause.name) : null,
      'reason' in cause ? cutText(cause.reason) : null,
      cutText(alert?.id ?? null),
      cutText(alert?.rule ?? null),
      cutText(alert?.priority ?? null),
      cutText(alert?.hostname ?? null),
      alert?.timeMs ?? null,
      cutText(alert?.policy ?? null),
      cutText(alert?.policyHash ?? null),
      cutText(alert?.alert ?? null, longestAlertBytes),
      cutText(hand?.verb ?? null),
      hand?.loginUid ?? null,
      hand?.uid ?? null,
      cutText(hand?.sudoUser ?? null),
      cutText(hand?.tty ?? null),
      cutText(hand?.sshClient ?? null),
    );
    return Number(lastInsertRowid);
  }

  function addCause(cause: Cause, now: Now): CauseId {
    return insertCause(cause, null, now.ledgerMs, now);
  }

  function apply(events: readonly LedgerEvent[], now: Now): Outcome[] {
    const known = new Map<Cause | CauseId, CauseFacts>();
    const sets = new Map<string, { readonly line: Line; readonly index: number }>();
    /** Of the event that is applied now. */
    let rows: Written[] = [];
    let index = 0;

    const factsById = (id: CauseId): CauseFacts => {
      let facts = known.get(id);
      if (facts === undefined) {
        const row = causeFacts.get(id);
        facts = { id, rule: row?.rule ?? null, isSet: row === undefined || row.is_set === 1 };
        known.set(id, facts);
      }
      return facts;
    };
    // The same object for two targets is two rows: each goes with its own target's history.
    let lastCause: { readonly cause: Cause; readonly target: Uint8Array; readonly facts: CauseFacts } | null = null;
    const factsOf = (cause: Cause | CauseId, target: Uint8Array | null, at: number): CauseFacts => {
      if (typeof cause === 'number') return factsById(cause);
      const rule = cause.kind === 'alert' ? cutText(cause.rule) : null;
      if (target === null) return { id: insertCause(cause, null, at, now), rule, isSet: false };
      if (lastCause?.cause === cause && Buffer.compare(lastCause.target, target) === 0) return lastCause.facts;
      const facts = { id: insertCause(cause, target, at, now), rule, isSet: false };
      lastCause = { cause, target, facts };
      return facts;
    };

    const write = (line: Line): void => {
      const { ends, before, action, owner, rule, cause, count } = line;
      const wallMs = now.wallOf(line.at);
      const { lastInsertRowid } = lineInsert.run(
        line.at,
        wallMs,
        line.action,
        line.target,
        line.owner,
        line.rule,
        ends?.dropEnd ?? null,
        ends?.countEnd ?? null,
        before?.dropEnd ?? null,
        before?.countEnd ?? null,
        line.cause,
        line.count,
        cutText(line.detail),
        line.ports ?? null,
      );
      rows.push({ id: Number(lastInsertRowid), wallMs, action, isOfSet: false, owner, rule, cause, count });
    };
    /** One target's line, or one more in the set's. */
    const tell = (line: Line, cause: CauseFacts): void => {
      if (!cause.isSet || line.owner === null) {
        write(line);
        return;
      }
      const key = `${line.action} ${line.cause} ${line.owner}`;
      const before = sets.get(key)?.line;
      const added = before === undefined ? { ...line, target: null } : { ...before, count: before.count + line.count };
      sets.set(key, { line: added, index });
    };
    const line = (
      action: Action,
      at: number,
      target: Uint8Array,
      owner: Owner,
      cause: CauseFacts,
      ends: Ends | null,
      before: Ends | null,
      ports: string,
    ): void =>
      tell(
        { at, action, target, owner, rule: cause.rule, ends, before, cause: cause.id, count: 1, detail: null, ports },
        cause,
      );

    const wish = (event: WishEvent, at: number): Outcome => {
      const { owner, dropEnd, countEnd } = event;
      for (const number of [dropEnd, countEnd]) {
        if (!Number.isSafeInteger(number) || number < 0) throw new RangeError(`${number} is no end`);
      }
      const ports = formatPorts(event.ports ?? everyPort);
      const wished = event.wishedEnd ?? null;
      const target = keyOfTarget(event.target);
      const { unlessWithdrawnSince } = event;
      if (unlessWithdrawnSince !== undefined) {
        const since = unlessWithdrawnSince;
        const isWithdrawn = claims.all.all(target).some((row) => row.withdrawn !== null && row.withdrawn >= since);
        if (isWithdrawn) return { status: 'void', owners: nothing, remaining: nothing };
      }
      const made = event.adopted === true ? 'adopted' : 'made';
      const touched = [owner];
      if (event.replace === true) takeBackOthers(event, target, ports, at);
      if (typeof event.cause === 'number') {
        // The way of large sets: one statement where there is no such claim.
        if (claims.insert.run(target, owner, dropEnd, countEnd, at, event.cause, ports, wished).changes === 1) {
          line(made, at, target, owner, factsById(event.cause), event, null, ports);
          return { status: made, owners: touched, remaining: nothing };
        }
      }
      const row = claims.get.get(target, owner, ports);
      if (row === undefined) {
        const cause = factsOf(event.cause, target, at);
        claims.insert.run(target, owner, dropEnd, countEnd, at, cause.id, ports, wished);
        line(made, at, target, owner, cause, event, null, ports);
        return { status: made, owners: touched, remaining: nothing };
      }
      const before = endsOf(row);
      if (row.withdrawn !== null || !isLiveAt(row, at)) {
        const cause = factsOf(event.cause, target, at);
        // Nobody has seen it end.
        if (row.withdrawn === null) line('ended', at, target, owner, factsById(row.cause), null, before, ports);
        claims.set.run(dropEnd, countEnd, at, cause.id, wished, target, owner, ports);
        line(made, at, target, owner, cause, event, null, ports);
        return { status: made, owners: touched, remaining: nothing };
      }
      const ends: Ends =
        event.replace === true
          ? { dropEnd, countEnd }
          : { dropEnd: Math.max(row.drop_end, dropEnd), countEnd: Math.max(row.count_end, countEnd) };
      // What is confirmed by its end needs no confirmation any more; what was to be confirmed longer stays so.
      const last = Math.max(ends.dropEnd, ends.countEnd);
      const longest = event.replace === true ? wished : Math.max(row.wished_end ?? 0, wished ?? 0);
      const newWished = longest !== null && longest > last ? longest : null;
      const isSame = ends.dropEnd === row.drop_end && ends.countEnd === row.count_end;
      if (isSame && newWished === row.wished_end) return unchanged;
      const cause = factsOf(event.cause, target, at);
      const action = event.replace !== true ? 'extended' : event.undo === true ? 'undone' : 'replaced';
      claims.set.run(ends.dropEnd, ends.countEnd, row.begun, cause.id, newWished, target, owner, ports);
      line(action, at, target, owner, cause, ends, before, ports);
      return { status: action, owners: touched, remaining: nothing };
    };

    /** The owner's live claims of other ports go: what replaces them is in the map already. */
    const takeBackOthers = (event: WishEvent, target: Uint8Array, ports: string, at: number): void => {
      for (const row of claims.all.all(target)) {
        if (row.owner !== event.owner || row.ports === ports || row.withdrawn !== null) continue;
        claims.remove.run(target, row.owner, row.ports);
        const action = isLiveAt(row, at) ? 'withdrawn' : 'ended';
        line(action, at, target, event.owner, factsOf(event.cause, target, at), null, endsOf(row), row.ports);
      }
    };

    const withdraw = (event: WithdrawEvent, at: number): Outcome => {
      const target = keyOfTarget(event.target);
      const { owners: whose, action = 'withdrawn' } = event;
      const isMeant = (owner: string): boolean =>
        whose === 'all' || (whose === 'all_but_feeds' ? !owner.startsWith('feed:') : whose.includes(owner as Owner));
      const owners: Owner[] = [];
      const remaining: Owner[] = [];
      let isMarked = false;
      for (const row of claims.all.all(target)) {
        const owner = row.owner as Owner;
        if (row.withdrawn !== null) {
          claims.withdraw.run(at, target, owner, row.ports);
          isMarked = true;
        } else if (isMeant(owner)) {
          const cause = factsOf(event.cause, target, at);
          const wasLive = isLiveAt(row, at);
          claims.withdraw.run(at, target, owner, row.ports);
          isMarked = true;
          const { rule } = factsById(row.cause);
          line(wasLive ? action : 'ended', at, target, owner, { ...cause, rule }, null, endsOf(row), row.ports);
          if (wasLive) owners.push(owner);
        } else if (isLiveAt(row, at)) {
          remaining.push(owner);
        }
      }
      if (!isMarked && remaining.length === 0) {
        // Nobody's that the ledger knew of.
        const cause = factsOf(event.cause, target, at);
        claims.insert.run(target, 'hand', 0, 0, at, cause.id, '', null);
        claims.withdraw.run(at, target, 'hand', '');
        const nobodys = { owner: null, rule: null, ends: null, before: null, count: 1, detail: 'unknown' };
        write({ ...nobodys, at, action, target, cause: cause.id });
        return { status: action, owners, remaining };
      }
      return { status: owners.length > 0 ? action : 'unchanged', owners, remaining };
    };

    const bury = (event: BuryEvent): Outcome =>
      claims.bury.run(keyOfTarget(event.target)).changes > 0
        ? { status: 'buried', owners: nothing, remaining: nothing }
        : unchanged;

    const end = (event: EndEvent, at: number): Outcome => {
      const target = keyOfTarget(event.target);
      const owners: Owner[] = [];
      const remaining: Owner[] = [];
      for (const row of claims.all.all(target)) {
        if (row.withdrawn !== null) continue;
        const owner = row.owner as Owner;
        if (isLiveAt(row, at)) {
          remaining.push(owner);
          continue;
        }
        claims.remove.run(target, owner, row.ports);
        line('ended', at, target, owner, factsById(row.cause), null, endsOf(row), row.ports);
        owners.push(owner);
      }
      return { status: owners.length > 0 ? 'ended' : 'unchanged', owners, remaining };
    };

    const applyOne = (event: LedgerEvent): Outcome => {
      const at = Math.floor(event.at ?? now.ledgerMs);
      switch (event.kind) {
        case 'wish':
          return wish(event, at);
        case 'withdraw':
          return withdraw(event, at);
        case 'bury':
          return bury(event);
        case 'end':
          return end(event, at);
        case 'refuse': {
          const target = event.target === null ? null : keyOfTarget(event.target);
          const cause = factsOf(event.cause, target, at);
          const { owner, detail, ends = null, count = 1 } = event;
          const { id, rule } = cause;
          write({ at, action: 'refused', target, owner, rule, ends, before: null, cause: id, count, detail });
          return { status: 'refused', owners: nothing, remaining: nothing };
        }
        case 'note': {
          const target = event.target === null ? null : keyOfTarget(event.target);
          const { action, owner, count, detail } = event;
          const cause = event.cause === undefined ? null : factsOf(event.cause, target, at).id;
          write({ at, action, target, owner, rule: null, ends: null, before: null, cause, count, detail });
          return { status: action, owners: nothing, remaining: nothing };
        }
      }
    };
    const outcomes = events.map((event, at) => {
      rows = [];
      index = at;
      const outcome = applyOne(event);
      return rows.length === 0 ? outcome : { ...outcome, rows };
    });

    for (const { line: ofSet, index: last } of sets.values()) {
      const { at, action, owner, rule, ends, cause, count } = ofSet;
      const wallMs = now.wallOf(at);
      const [drop, counted] = [ends?.dropEnd ?? null, ends?.countEnd ?? null];
      const row = setInsert.get(at, wallMs, action, owner, rule, drop, counted, cause, count);
      const outcome = outcomes[last];
      if (row === undefined || outcome === undefined) continue;
      const written = { id: row.id, wallMs, action, isOfSet: true, owner, rule, cause, count };
      outcomes[last] = { ...outcome, rows: [...(outcome.rows ?? []), written] };
    }
    return outcomes;
  }

  return { apply, addCause };
}

function endsOf(row: ClaimRow): Ends {
  return { dropEnd: row.drop_end, countEnd: row.count_end };
}

function isLiveAt(row: ClaimRow, at: number): boolean {
  return at < row.drop_end || at < row.count_end;
}

/** At most so many bytes of UTF-8, never half a character. */
function cutText(text: string | null, longest = longestTextBytes): string | null {
  if (text === null || text.length * 3 <= longest) return text;
  const bytes = Buffer.from(text);
  if (bytes.length <= longest) return text;
  let end = longest;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.toString('utf8', 0, end);
}
