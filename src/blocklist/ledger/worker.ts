/**
 * The thread that writes the ledger for the daemon: commits in groups, keeps what cannot be written now, and tries again.
 * An entry point of its own in the bundle; writer.ts starts it.
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { FalcodropError } from '../../errors.ts';
import { moveAside, pruneAside } from './aside.ts';
import { isLedgerFailure } from './failure.ts';
import { identityOf } from './files.ts';
import { Ledger } from './ledger.ts';
import type { FromThread, Post, ThreadData, ToldError, ToThread } from './message.ts';
import type { Outcome } from './record.ts';

/** Events a commit, unless one post has more. Some 20 ms, for which a hand's command waits. */
const groupLimit = 2_000;

const retryMs = { first: 100, last: 5_000 };

/** How often the time is written down when nothing else is: what a reboot believes. */
const tickEveryMs = 30_000;
const pruneEveryMs = 3_600_000;

function told(error: unknown): ToldError {
  if (error instanceof FalcodropError) return { code: error.code, message: error.message, hint: error.hint };
  return { code: null, message: error instanceof Error ? error.message : String(error), hint: undefined };
}

function serve(
  data: ThreadData['falcodropLedger'],
  say: (message: FromThread) => void,
  end: () => void,
): (message: ToThread) => void {
  const { stateDir, service, patienceMs, gatherMs, retention } = data;
  const waiting: Post[] = [];
  let ledger: Ledger | null = null;
  let movedAside: string | null = null;
  let openIdentity: string | null = null;
  let retryAfterMs = retryMs.first;
  let isTroubled = false;
  let isClosing = false;
  let lastCommit = Number.NEGATIVE_INFINITY;
  let timer: NodeJS.Timeout | null = null;

  const schedule = (afterMs: number): void => {
    timer ??= setTimeout(() => {
      timer = null;
      work();
    }, afterMs);
  };

  /**
   * A damaged ledger makes room for a new one at once; everything else is waited out. `found`: the file that was there before. An
   * open one failed itself, which another may have moved aside since.
   */
  const fail = (error: unknown, found: string | null): void => {
    const bad = ledger === null ? found : ledger.identity;
    ledger?.close();
    ledger = null;
    say({ trouble: told(error) });
    isTroubled = true;
    if (error instanceof FalcodropError && (error.code === 'ledger_corrupt' || error.code === 'ledger_not_database')) {
      try {
        movedAside = moveAside(stateDir, { service, bad, wallMs: Date.now() }) ?? movedAside;
        schedule(0);
        return;
      } catch (another) {
        say({ trouble: told(another) });
      }
    }
    if (isClosing) {
      // Who closes has waited for one more try; the writer tells what was not written.
      finish();
      return;
    }
    schedule(retryAfterMs);
    retryAfterMs = Math.min(retryMs.last, retryAfterMs * 2);
  };

  const open = (): Ledger => {
    if (ledger !== null) return ledger;
    ledger = Ledger.open(stateDir, { service, patienceMs });
    // Opening a ledger says nothing about writing.
    ledger.tick();
    const deleted = pruneAside(stateDir, movedAside);
    say({ open: { offsetMs: ledger.offsetMs(), isNew: ledger.isNew || movedAside !== null, movedAside, deleted } });
    openIdentity = ledger.identity;
    movedAside = null;
    isTroubled = false;
    return ledger;
  };

  const applyAll = (into: Ledger, posts: readonly Post[]): readonly Outcome[][] => {
    // Times made by different offsets, only around a restore, go one by one.
    const [first] = posts;
    if (first !== undefined && posts.every(({ offsetMs }) => offsetMs === first.offsetMs)) {
      const outcomes = into.apply(
        posts.flatMap(({ events }) => events),
        { stampedOffsetMs: first.offsetMs ?? 0 },
      );
      let from = 0;
      return posts.map(({ events }) => {
        const own = outcomes.slice(from, from + events.length);
        from += events.length;
        return own;
      });
    }
    return posts.map(({ events, offsetMs }) => into.apply(events, { stampedOffsetMs: offsetMs ?? 0 }));
  };

  const commit = (into: Ledger): void => {
    const group: Post[] = [];
    let events = 0;
    for (const post of waiting) {
      if (group.length > 0 && events + post.events.length > groupLimit) break;
      group.push(post);
      events += post.events.length;
    }
    let done: Extract<FromThread, { done: unknown }>['done'];
    try {
      const outcomes = applyAll(into, group);
      done = group.map(({ n }, index) => ({ n, outcomes: outcomes[index] ?? [], error: null }));
    } catch (error) {
      if (isLedgerFailure(error)) throw error;
      // One of them is wrong in itself: the others must not suffer for it.
      done = group.map((post) => {
        try {
          return { n: post.n, outcomes: applyAll(into, [post])[0] ?? [], error: null };
        } catch (each) {
          if (isLedgerFailure(each)) throw each;
          return { n: post.n, outcomes: null, error: told(each) };
        }
      });
    }
    waiting.splice(0, group.length);
    say({ done, offsetMs: into.offsetMs() });
    retryAfterMs = retryMs.first;
    if (into.identity !== openIdentity) {
      // Somebody moved it aside, and this is another.
      openIdentity = into.identity;
      say({ open: { offsetMs: into.offsetMs(), isNew: true, movedAside: null, deleted: [] } });
    }
  };

  const finish = (): void => {
    ledger?.close();
    ledger = null;
    say({ closed: true });
    end();
  };

  const work = (): void => {
    let found: string | null = null;
    try {
      found = identityOf(stateDir);
      const into = open();
      while (waiting.length > 0) commit(into);
      lastCommit = performance.now();
      if (isClosing) finish();
    } catch (error) {
      fail(error, found);
    }
  };

  const idle = (task: (into: Ledger) => void): void => {
    if (ledger === null || isClosing || isTroubled) return;
    try {
      task(ledger);
    } catch (error) {
      fail(error, null);
    }
  };
  setInterval(() => idle((into) => into.tick()), tickEveryMs).unref();
  // In slices: what is posted meanwhile goes first.
  const prune = (): void =>
    idle((into) => {
      if (waiting.length > 0 || !into.prune(retention).isDone) setImmediate(prune);
    });
  setInterval(prune, pruneEveryMs).unref();

  work();
  return (message) => {
    if ('close' in message) {
      isClosing = true;
      if (timer !== null) clearTimeout(timer);
      timer = null;
      work();
      return;
    }
    waiting.push(message.post);
    // Under load a commit each `gatherMs`; after a pause at once, with what has come in the same turn.
    if (!isTroubled) schedule(Math.max(0, lastCommit + gatherMs - performance.now()));
  };
}

const data = (workerData as Partial<ThreadData> | null)?.falcodropLedger;
if (!isMainThread && parentPort !== null && data !== undefined) {
  const port = parentPort;
  port.on(
    'message',
    serve(
      data,
      (message) => port.postMessage(message),
      () => port.close(),
    ),
  );
}
