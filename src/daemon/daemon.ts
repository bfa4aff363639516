/**
 * The life of `falcodrop run`: open what is pinned, know this host, take alerts, judge, act; at the end take no more, finish
 * what was taken, and go. Drops go on without it.
 */
import type { Readable } from 'node:stream';
import { Blocklist } from '../blocklist/blocklist.ts';
import type { Opened } from '../blocklist/ledger/writer.ts';
import type { Config } from '../config/config.ts';
import { FalcodropError } from '../errors.ts';
import type { HostReading } from '../host/facts.ts';
import { Intake, intakeLimits } from '../sources/intake.ts';
import { wallClock } from '../time/clock.ts';
import { describe, openAlerts } from './alerts.ts';
import { hasSecrets } from './authentication.ts';
import { type DaemonBook, openBook } from './book.ts';
import { openGlance } from './glance.ts';
import { asksFalco, openGrpc } from './grpc.ts';
import { type Http, listens, openHttp, pinsReadiness } from './http.ts';
import { openJournal } from './journal.ts';
import { type Kafka, openKafka, readsTopics } from './kafka.ts';
import { haveEnd, openLines } from './lines.ts';
import { type Log, type Logger, openLog } from './log.ts';
import { notify } from './notify.ts';
import { openRelay } from './relay.ts';
import { watchShed } from './shed.ts';
import { noSources, openSources } from './sources.ts';
import { cleanText } from './text.ts';
import { warmUp } from './warm.ts';
import { openWitness } from './witness.ts';

export type DaemonBlocklist = Pick<Blocklist, 'blockAtOnce' | 'holds' | 'settle' | 'reap' | 'limitsPorts' | 'close'>;

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
  readonly stdin?: Readable;
  readonly log?: Log;
  readonly reapEveryMs?: number;
  /** For `$CREDENTIALS_DIRECTORY`. */
  readonly environment?: NodeJS.ProcessEnv;
}

const defaultReapEveryMs = 10_000;

const reconcileEveryMs = 10 * 60_000;

/** From the signal to the end. systemd would kill after 90 s; an operator who restarts waits for nothing. */
const stopWithinMs = 5_000;

/** From the end of all input to that of the process: the lock may be held, the disk slow. Falco may be waiting for it. */
const finishWithinMs = 30_000;

/** Of `stopWithinMs`, for requests that have begun. */
const requestGraceMs = 1_000;

