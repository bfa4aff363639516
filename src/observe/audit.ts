/**
 * The audit: a line for every action, to the system's log and to a file. It never fails and never holds up what it tells of.
 * Hand and daemon both put it around their book (blocklist/claims.ts), so that what is written into the ledger is told, and
 * nothing else.
 */
import { hostname } from 'node:os';
import type { Book } from '../blocklist/claims.ts';
import type { Cause, CauseId, LedgerEvent, Outcome, RefuseEvent } from '../blocklist/ledger/record.ts';
import { AuditFile } from './audit-file.ts';
import { type AuditLine, auditLines, type RootAct, rootActLine, type Scene, sentenceOf } from './audit-line.ts';
import { defaultSockets, type LogSockets, tellSystemLog } from './system-log.ts';
import { harmlessJson } from './text.ts';

export interface AuditOptions {
  readonly stateDir: string;
  readonly service: { readonly uid: number; readonly gid: number };
  readonly maxBytes?: number;
  readonly files?: number;
  /** The file can not be written: said once. A member of the service's group may not, and hears where his lines are. */
  readonly onTrouble?: (message: string) => void;
  /** A set's cause by its number; null: it is not known. */
  readonly causeOf?: (id: CauseId) => Cause | null;
  /** For tests. */
  readonly sockets?: LogSockets;
  readonly wallNow?: () => number;
}

/** UTF-16 units of one text; the ledger keeps no more than that in bytes. */
const longestText = 1024;

export class Audit {
  readonly #file: AuditFile;
  readonly #sockets: LogSockets;
  readonly #causeOf: (id: CauseId) => Cause | null;
  readonly #wallNow: () => number;
  readonly #hostname = hostname();
  /** A set comes in slices, and its cause is asked for once. */
  #lastSet: { readonly id: CauseId; readonly cause: Cause | null } | null = null;

  /** Whether the system's log took the last line. */
  #isHeard = false;

  constructor(options: AuditOptions) {
    const { onTrouble = () => undefined, ...rest } = options;
    this.#file = new AuditFile({
      ...rest,
      onTrouble: (message, isDenied) => onTrouble(isDenied ? this.#deniedText() : message),
    });
    this.#sockets = options.sockets ?? defaultSockets;
    this.#causeOf = options.causeOf ?? (() => null);
    this.#wallNow = options.wallNow ?? Date.now;
  }

  get path(): string {
    return this.#file.path;
  }

  /** What was written into the ledger, and what came of it, in the same order. `ledgerNow`: the ledger's time now, in ms. */
  tell(events: readonly LedgerEvent[], outcomes: readonly Outcome[], ledgerNow: number): void {
    try {
      const wallMs = this.#wallNow();
      const scene: Scene = {
        wallMs,
        hostname: this.#hostname,
        wallOf: (ledgerMs) => wallMs + (ledgerMs - ledgerNow),
      };
      const causeOf = (id: CauseId): Cause | null => this.#causeOfSet(id);
      for (const [index, event] of events.entries()) {
        const outcome = outcomes[index];
        if (outcome?.rows === undefined) continue;
        for (const line of auditLines(event, outcome, causeOf, scene)) this.#write(line);
      }
    } catch {
      // what is told is done already
    }
  }

  /** What there was no ledger to write into: the same line, without a number of the history. */
  tellUnwritten(event: RefuseEvent): void {
    try {
      const { owner, count = 1 } = event;
      const wallMs = this.#wallNow();
      const row = { id: 0, wallMs, action: 'refused', isOfSet: false, owner, rule: null, cause: null, count } as const;
      const scene: Scene = { wallMs, hostname: this.#hostname, wallOf: (ms) => ms };
      const [line = {}] = auditLines(
        event,
        { status: 'refused', owners: [], remaining: [], rows: [row] },
        () => null,
        scene,
      );
      const { 'falcodrop.history.id': _, ...rest } = line;
      this.#write(rest);
    } catch {
      // it is done already
    }
  }

  /** Of root's verbs, which write no ledger. */
  tellRootAct(act: RootAct): void {
    try {
      this.#write(rootActLine(act, { wallMs: this.#wallNow(), hostname: this.#hostname, wallOf: (ms) => ms }));
    } catch {
      // it is done already
    }
  }

  /** Resolves when the file has all of it, or has lost it. */
  flush(): Promise<void> {
    return this.#file.flush();
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #write(line: AuditLine): void {
    const short = Object.fromEntries(
      Object.entries(line).map(([name, value]) => [
        name,
        typeof value === 'string' && value.length > longestText ? `${value.slice(0, longestText - 1)}…` : value,
      ]),
    );
    this.#file.append(harmlessJson(short));
    this.#isHeard = tellSystemLog(sentenceOf(short), short, this.#sockets);
  }

  /** The file is 0640: who may forge what others did is no witness. */
  #deniedText(): string {
    const { path } = this.#file;
    return this.#isHeard
      ? `what you do is told to the system's log alone: ${path} is only root's and the service's to write`
      : `what you do is in the history alone: ${path} is only root's and the service's to write, and there is no system log`;
  }

  #causeOfSet(id: CauseId): Cause | null {
    if (this.#lastSet?.id !== id) this.#lastSet = { id, cause: this.#causeOf(id) };
    return this.#lastSet.cause;
  }
}

/** The same book; what it has written down is told. */
export function audited(book: Book, audit: Audit): Book {
  return {
    now: () => book.now(),
    get trouble() {
      return book.trouble;
    },
    claimsOf: (target) => book.claimsOf(target),
    record(events) {
      const told = (outcomes: readonly Outcome[]): readonly Outcome[] => {
        audit.tell(events, outcomes, book.now());
        return outcomes;
      };
      const outcomes = book.record(events);
      return outcomes instanceof Promise ? outcomes.then(told) : told(outcomes);
    },
  };
}
