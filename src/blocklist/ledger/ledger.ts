/**
 * The ledger: what is wanted, by whom and why, and what was done. SQLite in the state directory, shared by the daemon and the
 * hands; what was applied is on the disk when the call returns.
 *
 * A commit and its way to the disk are two steps, for the disk's sync takes 5 to 100 ms, and neither the lock of the maps nor
 * SQLite's write lock is to be held for it. {@link Ledger.commit} writes into the log (WAL, synchronous=NORMAL) where all
 * processes see it, in the order of the commits; {@link Ledger.sync} then syncs the log through a descriptor of our own, and
 * only after that is anything acknowledged or told. Why that is enough (sqlite.org/walformat.html, wal.c of 3.54):
 *
 * - A commit's frames are in the log file when COMMIT returns. fdatasync writes all of the file that is not on the disk yet,
 *   whoever wrote it; recovery takes frames from the beginning on until one is not whole. So a synced commit brings along
 *   every commit before it, also those of other processes, and what was read there may be built upon.
 * - Where the log was begun anew in between, all its frames were in the database before: a checkpoint with NORMAL syncs the
 *   log, writes back, and syncs the database, and only when it has written back all may somebody begin the log anew.
 * - The log is removed only by the last connection's end, which checkpoints first; ours is open.
 * - Whoever dies between the two steps leaves the commit with the kernel, which writes it in its time. Only the kernel's own
 *   end loses it, with the maps' content, before anybody was told.
 *
 * Synchronous: another process that holds the write lock stalls the caller. The daemon has it in a thread (writer.ts).
 * Import this file dynamically (`await import`) where a verb may do without: it loads SQLite.
 */
