/**
 * The daemon's side of the ledger: events go to a thread that commits them in groups, and a promise resolves when they are on the
 * disk. Never blocks the event loop; a ledger that can not be written now keeps nobody from dropping.
 *
 * Events are kept until the thread has said that they are committed, so a full disk, a stranger's lock or a thread that died
 * lose nothing; what is posted beyond the bound is refused (`ledger_behind`), and reconciliation finds it in the maps.
 */
import { Worker } from 'node:worker_threads';
import { type ErrorCode, FalcodropError } from '../../errors.ts';
import { native } from '../../kernel/native.ts';
import type { Service } from './files.ts';
import type { FromThread, Post, ThreadData, ToldError, ToThread } from './message.ts';
import type { LedgerEvent, Outcome } from './record.ts';
import { defaultRetention, type Retention } from './retention.ts';
import { shiftEvent } from './shift.ts';

export interface WriterOptions {
  readonly stateDir: string;
  readonly service: Service;
  /** Events that may wait for the disk. */
  readonly capacity?: number;
  /** Between two commits under load. */
  readonly gatherMs?: number;
  /** How long the thread waits for another process's transaction before it calls that trouble. */
  readonly patienceMs?: number;
  readonly retention?: Retention;
  /** The ledger can not be written: once for each new reason. Events are kept, and it is tried again. */
  readonly onTrouble?: (error: FalcodropError, waiting: number) => void;
  /** It can be written: at the start, and after trouble. */
  readonly onOpen?: (opened: Opened) => void;
}

export interface Opened {
  /** Begun just now: what the maps hold must be made known to it. */
  readonly isNew: boolean;
  /** Where the damaged one lies now; null: there was none. */
  readonly movedAside: string | null;
  /** Names of older ones, and of copies from before migrations, that were deleted. */
  readonly deleted: readonly string[];
}

interface Kept extends Post {
  readonly resolve: (outcomes: readonly Outcome[]) => void;
  readonly reject: (error: Error) => void;
}

const defaultCapacity = 200_000;
const defaultGatherMs = 20;
const defaultPatienceMs = 1_000;
const restartAfterMs = 1_000;