/**
 * Resolves when it has stopped: told to, or at the end of all input, where that has one (stdin, files that are not followed,
 * and no HTTP); then every alert is decided and durable. Rejects, with nothing left open, when it can not start:
 * `pin_dir_missing`, `not_permitted`, `layout_mismatch`, `listen_failed`, `addon_missing`, `file_unreadable`,
 * `journal_unavailable`, and for HTTP with `authentication_missing`, `tls_invalid`, `config_invalid`; and at the end of input
 * with `ledger_behind`.
 */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { config, pinDir, signal, open, log = openLog() } = options;
  const { logger } = log;
  let http: Http | null = null;
  let kafka: Kafka | null = null;
  const stop = listenForStop(signal, () => {
    logger.warn('SIGHUP: secrets and certificates are read again, the rest of the configuration at the start only');
    if (hasSecrets(config.http)) http?.reload();
    kafka?.reload();
  });
  const closers: (() => void | Promise<void>)[] = [];
  /** Of alerts that are all there: no more is prepared for than they need, for Falco may start one of these an alert. */
  const isBrief =
    !listens(config.http) &&
    !asksFalco(config.grpc) &&
    !config.journal.enabled &&
    !readsTopics(config.kafka) &&
    haveEnd(config.lines);
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
        const before = settling.failures();
        if (!stopping.signal.aborted) await options.reconcile?.(stopping.signal);
        if (options.reconcile !== undefined) settling.mended(before);
      },
      (error) => {
        if (!stopping.signal.aborted) say(error, 'not reconciled');
      },
    );
    closers.push(reconciling.stop, () => stopping.abort());
    const onOpen = ({ isNew, movedAside }: Opened): void => {
      if (!isBrief || isNew || movedAside !== null) reconciling.now();
    };
    const { blocklist, book } =
      open === undefined ? openBlocklist(options, logger, closers, onOpen) : { blocklist: open(pinDir), book: null };
    closers.push(() => blocklist.close());
    const settling = settler(
      blocklist,
      () => intake.waiting > 0,
      (error) => say(error, 'blocks not verified yet'),
    );
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

    if (!isBrief) await warmUp(config, host.facts());

    const judging = { facts: host.facts, rules: config.rules, state: { automatic: config.automatic }, blocklist };
    const witness = openWitness({ clock: wallClock, durable: () => settling.now() });
    const alerts = openAlerts({
      ...judging,
      onDecided: witness.decided,
      logger,
      clock: wallClock,
      onWritten: settling.soon,
    });
    closers.push(alerts.endPeriod);
    const intake = new Intake(alerts.take, intakeLimits, { glance: openGlance(judging) });
    const shedding = watchShed(intake, logger);
    closers.push(shedding.stop);
    const kept = isBrief ? null : await openSources({ intake, stateDir: options.stateDir, logger, clock: wallClock });
    const add = kept?.add ?? noSources;
    closers.push(() => kept?.abandon());
    if (open === undefined && kept !== null) {
      const verbs = { sources: kept.verb, watch_alert: witness.verb };
      closers.push(openRelay({ pinDir, stateDir: options.stateDir, logger, verbs }).close);
    }

    const { remote, fleetHosts } = config.http;
    if (config.http.enabled) intake.register({ name: 'http', remote, fleetHosts });
    if (config.http.socket !== null) intake.register({ name: 'http:unix', remote, fleetHosts });
    const served = await openHttp({
      config: config.http,
      group: config.service.group,
      environment: options.environment ?? process.env,
      intake,
      notReady: open === undefined ? pinsReadiness(pinDir) : () => null,
      logger,
      add,
    });
    http = served;
    closers.push(() => served.close(0));
    const durable = async (): Promise<boolean> => {
      await intake.decided();
      return settling.now();
    };
    const longest = config.http.maxBody;
    const lines = await openLines({
      config: config.lines,
      longest,
      intake,
      stateDir: options.stateDir,
      durable,
      logger,
      stdin: () => options.stdin ?? process.stdin,
      add,
    });
    closers.push(lines.abandon);
    const grpc = await openGrpc({
      config: config.grpc,
      longest: config.http.maxBody,
      intake,
      logger,
      environment: options.environment ?? process.env,
      add,
    });
    closers.push(grpc.stop);
    const journal = await openJournal({
      config: config.journal,
      maxAlertAgeSeconds: config.rules.maxAlertAgeSeconds,
      longest,
      intake,
      stateDir: options.stateDir,
      durable,
      logger,
      add,
    });
    closers.push(() => journal?.abandon());
    const topics = readsTopics(config.kafka)
      ? await openKafka({
          config: config.kafka,
          longest,
          intake,
          stateDir: options.stateDir,
          durable,
          logger,
          environment: options.environment ?? process.env,
          add,
        })
      : null;
    kafka = topics;
    closers.push(() => topics?.abandon());
    const hasLines = config.lines.stdin || config.lines.files.length > 0;
    if (!listens(config.http) && !hasLines && !asksFalco(config.grpc) && journal === null && topics === null) {
      logger.warn('no source of alerts is enabled');
    }

    const reaping = every(
      options.reapEveryMs ?? defaultReapEveryMs,
      async () => {
        await settling.now();
        const reaped = await blocklist.reap();
        if (reaped === 0) return;
        logger.info({ reaped }, 'reaped');
        // A claim on some ports may have waited for the end of one on all.
        if (blocklist.limitsPorts()) reconciling.now();
      },
      (error) => say(error, 'not reaped'),
    );
    closers.push(reaping.stop);

    logger.info({ automatic: config.automatic, pinDir }, 'ready');
    notify('READY=1\nSTATUS=taking alerts');
    let isStopping = false;
    const ended = lines.ended.then((failure) => {
      const { stdin, files } = config.lines;
      if (isStopping) return failure;
      if (failure !== null) logger.error(describe(failure), 'not read to its end');
      else if (stdin || files.some(({ follow }) => !follow)) logger.info('read to its end');
      return failure;
    });
    const isEnded = await Promise.race([
      stop.reason.then(() => false),
      // However many are queued; a signal still stops it.
      ...(isBrief ? [ended.then(() => intake.idle()).then(() => true)] : []),
    ]);

    isStopping = true;
    notify('STOPPING=1');
    logger.info({ why: isEnded ? 'end of input' : await stop.reason }, 'stopping');
    stopping.abort();
    let isDurable = false;
    const isDone = await within(isEnded ? finishWithinMs : stopWithinMs, async () => {
      await Promise.all([served.close(requestGraceMs), lines.stop(), grpc.stop(), journal?.stop(), topics?.stop()]);
      await intake.idle();
      const settled = settling.now();
      // A ledger that can not be written would be waited for in vain: it is tried once more, and then let go.
      await Promise.race([settled, ...(book === null ? [] : [book.troubled()])]);
      await book?.close();
      isDurable = await settled;
      await Promise.all([lines.close(), journal?.close(), topics?.close(), kept?.close()]);
    });
    if (!isDone) logger.warn({ waiting: intake.waiting }, 'stopped before all was done');
    const trouble = book?.trouble ?? null;
    if (trouble !== null)
      logger.warn(describe(trouble), 'the ledger lacks what the maps hold: the next start writes it down');
    alerts.endPeriod();
    shedding.say();
    isOver = true;
    const journalCounts = journal === null ? {} : { journal: journal.counts() };
    const kafkaCounts = topics === null ? {} : { kafka: topics.counts() };
    const counts = {
      sources: intake.counts(),
      http: served.counts(),
      ...journalCounts,
      ...kafkaCounts,
      alerts: alerts.counts(),
    };
    logger.info(counts, 'stopped');
    if (isEnded) {
      const failure = await ended;
      if (failure !== null) throw failure;
      if (!isDurable) throw notDurable();
    }
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

