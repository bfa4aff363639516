/**
 * The life of `falcodrop run`: open what is pinned, know this host, take alerts, judge, act; at the end take no more, finish
 * what was taken, and go. Drops go on without it.
 */
import { Blocklist } from '../blocklist/blocklist.ts';
import type { Config } from '../config/config.ts';
import { FalcodropError } from '../errors.ts';
import type { HostReading } from '../host/facts.ts';
import { type HttpSource, serveHttp } from '../sources/http.ts';
import { Intake } from '../sources/intake.ts';
import { wallClock } from '../time/clock.ts';
import { describe, openAlerts } from './alerts.ts';
import { type DaemonBook, openBook } from './book.ts';
import { type Log, type Logger, openLog } from './log.ts';
import { notify } from './notify.ts';
import { cleanText } from './text.ts';
import { warmUp } from './warm.ts';

export type DaemonBlocklist = Pick<Blocklist, 'blockAtOnce' | 'settle' | 'reap' | 'close'>;

export interface DaemonOptions {
  readonly config: Config;
  readonly pinDir: string;
  /** For the ledger. */
  readonly stateDir: string;
  /** Makes maps and ledger equal, in a process of its own; at the start, now and then, and when the ledger was begun anew. */
  readonly reconcile?: (signal: AbortSignal) => Promise<void>;
  /** Aborted = stop, as SIGTERM and SIGINT do. */
  readonly signal?: AbortSignal;
  /** Instead of the pinned maps, and of stderr; for tests. */
  readonly open?: (pinDir: string) => DaemonBlocklist;
  readonly log?: Log;
}

const reapEveryMs = 10_000;

const reconcileEveryMs = 10 * 60_000;

/** From the signal to the end. systemd would kill after 90 s; an operator who restarts waits for nothing. */
const stopWithinMs = 5_000;

/** Of that, for requests that have begun. */
const requestGraceMs = 1_000;

/**
 * Resolves when it has stopped. Rejects, with nothing left open, when it can not start: `pin_dir_missing`,
 * `not_permitted`, `layout_mismatch`, `listen_failed`, `addon_missing`.
 */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { config, pinDir, signal, open, log = openLog() } = options;
  const { logger } = log;
  const stop = listenForStop(signal, () => logger.warn('SIGHUP: the configuration is read at the start only'));
  const closers: (() => void | Promise<void>)[] = [];
  try {
    const stopping = new AbortController();
    let isOver = false;
    const say = (error: unknown, what: string): void => {
      // What the stop cut short, the next start does; it is said once, and not after the last word.
      const isCutShort = stopping.signal.aborted && error instanceof FalcodropError && error.code === 'ledger_behind';
      if (!isOver && !isCutShort) logger.error(describe(error), what);
    };
    const reconciling = every(
      reconcileEveryMs,
      async () => {
        if (!stopping.signal.aborted) await options.reconcile?.(stopping.signal);
      },
      (error) => {
        if (!stopping.signal.aborted) say(error, 'not reconciled');
      },
    );
    closers.push(reconciling.stop, () => stopping.abort());
    const { blocklist, book } =
      open === undefined
        ? openBlocklist(options, logger, closers, reconciling.now)
        : { blocklist: open(pinDir), book: null };
    closers.push(() => blocklist.close());

    // A file of its own in the bundle, for it is also what the thread runs.
    const { watchHost } = await import('../host/watch.ts');
    const host = watchHost({
      pinDir,
      aliases: config.hostAliases,
      onFacts: (facts) => logger.info(factCounts(facts), 'host changed'),
      onProblem: (problem) => logger.warn({ problem: cleanText(problem, 500) }, 'host not read'),
    });
    closers.push(host.close);
    logger.info({ ...factCounts(host.facts()), names: [...(host.facts().names ?? [])] }, 'host');

    await warmUp(config, host.facts());

    const settling = settler(blocklist, (error) => say(error, 'blocks not verified yet'));
    const alerts = openAlerts({
      facts: host.facts,
      rules: config.rules,
      state: { automatic: config.automatic },
      blocklist,
      logger,
      clock: wallClock,
      onWritten: settling.soon,
    });
    closers.push(alerts.endPeriod);
    const intake = new Intake(alerts.take);

    let http: HttpSource | null = null;
    if (config.http.enabled) {
      const { address, port, maxBody, maxConnections } = config.http;
      http = await serveHttp({ address, port, intake, limits: { maxBody, maxConnections } });
      const source = http;
      closers.push(() => source.close(0));
      logger.info({ address: http.address, port: http.port }, 'listening');
    } else {
      logger.warn('no source of alerts is enabled');
    }

    const reaping = every(
      reapEveryMs,
      async () => {
        await settling.now();
        const reaped = await blocklist.reap();
        if (reaped > 0) logger.info({ reaped }, 'reaped');
      },
      (error) => say(error, 'not reaped'),
    );
    closers.push(reaping.stop);

    logger.info({ automatic: config.automatic, pinDir }, 'ready');
    notify('READY=1\nSTATUS=taking alerts');
    const why = await stop.reason;

    notify('STOPPING=1');
    logger.info({ why }, 'stopping');
    stopping.abort();
    const isDone = await within(stopWithinMs, async () => {
      await http?.close(requestGraceMs);
      await intake.idle();
      const settled = settling.now();
      // A ledger that can not be written would be waited for in vain: it is tried once more, and then let go.
      await Promise.race([settled, ...(book === null ? [] : [book.troubled()])]);
      await book?.close();
      await settled;
    });
    if (!isDone) logger.warn({ waiting: intake.waiting }, 'stopped before all was done');
    const trouble = book?.trouble ?? null;
    if (trouble !== null)
      logger.warn(describe(trouble), 'the ledger lacks what the maps hold: the next start writes it down');
    alerts.endPeriod();
    isOver = true;
    logger.info({ sources: intake.counts(), alerts: alerts.counts() }, 'stopped');
  } finally {
    for (const close of closers.toReversed()) await close();
    stop.release();
    log.flush();
  }
}