import { closeSync, constants, existsSync, fdatasyncSync, lstatSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import type { Prefix } from '../../address/prefix.ts';
import { FalcodropError } from '../../errors.ts';
import { type Anchor, advance, fromWall, offsetOf, type ReadClocks, readClocks, toWall } from './clock.ts';
import { ledgerError, ledgerFailure } from './failure.ts';
import { identityOf, prepareState, type Service } from './files.ts';
import { type Journal, openJournal } from './journal.ts';
import { keyOfTarget, targetOfKey } from './key.ts';
import { checkVersion, latestOf, type Migration, migrate, migrations, snapshot, versionOf } from './migrations.ts';
import {
  type ClaimRow,
  causeOf,
  claimColumns,
  claimOf,
  claimQuery,
  historyOf,
  historyQuery,
  type Query,
} from './query.ts';
import type {
  Cause,
  CauseId,
  Claim,
  ClaimFilter,
  HistoryFilter,
  HistoryRow,
  LedgerEvent,
  Outcome,
  StoredCause,
} from './record.ts';
import { restoreInto } from './restore.ts';
import { defaultRetention, openRetention, type Pruned, type Retention } from './retention.ts';
import { shiftEvent } from './shift.ts';
import { type Union, unionOf } from './union.ts';

export interface LedgerOptions {
  /** Whom the files belong to. */
  readonly service: Service;
  /** For tests. */
  readonly clocks?: ReadClocks;
  /** How long a call waits for another process's transaction, before `ledger_locked`. */
  readonly patienceMs?: number;
  /** False: `ledger_missing` instead of a new, empty ledger. */
  readonly create?: boolean;
  /** Hears of what was committed and is on the disk, and of ledger time then. Must not throw. */
  readonly onApplied?: (events: readonly LedgerEvent[], outcomes: readonly Outcome[], now: number) => void;
  /** For tests. */
  readonly migrations?: readonly Migration[];
  /** For tests: instead of fdatasync of the log. */
  readonly syncLog?: (descriptor: number) => void;
}

/** Everything on one target; where a slice of reconciliation goes on. */
export interface TargetClaims {
  readonly target: Prefix;
  /** Tombstones too. */
  readonly claims: readonly Claim[];
  /** What the map must hold; null: nothing. */
  readonly union: Union | null;
  /** A claim was withdrawn, and the map's entry not yet seen gone. */
  readonly isWithdrawn: boolean;
}

export interface TargetSlice {
  readonly targets: readonly TargetClaims[];
  /** Hand it to the next call; null at the end. */
  readonly next: Uint8Array | null;
}

export interface LedgerSize {
  /** Tombstones too. */
  readonly claims: number;
  readonly tombstones: number;
  readonly history: number;
  readonly bytes: number;
}

const defaultPatienceMs = 5_000;

/** Pages in the log that are worth a checkpoint, SQLite's own default. */
const checkpointPages = 1_000;

type Write = (work: (now: Anchor) => unknown) => unknown;

interface MetaRow {
  readonly boot_id: string;
  readonly boottime: number;
  readonly ledger: number;
  readonly wall: number;
}

/** A database handle and what is prepared on it; replaced as a whole when the file was. */
interface Connection {
  readonly database: Database.Database;
  readonly identity: string | null;
  readonly isNew: boolean;
  readonly journal: Journal;
  readonly retention: ReturnType<typeof openRetention>;
  readonly write: Write;
  readonly meta: Database.Statement<[], MetaRow>;
  /** The log, for its sync. Closing it takes nobody's locks away: SQLite has none on this file. */
  readonly log: number;
  /** Reads on a connection of its own: what iterates does not hold up what is written. */
  reader: Database.Database | null;
}

type Applied = Parameters<NonNullable<LedgerOptions['onApplied']>>;

/** The file is not the one that was opened: it was moved aside, or restored by hand. */
class Moved extends Error {}

/** Loads SQLite's library: for a process that will soon be a user who can not read where it lies. */
export function preloadLedger(): void {
  new Database(':memory:').close();
}

export class Ledger {
  readonly stateDir: string;
  readonly path: string;
  readonly #options: Required<LedgerOptions>;
  #connection: Connection;
  #claimsOf: Database.Statement | null = null;
  /** Committed, and told of when it is on the disk. */
  #unsynced: Applied[] = [];
  #isClosed = false;

  /**
   * Opens, makes what is missing, migrates. Throws `ledger_*` (errors.ts), `not_permitted`; the file is left as it was then.
   */
  static open(stateDir: string, options: LedgerOptions): Ledger {
    const defaults = { clocks: readClocks, patienceMs: defaultPatienceMs, create: true, migrations };
    const whole = { ...defaults, onApplied: () => undefined, syncLog: fdatasyncSync, ...options };
    return new Ledger(stateDir, whole);
  }

  private constructor(stateDir: string, options: Required<LedgerOptions>) {
    this.stateDir = stateDir;
    this.#options = options;
    this.path = prepareState(stateDir, options.service, options);
    this.#connection = this.#connect();
  }

  /** True when this call began it: what the maps hold is not in it yet. */
  get isNew(): boolean {
    return this.#connection.isNew;
  }

  /** Which file it is; another one after somebody moved it aside. */
  get identity(): string | null {
    return this.#connection.identity;
  }

  /** Ledger time. */
  now(): number {
    return this.anchor().ledgerMs;
  }

  /** Now, in both times; for `toWall` and `fromWall` of clock.ts. */
  anchor(): Anchor {
    return this.#attempt(() => advance(lastAnchor(this.#connection), this.#options.clocks()));
  }

  /** What CLOCK_BOOTTIME lacks of ledger time; constant within a boot, unless a backup is restored. */
  offsetMs(): number {
    return offsetOf(this.anchor());
  }

  toWall(ledgerMs: number): number {
    return toWall(this.anchor(), ledgerMs);
  }

  fromWall(wallMs: number): number {
    return fromWall(this.anchor(), wallMs);
  }

  /** Writes down what time it is, so that a reboot knows. Every other write does it too. A long log is written back. */
  tick(): void {
    this.#write(() => undefined);
    this.sync();
  }

  /**
   * One transaction: all of them, or none when it throws; on the disk when it returns. Outcomes in the order of the events.
   * `stampedOffsetMs`: the offset by which their times were made, when it may be another than now.
   */
  apply(events: readonly LedgerEvent[], options: { stampedOffsetMs?: number } = {}): Outcome[] {
    const outcomes = this.commit(events, options);
    this.sync();
    return outcomes;
  }

  /**
   * The same, seen by all when it returns, and not on the disk before {@link sync}: nobody may be told until then. Does not
   * wait for the disk, so it is what is done under the lock of the maps.
   */
  commit(events: readonly LedgerEvent[], { stampedOffsetMs }: { stampedOffsetMs?: number } = {}): Outcome[] {
    const outcomes = this.#write((now) => {
      const shift = stampedOffsetMs === undefined ? 0 : offsetOf(now) - stampedOffsetMs;
      const shifted = shift === 0 ? events : events.map((event) => shiftEvent(event, shift));
      const wallOf = (ledgerMs: number): number => toWall(now, ledgerMs);
      return this.#connection.journal.apply(shifted, { ledgerMs: now.ledgerMs, wallOf });
    });
    this.#unsynced.push([events, outcomes, this.now()]);
    return outcomes;
  }

  /**
   * All that was committed until now, by anybody, is on the disk when it returns. Throws `ledger_io` when the disk fails: then
   * nothing since the last sync is certain. A log that has become long is written back here.
   */
  sync(): void {
    this.#attempt(() => {
      this.#options.syncLog(this.#connection.log);
      const synced = this.#unsynced;
      this.#unsynced = [];
      for (const applied of synced) this.#options.onApplied(...applied);
      this.#checkpoint();
    });
  }

  /**
   * SQLite would do it inside a commit, with the lock held. It waits for nobody: what others still read stays in the log. The
   * first commit after a whole one begins the log anew and syncs its head, also with NORMAL: so there is one at once.
   */
  #checkpoint(): void {
    const { database } = this.#connection;
    try {
      if (pagesInLog(database, 'NOOP').waiting < checkpointPages) return;
      if (pagesInLog(database, 'PASSIVE').waiting === 0) this.#write(() => undefined);
    } catch {
      // A full disk, most likely. It is safe in the log; the next one tries again.
    }
  }

  /**
   * For a set of targets: its number goes into their events, and its history is one row with a count. It is on the disk with the
   * first of them, for it stands before it in the log.
   */
  addCause(cause: Cause): CauseId {
    return this.#write((now) =>
      this.#connection.journal.addCause(cause, { ledgerMs: now.ledgerMs, wallOf: (ledgerMs) => toWall(now, ledgerMs) }),
    );
  }

  /** All of one target's, tombstones too, by owner. */
  claimsOf(target: Prefix): Claim[] {
    const key = keyOfTarget(target);
    return this.#attempt(() => {
      const reader = this.#reader();
      // Asked for every target that is unblocked: prepared once a connection.
      if (this.#claimsOf?.database !== reader) {
        const sql = `SELECT ${claimColumns} FROM claims WHERE target = ? ORDER BY owner, ports`;
        this.#claimsOf = reader.prepare(sql);
      }
      return this.#claimsOf.all(key).map((row) => this.#read(row, claimFromRow));
    });
  }

  /** What the map must hold for a target, now. */
  unionOf(target: Prefix): Union | null {
    return unionOf(this.claimsOf(target), this.now());
  }

  /** Streams; writing goes on meanwhile, and is not seen. */
  claims(filter: ClaimFilter = {}): Generator<Claim> {
    return this.#rows(claimQuery(filter, this.anchor()), claimFromRow);
  }

  /** Streams; the newest first, unless `oldestFirst`. */
  history(filter: HistoryFilter = {}): Generator<HistoryRow> {
    return this.#rows(historyQuery(filter), historyOf);
  }

  cause(id: CauseId): StoredCause | null {
    const [cause = null] = this.#rows({ sql: 'SELECT * FROM causes WHERE id = ?', values: [id] }, causeOf);
    return cause;
  }

  /** At most `limit` targets after a key (null: from the beginning), in order; each with what the map must hold. */
  targets(after: Uint8Array | null, limit: number): TargetSlice {
    const sql = `SELECT ${claimColumns} FROM claims WHERE target > ? ORDER BY target, owner, ports`;
    const now = this.now();
    const targets: TargetClaims[] = [];
    let key: Uint8Array | null = null;
    let claims: Claim[] = [];
    const finish = (): void => {
      if (key === null) return;
      const isWithdrawn = claims.some((claim) => claim.withdrawnAt !== null);
      targets.push({ target: targetOfKey(key), claims, union: unionOf(claims, now), isWithdrawn });
    };
    const read = (row: unknown): [Uint8Array, Claim] => [(row as ClaimRow).target, claimFromRow(row)];
    for (const [of, claim] of this.#rows({ sql, values: [after ?? Buffer.alloc(0)] }, read)) {
      if (key === null || Buffer.compare(key, of) !== 0) {
        finish();
        if (targets.length === limit) return { targets, next: key };
        key = of;
        claims = [];
      }
      claims.push(claim);
    }
    finish();
    return { targets, next: null };
  }

  /** Claims that wait to be confirmed, ended ones too. */
  wished(): Generator<Claim> {
    const sql = `SELECT ${claimColumns} FROM claims WHERE wished_end IS NOT NULL AND withdrawn IS NULL`;
    return this.#rows({ sql, values: [] }, claimFromRow);
  }

  /** Targets with a withdrawn claim whose entry was not yet seen gone, each once. */
  tombstones(): Generator<Prefix> {
    const sql = 'SELECT DISTINCT target FROM claims WHERE withdrawn IS NOT NULL';
    return this.#rows({ sql, values: [] }, (row) => targetOfKey((row as ClaimRow).target));
  }

  size(): LedgerSize {
    const sql = `SELECT (SELECT count(*) FROM claims) AS claims, (SELECT count(*) FROM history) AS history,
      (SELECT count(*) FROM claims WHERE withdrawn IS NOT NULL) AS tombstones`;
    const [counts] = this.#rows({ sql, values: [] }, (row) => row as Omit<LedgerSize, 'bytes'>);
    const { claims = 0, tombstones = 0, history = 0 } = counts ?? {};
    return { claims, tombstones, history, bytes: this.#attempt(() => this.#connection.retention.bytes()) };
  }

  /** One slice of what is too old or too much; call it again until `isDone`. */
  prune(retention: Retention = defaultRetention): Pruned {
    const pruned = this.#write((now) => this.#connection.retention.prune(retention, now.ledgerMs));
    this.sync();
    if (!pruned.isDone) return pruned;
    const unused = this.#attempt(() => this.#connection.retention.unusedCauses(this.#reader(), this.now()));
    if (unused.length === 0) return pruned;
    return { ...pruned, causes: this.#write(() => this.#connection.retention.removeCauses(unused)) };
  }

  /** Reads the whole file, about a second for a million claims. Throws `ledger_corrupt`. */
  check(): void {
    this.#attempt(() => {
      const found = this.#reader().pragma('integrity_check(1)', { simple: true });
      if (found !== 'ok') throw ledgerError('ledger_corrupt', this.path, new Error(String(found)));
    });
  }

  /** A copy of what is in it now, 0600 and the caller's; a file of that name is replaced. Throws `ledger_backup`. */
  backup(file: string): void {
    this.tick();
    try {
      const taken = lstatSync(file, { throwIfNoEntry: false });
      if (taken !== undefined && !taken.isFile()) throw new Error('it is there and no regular file');
      snapshot(this.#reader(), file, null);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new FalcodropError(
        'ledger_backup',
        `no backup could be written to ${file}: ${why}`,
        'name another place',
        error,
      );
    }
  }

  /**
   * Everything in it becomes what the backup holds, in one transaction; those who have the ledger open see it at once. An older
   * backup is migrated on the way. Throws `ledger_missing`, `ledger_not_database`, `ledger_corrupt`, `ledger_newer`, each naming
   * the file; then nothing has changed. `name`: what the history calls it. Returns the number of its row there.
   */
  restore(file: string, name = file): number {
    // Fails here where it can not be written, and on the file that has the name now.
    this.tick();
    const row = restoreInto(this.#connection.database, file, {
      name,
      path: this.path,
      service: this.#options.service,
      migrations: this.#options.migrations,
      clocks: this.#options.clocks,
      write: (work) => this.#write(work),
    });
    this.sync();
    return row;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    disconnect(this.#connection);
  }

  #connect(): Connection {
    const { path } = this;
    const { patienceMs, service, clocks, migrations: all } = this.#options;
    let database: Database.Database | null = null;
    try {
      const identity = identityOf(this.stateDir);
      // Read-only at first: who only looks at a newer ledger must not change it, and closing one writes its log back.
      const probe = new Database(path, { readonly: true, fileMustExist: true, timeout: patienceMs });
      try {
        checkVersion(probe, path, all, existsSync);
      } finally {
        probe.close();
      }
      const open = (): Database.Database => {
        const opened = new Database(path, { fileMustExist: true, timeout: patienceMs });
        opened.pragma('wal_autocheckpoint = 0');
        return opened;
      };
      database = open();
      const { isNew, write } = prepare(database, {
        path,
        service,
        all,
        second: open,
        clocks,
        isFile: () => identityOf(this.stateDir) === identity,
      });
      // SQLite has made it by now, and nobody removes it while this connection is open.
      const log = openSync(`${path}-wal`, constants.O_RDONLY | constants.O_NOFOLLOW);
      if (identityOf(this.stateDir) !== identity) {
        // Moved aside a moment ago: the log may be of the one that came after.
        closeSync(log);
        database.close();
        database = null;
        prepareState(this.stateDir, service, this.#options);
        return this.#connect();
      }
      return {
        database,
        identity,
        isNew,
        log,
        write,
        journal: openJournal(database),
        retention: openRetention(database),
        meta: metaStatement(database),
        reader: null,
      };
    } catch (error) {
      database?.close();
      throw ledgerFailure(error, path);
    }
  }

  /** How an old file failed, a damaged one that a hand has moved aside, says nothing of the one that has its place now. */
  #write<T>(work: (now: Anchor) => T): T {
    return this.#attempt(() => {
      try {
        return this.#connection.write(work) as T;
      } catch (error) {
        if (!(error instanceof Moved) && identityOf(this.stateDir) === this.#connection.identity) throw error;
        this.#reconnect();
        return this.#connection.write(work) as T;
      }
    });
  }

  /** Nothing was kept of what was written to the old file; who moved it makes the maps known to the new one. */
  #reconnect(): void {
    prepareState(this.stateDir, this.#options.service, this.#options);
    const old = this.#connection;
    this.#connection = this.#connect();
    disconnect(old);
  }

  *#rows<T>({ sql, values }: Query, read: (row: unknown) => T): Generator<T> {
    try {
      for (const row of this.#reader()
        .prepare(sql)
        .iterate(...values)) {
        yield this.#read(row, read);
      }
    } catch (error) {
      throw ledgerFailure(error, this.path);
    }
  }

  #read<T>(row: unknown, read: (row: unknown) => T): T {
    try {
      return read(row);
    } catch (error) {
      throw error instanceof RangeError ? ledgerError('ledger_corrupt', this.path, error) : error;
    }
  }

  #reader(): Database.Database {
    if (this.#isClosed) throw new Error('the ledger is closed');
    if (identityOf(this.stateDir) !== this.#connection.identity) this.#reconnect();
    const connection = this.#connection;
    if (connection.reader === null) {
      connection.reader = new Database(this.path, {
        readonly: true,
        fileMustExist: true,
        timeout: this.#options.patienceMs,
      });
      // Sorting must not depend on a folder for temporary files that a confined service may write.
      connection.reader.pragma('temp_store = MEMORY');
    }
    return connection.reader;
  }

  #attempt<T>(work: () => T): T {
    if (this.#isClosed) throw new Error('the ledger is closed');
    try {
      return work();
    } catch (error) {
      throw ledgerFailure(error, this.path);
    }
  }
}