/** While alerts wait to be judged, their drops go first: verification and ledger want as much of the CPU as the judging. */
const deferMs = 250;

interface Settler {
  readonly soon: () => void;
  /** Resolves when it was tried: true when all so far is durable, also what failed before and was mended since. */
  readonly now: () => Promise<boolean>;
  readonly failures: () => number;
  /** Maps and ledger were made equal: what had failed before that, as {@link failures} counted then, is made good. */
  readonly mended: (failures: number) => void;
}

/** Verifies what was written: once after a slice of alerts, not once an alert. `isBusy`: whether there are alerts to judge. */
function settler(
  blocklist: Pick<Blocklist, 'settle'>,
  isBusy: () => boolean,
  onError: (error: unknown) => void,
): Settler {
  let isDue = false;
  let failures = 0;
  let mended = 0;
  const now = async (): Promise<boolean> => {
    isDue = false;
    try {
      await blocklist.settle();
    } catch (error) {
      failures++;
      onError(error);
    }
    return failures === mended;
  };
  return {
    now,
    soon: () => {
      if (isDue) return;
      isDue = true;
      const latest = performance.now() + deferMs;
      const look = (): void => {
        setTimeout(() => (isBusy() && performance.now() < latest ? look() : void now()), gatherMs);
      };
      look();
    },
    failures: () => failures,
    mended: (count) => {
      mended = count;
    },
  };
}

function notDurable(): FalcodropError {
  return new FalcodropError(
    'ledger_behind',
    'all alerts are decided, and not all that was blocked could be written down',
    'drops are in force; see the log for the reason, then falcodrop reconcile writes them down',
  );
}

/** The block list on the pinned maps, with its ledger. Whether that can be opened is said later, and nobody waits for it. */
function openBlocklist(
  { pinDir, stateDir }: DaemonOptions,
  logger: Logger,
  closers: (() => void | Promise<void>)[],
  onOpen: (opened: Opened) => void,
): { readonly blocklist: Blocklist; readonly book: DaemonBook } {
  const book = openBook({ pinDir, stateDir, logger, onOpen });
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