function factCounts(facts: HostReading): Record<string, unknown> {
  return {
    own: facts.own.prefixes.length,
    containers: facts.containers.prefixes.length,
    gateways: facts.gateways.prefixes.length,
    resolvers: facts.resolvers.prefixes.length,
    sessions: facts.sessions.prefixes.length,
    ...(facts.unresolvable.length === 0
      ? {}
      : { unprotectedSessions: facts.unresolvable.slice(0, 10).map((name) => cleanText(name, 64)) }),
  };
}

/** Between a block and its verification: each takes the lock and looks at the pins again, which many blocks share. */
const gatherMs = 5;

/** Verifies what was written: once after a slice of alerts, not once an alert. */
function settler(
  blocklist: Pick<Blocklist, 'settle'>,
  onError: (error: unknown) => void,
): { readonly soon: () => void; readonly now: () => Promise<void> } {
  let isDue = false;
  const now = async (): Promise<void> => {
    isDue = false;
    try {
      await blocklist.settle();
    } catch (error) {
      onError(error);
    }
  };
  return {
    now,
    soon: () => {
      if (isDue) return;
      isDue = true;
      setTimeout(() => void now(), gatherMs);
    },
  };
}

/** The block list on the pinned maps, with its ledger. Whether that can be opened is said later, and nobody waits for it. */
function openBlocklist(
  { pinDir, stateDir }: DaemonOptions,
  logger: Logger,
  closers: (() => void | Promise<void>)[],
  reconcileNow: () => void,
): { readonly blocklist: Blocklist; readonly book: DaemonBook } {
  const book = openBook({ pinDir, stateDir, logger, onOpen: reconcileNow });
  closers.push(() => book.close());
  const blocklist = Blocklist.open(pinDir, {
    book,
    onClock: (movedNs) =>
      logger.warn({ movedMs: Number(movedNs / 1_000_000n) }, 'suspended: the clock of all ends was moved'),
  });
  return { blocklist, book };
}

/** Runs `work` now and then, and when it is asked to; never twice at once. */
function every(
  ms: number,
  work: () => Promise<void>,
  onError: (error: unknown) => void,
): { readonly now: () => void; readonly stop: () => void } {
  let isRunning = false;
  let isDue = false;
  const run = (): void => {
    isDue = isRunning;
    if (isRunning) return;
    isRunning = true;
    work()
      .catch(onError)
      .finally(() => {
        isRunning = false;
        if (isDue) run();
      });
  };
  const timer = setInterval(run, ms);
  return {
    now: run,
    stop: () => {
      clearInterval(timer);
      isDue = false;
    },
  };
}

/** From the start on, so that a signal during it ends in order too. SIGHUP does not stop. */
function listenForStop(
  signal: AbortSignal | undefined,
  onReload: () => void,
): { readonly reason: Promise<string>; readonly release: () => void } {
  let tell: (why: string) => void = () => undefined;
  const reason = new Promise<string>((resolve) => {
    tell = resolve;
  });
  const onSignal = (name: NodeJS.Signals): void => tell(name);
  const onAbort = (): void => tell('aborted');
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  process.on('SIGHUP', onReload);
  signal?.addEventListener('abort', onAbort);
  if (signal?.aborted === true) onAbort();
  return {
    reason,
    release: () => {
      process.off('SIGTERM', onSignal);
      process.off('SIGINT', onSignal);
      process.off('SIGHUP', onReload);
      signal?.removeEventListener('abort', onAbort);
    },
  };
}

/** False when the time was over first. */
async function within(ms: number, work: () => Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([work().then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
