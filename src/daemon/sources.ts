/** All sources of the running daemon: how each is, what came of it, and what is remembered of it over restarts. */

import { type Habit, isSilent, listened, noHabit, silentForMs, usualSilenceMs } from '../sources/habit.ts';
import type { Intake, IntakeCounts, LastAlert } from '../sources/intake.ts';
import { longestRule, type Past, type PastAlert, type Pasts, pastFile, readPasts, textOf } from '../sources/past.ts';
import { Recent } from '../sources/recent.ts';
import { type Lag, type Problem, type SourceState, Standing } from '../sources/standing.ts';
import type { Clock } from '../time/clock.ts';
import type { Logger } from './log.ts';
import type { SocketVerb } from './socket.ts';
import { cleanText } from './text.ts';

/** `http`, `unix` (HTTP over a unix socket), `file`, `stdin`, `grpc`, `journal`; others may be added. */
export type SourceKind = string;

export interface SourceReport {
  readonly name: string;
  readonly kind: SourceKind;
  readonly place: string | null;
  readonly state: SourceState;
  /** ms since 1970. */
  readonly sinceMs: number;
  readonly lastMinute: number;
  readonly lag: Lag | null;
  readonly counts: IntakeCounts;
  readonly lastAlert: PastAlert | null;
  readonly problem: Problem | null;
  readonly isSilent: boolean;
  /** Of the time in which it was listened to; null: no alert ever came. */
  readonly silentMs: number | null;
  /** The longest silence that is usual; null: too little was seen to say. */
  readonly usualSilenceMs: number | null;
}

/** For those who wire a source: once each, under the name that its alerts have. */
export type AddSource = (source: { readonly name: string; readonly kind: SourceKind }) => Standing;

/** Nobody asks. */
export const noSources: AddSource = () => new Standing();

export interface Sources {
  readonly add: AddSource;
  readonly report: () => Promise<SourceReport[]>;
  /** Says `{source}` for each, then `{end}`. */
  readonly verb: SocketVerb;
  /** Looks once more, and keeps what there is. Never rejects. */
  readonly close: () => Promise<void>;
  /** As a crash would. */
  readonly abandon: () => void;
}

export interface SourcesOptions {
  readonly intake: Pick<Intake, 'counts' | 'lastOf'>;
  readonly stateDir: string;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
  readonly clock: Clock;
  /** Milliseconds of a clock that only goes forward. */
  readonly nowMs?: () => number;
  readonly pace?: Partial<SourcesPace>;
}

export interface SourcesPace {
  readonly lookMs: number;
  /** The file is written so soon after the first alert of a source, and so seldom after that. */
  readonly firstKeepMs: number;
  readonly keepMs: number;
}

const defaultPace: SourcesPace = { lookMs: 5_000, firstKeepMs: 10_000, keepMs: 5 * 60_000 };

interface Watched {
  readonly kind: SourceKind;
  readonly standing: Standing;
  readonly recent: Recent;
  nth: number;
  lastAlert: PastAlert | null;
  habit: Habit;
}