export class LedgerWriter {
  readonly #options: WriterOptions;
  readonly #capacity: number;
  /** Posted and not yet committed, in order. */
  readonly #kept = new Map<number, Kept>();
  #waiting = 0;
  #next = 1;
  #thread: Worker | null = null;
  #restart: NodeJS.Timeout | null = null;
  #offsetMs: number | null = null;
  /** CLOCK_BOOTTIME when the offset was first known: times made before it lack the offset, whenever they are posted. */
  #knownSinceMs = Number.NEGATIVE_INFINITY;
  #trouble: FalcodropError | null = null;
  #flushing: (() => void)[] = [];
  #closing: { readonly promise: Promise<void>; readonly resolve: () => void } | null = null;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#capacity = options.capacity ?? defaultCapacity;
  }

  /** Starts the thread. Whether the ledger could be opened, `onOpen` or `onTrouble` says. */
  start(): void {
    const { stateDir, service, patienceMs = defaultPatienceMs, gatherMs = defaultGatherMs } = this.#options;
    const data: ThreadData = {
      falcodropLedger: {
        stateDir,
        service,
        patienceMs,
        gatherMs,
        retention: this.#options.retention ?? defaultRetention,
      },
    };
    // Run from the sources, or from the bundle in dist/.
    const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './ledger-worker.js';
    const thread = new Worker(new URL(file, import.meta.url), { workerData: data, name: 'falcodrop-ledger' });
    this.#thread = thread;
    let problem = 'it ended';
    thread.on('message', (message: FromThread) => this.#take(message));
    thread.on('error', (error) => {
      problem = error instanceof Error ? error.message : String(error);
    });
    thread.on('exit', () => this.#ended(thread, problem));
    for (const kept of this.#kept.values()) this.#send(kept);
  }

  /**
   * Ledger time, for the events' moments and ends. Before the ledger was open: a time that its own is made of when they are
   * committed.
   */
  now(): number {
    return boottimeMs() + (this.#offsetMs ?? 0);
  }

  /** Events not yet on the disk. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Why nothing can be written now; null when it can. */
  get trouble(): FalcodropError | null {
    return this.#trouble;
  }

  /**
   * Resolves when all of them are on the disk, in one transaction. Rejects with `ledger_behind` when too many wait already, and
   * at the end for what could not be written until then.
   */
  post(events: readonly LedgerEvent[]): Promise<readonly Outcome[]> {
    if (events.length === 0) return Promise.resolve([]);
    if (this.#closing !== null) return Promise.reject(behind('the ledger’s writer is closed', this.#trouble));
    if (this.#waiting + events.length > this.#capacity) {
      return Promise.reject(behind(`${this.#waiting} events wait for the ledger already`, this.#trouble));
    }
    const at = this.now();
    const offsetMs = this.#offsetMs;
    const stamped = events.map((event) => {
      if (event.at === undefined) return { ...event, at };
      return offsetMs !== null && event.at <= this.#knownSinceMs ? shiftEvent(event, offsetMs) : event;
    });
    const n = this.#next++;
    return new Promise((resolve, reject) => {
      const kept: Kept = { n, events: stamped, offsetMs, resolve, reject };
      this.#kept.set(n, kept);
      this.#waiting += events.length;
      this.#send(kept);
    });
  }

  /** Resolves when everything posted so far is on the disk, or was rejected. */
  flush(): Promise<void> {
    if (this.#kept.size === 0) return Promise.resolve();
    const all = [...this.#kept.values()];
    const last = all.at(-1)?.n ?? 0;
    return new Promise((resolve) => {
      const check = (): void => {
        const [first] = this.#kept.keys();
        if (first !== undefined && first <= last) this.#flushing.push(check);
        else resolve();
      };
      check();
    });
  }

  /**
   * Writes what waits and stops the thread. What can not be written within `withinMs` is rejected; the maps hold it, and the next
   * start reconciles.
   */
  close(withinMs = 3_000): Promise<void> {
    if (this.#closing !== null) return this.#closing.promise;
    let resolve = (): void => undefined;
    const promise = new Promise<void>((done) => {
      resolve = done;
    });
    this.#closing = { promise, resolve };
    if (this.#restart !== null) clearTimeout(this.#restart);
    const thread = this.#thread;
    if (thread === null) {
      this.#finish();
      return promise;
    }
    // Its exit finishes.
    const timer = setTimeout(() => void thread.terminate(), withinMs);
    thread.once('exit', () => clearTimeout(timer));
    thread.postMessage({ close: true } satisfies ToThread);
    return promise;
  }

  #setOffset(offsetMs: number): void {
    if (this.#offsetMs === null) this.#knownSinceMs = boottimeMs();
    this.#offsetMs = offsetMs;
  }

  #send({ n, events, offsetMs }: Kept): void {
    this.#thread?.postMessage({ post: { n, events, offsetMs } } satisfies ToThread);
  }

  #take(message: FromThread): void {
    if ('done' in message) {
      this.#setOffset(message.offsetMs);
      for (const { n, outcomes, error } of message.done) {
        const kept = this.#kept.get(n);
        if (kept === undefined) continue;
        this.#forget(kept);
        if (outcomes !== null) kept.resolve(outcomes);
        else kept.reject(errorOf(error));
      }
      this.#wake();
    } else if ('open' in message) {
      this.#setOffset(message.open.offsetMs);
      this.#trouble = null;
      const { isNew, movedAside, deleted } = message.open;
      this.#options.onOpen?.({ isNew, movedAside, deleted });
    } else if ('trouble' in message) {
      this.#inTrouble(errorOf(message.trouble));
    }
  }

  #inTrouble(error: FalcodropError): void {
    const isNews = this.#trouble?.code !== error.code;
    this.#trouble = error;
    if (isNews) this.#options.onTrouble?.(error, this.#waiting);
  }

  #ended(thread: Worker, problem: string): void {
    if (this.#thread !== thread) return;
    this.#thread = null;
    if (this.#closing !== null) {
      this.#finish();
      return;
    }
    this.#inTrouble(
      new FalcodropError('failed', `the thread that writes the ledger failed (${problem}); it is started again`),
    );
    this.#restart = setTimeout(() => {
      this.#restart = null;
      this.start();
    }, restartAfterMs);
  }

  #finish(): void {
    for (const kept of this.#kept.values()) {
      this.#forget(kept);
      kept.reject(behind('the ledger could not be written until the end', this.#trouble));
    }
    this.#wake();
    this.#closing?.resolve();
  }

  #forget(kept: Kept): void {
    this.#kept.delete(kept.n);
    this.#waiting -= kept.events.length;
  }

  #wake(): void {
    const flushing = this.#flushing;
    this.#flushing = [];
    for (const check of flushing) check();
  }
}

function boottimeMs(): number {
  return Number(native().clocks().boottimeNs / 1_000_000n);
}

function errorOf(error: ToldError | null): FalcodropError {
  const code: ErrorCode = error?.code ?? 'failed';
  return new FalcodropError(code, error?.message ?? 'failed', error?.hint);
}

function behind(what: string, trouble: FalcodropError | null): FalcodropError {
  const why = trouble === null ? '' : `: ${trouble.message}`;
  return new FalcodropError(
    'ledger_behind',
    `${what}${why}`,
    trouble?.hint ?? 'drops go on; the disk is too slow for so many',
  );
}