interface Preparing {
  readonly path: string;
  readonly service: Service;
  readonly all: readonly Migration[];
  readonly second: () => Database.Database;
  readonly clocks: ReadClocks;
  /** Whether the file that was opened still has its name. */
  readonly isFile: () => boolean;
}

/** Modes, version and time of a fresh handle; and the one way to write through it. */
function prepare(
  database: Database.Database,
  { path, service, all, second, clocks, isFile }: Preparing,
): { readonly isNew: boolean; readonly write: Write } {
  // Before the first page is written, else it has no effect; pruning gives pages back to the disk.
  if (versionOf(database) === 0) database.pragma('auto_vacuum = INCREMENTAL');
  const mode = database.pragma('journal_mode = WAL', { simple: true });
  if (mode !== 'wal') throw ledgerError('ledger_io', path, new Error(`journal mode ${String(mode)}`));
  // What is written below has nobody who syncs it.
  database.pragma('synchronous = FULL');
  database.pragma('foreign_keys = OFF');
  // What one large transaction needed is given back.
  database.pragma(`journal_size_limit = ${16 * 1024 * 1024}`);
  const isNew = migrate(database, path, service, { all, second });

  const latest = latestOf(all);
  const meta = metaStatement(database);
  const version = database.prepare<[], number>('PRAGMA user_version').pluck();
  const setMeta = database.prepare(
    `INSERT INTO meta (id, boot_id, boottime, ledger, wall) VALUES (1, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET boot_id = excluded.boot_id, boottime = excluded.boottime, ledger = excluded.ledger, wall = excluded.wall`,
  );
  const transaction = database.transaction((work: (now: Anchor) => unknown): unknown => {
    if (!isFile()) throw new Moved();
    // A newer falcodrop has migrated it under us.
    if (version.get() !== latest) checkVersion(database, path, all, existsSync);
    const row = meta.get();
    const now = advance(row === undefined ? null : anchorOf(row), clocks());
    // Before the work: a restore sets another time.
    setMeta.run(now.bootId, now.boottimeMs, now.ledgerMs, now.wallMs);
    return work(now);
  });
  const write: Write = (work) => transaction.immediate(work);
  // A new boot's time begins with the first who opens it, for all.
  const row = meta.get();
  if (row?.boot_id !== clocks().bootId) write(() => undefined);
  database.pragma('synchronous = NORMAL');
  return { isNew, write };
}

function metaStatement(database: Database.Database): Database.Statement<[], MetaRow> {
  return database.prepare<[], MetaRow>('SELECT boot_id, boottime, ledger, wall FROM meta WHERE id = 1');
}

function anchorOf(row: MetaRow): Anchor {
  return { bootId: row.boot_id, boottimeMs: row.boottime, ledgerMs: row.ledger, wallMs: row.wall };
}

function lastAnchor({ meta }: Connection): Anchor | null {
  const row = meta.get();
  return row === undefined ? null : anchorOf(row);
}

/** Not yet in the database, after a checkpoint of that kind; NOOP only looks. */
function pagesInLog(database: Database.Database, mode: 'NOOP' | 'PASSIVE'): { readonly waiting: number } {
  const [row] = database.pragma(`wal_checkpoint(${mode})`) as { readonly log: number; readonly checkpointed: number }[];
  return { waiting: row === undefined ? 0 : row.log - row.checkpointed };
}

function disconnect({ database, log, reader }: Connection): void {
  closeSync(log);
  try {
    reader?.close();
  } catch {
    // somebody still iterates; the process's end closes it
  }
  database.close();
}

const claimFromRow = (row: unknown): Claim => claimOf(row as ClaimRow);