/** What is kept is read first: a file that is none of ours is said, and replaced. */
export async function openSources(options: SourcesOptions): Promise<Sources> {
  const { intake, stateDir, logger, clock, nowMs = () => performance.now() } = options;
  const pace = { ...defaultPace, ...options.pace };
  const file = pastFile(stateDir);
  const kept = await readPasts(file);
  if (kept === 'bad') logger.warn({ path: file.path }, 'what was kept of sources can not be read: it begins anew');
  const past: Pasts = kept === 'bad' ? new Map() : kept;
  const watched = new Map<string, Watched>();
  let lookedAtMs = nowMs();
  let dueAtMs = lookedAtMs + pace.keepMs;
  let isTroubled = false;
  let isOver = false;
  let writing: Promise<void> = Promise.resolve();

  const look = (): void => {
    const now = nowMs();
    const forMs = now - lookedAtMs;
    lookedAtMs = now;
    const counts = intake.counts();
    for (const [name, of] of watched) {
      of.recent.look(counts[name]?.received ?? 0, now);
      const last = intake.lastOf(name);
      const isHeard = last !== null && last.nth !== of.nth;
      // Who has failed hears nothing: that is no silence of his.
      of.habit = listened(of.habit, of.standing.state === 'failed' ? 0 : forMs, isHeard);
      if (!isHeard) continue;
      if (of.lastAlert === null) dueAtMs = Math.min(dueAtMs, now + pace.firstKeepMs);
      of.nth = last.nth;
      of.lastAlert = alertOf(last, clock);
    }
    if (now < dueAtMs) return;
    dueAtMs = now + pace.keepMs;
    writing = writing.then(keep);
  };

  const keep = async (): Promise<void> => {
    if (watched.size === 0) return;
    const all = new Map<string, Past>(past);
    for (const [name, { kind, lastAlert, habit }] of watched) all.set(name, { kind, lastAlert, habit });
    try {
      await file.write(textOf(all, new Set(watched.keys())));
      isTroubled = false;
    } catch (error) {
      if (!isTroubled) logger.warn({ problem: wordsOf(error) }, 'the last alerts of sources can not be kept');
      isTroubled = true;
    }
  };

  const timer = setInterval(look, pace.lookMs);
  timer.unref();

  const report = (): Promise<SourceReport[]> => {
    if (!isOver) look();
    const counts = intake.counts();
    return Promise.all(
      [...watched].map(async ([name, { kind, standing, recent, lastAlert, habit }]) => {
        const own = counts[name] ?? noCounts;
        return {
          ...{ name, kind, place: standing.place, state: standing.state, sinceMs: standing.sinceMs },
          ...{ lastMinute: recent.within(own.received), lag: await standing.lag(), counts: own, lastAlert },
          problem: standing.problem,
          ...{ isSilent: isSilent(habit), silentMs: silentForMs(habit), usualSilenceMs: usualSilenceMs(habit) },
        };
      }),
    );
  };

  const abandon = (): void => {
    clearInterval(timer);
    isOver = true;
  };

  return {
    add: ({ name, kind }) => {
      const standing = new Standing(() => clock.now());
      const before = past.get(name);
      const recent = new Recent();
      recent.look(intake.counts()[name]?.received ?? 0, nowMs());
      watched.set(name, {
        ...{ kind, standing, recent, nth: intake.lastOf(name)?.nth ?? 0 },
        ...{ lastAlert: before?.lastAlert ?? null, habit: before?.habit ?? noHabit },
      });
      return standing;
    },
    report,
    verb: async (_request, client) => {
      for (const source of await report()) client.send({ source });
      client.send({ end: 'sources' });
      client.end();
    },
    close: async () => {
      if (isOver) return;
      dueAtMs = Number.POSITIVE_INFINITY;
      look();
      abandon();
      await writing;
      await keep();
    },
    abandon,
  };
}

const noCounts: IntakeCounts = {
  ...{ received: 0, bad: 0, tooLong: 0, duplicate: 0, shed: 0, decided: 0, stale: 0, otherHost: 0 },
};

function alertOf({ rule, timeNs, receivedNs }: LastAlert, clock: Clock): PastAlert {
  const atMs = Math.round(clock.now() - Number(process.hrtime.bigint() - receivedNs) / 1e6);
  const delayMs = timeNs === null ? null : atMs - Number(timeNs / 1_000_000n);
  return {
    atMs,
    rule: rule.slice(0, longestRule),
    delaySeconds: delayMs === null ? null : delayMs / 1000,
  };
}

function wordsOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return cleanText(code ?? message, 200);
}

/** From the socket, whoever is behind it: null where it is no report of a source. */
export function readSourceReport(value: unknown): SourceReport | null {
  const { name, kind, place, state, sinceMs, lastMinute, lag, counts, lastAlert, problem, ...rest } = membersOf(value);
  if (!isText(name) || !isText(kind) || !isText(state) || !isNumber(sinceMs)) return null;
  const { amount, unit } = membersOf(lag);
  const { atMs, rule, delaySeconds } = membersOf(lastAlert);
  const { message, atMs: problemAtMs } = membersOf(problem);
  const counted = membersOf(counts);
  const numberOr = <T>(given: unknown, otherwise: T): number | T => (isNumber(given) ? given : otherwise);
  return {
    name,
    kind,
    place: isText(place) ? place : null,
    state: state as SourceState,
    sinceMs,
    lastMinute: numberOr(lastMinute, 0),
    lag: isNumber(amount) && isText(unit) ? { amount, unit: unit as Lag['unit'] } : null,
    counts: Object.fromEntries(
      Object.keys(noCounts).map((key) => [key, numberOr(counted[key], 0)]),
    ) as unknown as IntakeCounts,
    lastAlert: isNumber(atMs) && isText(rule) ? { atMs, rule, delaySeconds: numberOr(delaySeconds, null) } : null,
    problem: isText(message) && isNumber(problemAtMs) ? { message, atMs: problemAtMs } : null,
    isSilent: rest.isSilent === true,
    silentMs: numberOr(rest.silentMs, null),
    usualSilenceMs: numberOr(rest.usualSilenceMs, null),
  };
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

/** Dates end at ±8.64e15 ms. */
function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Math.abs(value) <= 8.64e15;
}
