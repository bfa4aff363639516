/** `falcodrop sources` */
import type { SourceReport } from '../daemon/sources.ts';
import type { PastAlert } from '../sources/past.ts';
import { type Call, stateDirOf } from './call.ts';
import { amount } from './output/amount.ts';
import { clean } from './output/clean.ts';
import { roughly, utc } from './output/moment.ts';
import { type Column, table } from './output/table.ts';
import { askSources, becomeReader, daemonAbsent, readStored } from './source-reports.ts';

export async function showSources(call: Call): Promise<void> {
  const { answer } = call;
  becomeReader(call);
  const stateDir = stateDirOf(call.environment);
  const reports = await askSources(stateDir);
  if (reports === null) {
    const stored = await readStored(stateDir);
    const rows = [...stored].map(([name, { kind, lastAlert }]): Shown => ({ name, kind, lastAlert, report: null }));
    show(call, rows);
    answer.fail(daemonAbsent(stateDir));
    return;
  }
  const rows = reports.map((report): Shown => ({ ...report, report }));
  show(call, rows);
  if (answer.json) return;
  if (rows.length === 0) answer.line('no source of alerts is configured');
  for (const report of reports) for (const line of remarks(report, call.clock.now())) answer.line(line);
}

interface Shown {
  readonly name: string;
  readonly kind: string;
  readonly lastAlert: PastAlert | null;
  /** Null: no daemon runs, and this is all that is known. */
  readonly report: SourceReport | null;
}

const columns: readonly Column[] = [
  { title: 'SOURCE', yields: [[1, 20]] },
  {
    title: 'STATE',
    colour: (cell) => (cell === 'failed' ? 'red' : cell.startsWith('silent') ? 'yellow' : null),
  },
  { title: 'FOR', right: true },
  { title: '/MIN', right: true },
  { title: 'LAG', right: true },
  { title: 'RECEIVED', right: true },
  { title: 'DECIDED', right: true },
  { title: 'LAST', right: true },
  {
    title: 'RULE',
    yields: [
      [0, 10],
      [2, 0],
    ],
  },
];

function show({ answer, clock }: Call, rows: readonly Shown[]): void {
  const nowMs = clock.now();
  if (answer.json) {
    for (const row of rows) answer.object(objectOf(row));
    return;
  }
  if (rows.length === 0) return;
  const cells = () => rows.map((row) => cellsOf(row, nowMs));
  for (const line of table(columns, cells, answer.colour, answer.width)) answer.line(line);
}

function cellsOf({ name, lastAlert, report }: Shown, nowMs: number): string[] {
  const last = lastAlert === null ? ['-', '-'] : [ago(lastAlert.atMs, nowMs), clean(lastAlert.rule, 40)];
  if (report === null) return [name, 'no daemon', '-', '-', '-', '-', '-', ...last];
  const { state, isSilent, sinceMs, lastMinute, lag, counts } = report;
  return [
    name,
    // What keeps it from taking alerts tells more.
    isSilent && state !== 'failed' && state !== 'waiting' ? 'silent' : state,
    ago(sinceMs, nowMs),
    amount(lastMinute),
    lag === null ? '-' : `${amount(lag.amount)}${lag.unit === 'bytes' ? 'B' : ''}`,
    amount(counts.received),
    amount(counts.decided),
    ...last,
  ];
}

/** What a line of the table has no place for, where there is such. */
function remarks({ name, counts, problem, lastAlert, ...report }: SourceReport, nowMs: number): string[] {
  const text = clean(name, 80);
  const { bad, tooLong, duplicate, shed, stale, otherHost } = counts;
  const others = [
    [bad - tooLong, 'no alerts'],
    [tooLong, 'too long'],
    [duplicate, 'taken before'],
    [shed, 'shed'],
    [stale, 'too old'],
    [otherHost, 'of other hosts'],
  ] as const;
  const counted = others.filter(([count]) => count > 0).map(([count, what]) => `${amount(count)} ${what}`);
  const delay = lastAlert?.delaySeconds ?? null;
  const silence = silenceOf({ name, ...report });
  return [
    ...(silence === null ? [] : [`warning: ${silence}`]),
    ...(counted.length === 0 ? [] : [`${text}: of what was received ${counted.join(', ')}`]),
    ...(delay === null || delay < 1 ? [] : [`${text}: the last alert came ${roughly(delay)} after its event`]),
    ...(problem === null ? [] : [`${text}: ${ago(problem.atMs, nowMs)} ago: ${clean(problem.message, 300)}`]),
  ];
}

/** In words; null: it is not silent for longer than its habit. */
export function silenceOf({
  name,
  isSilent,
  silentMs,
  usualSilenceMs,
}: Pick<SourceReport, 'name' | 'isSilent' | 'silentMs' | 'usualSilenceMs'>): string | null {
  if (!isSilent || silentMs === null || usualSilenceMs === null) return null;
  const [silent, usual] = [roughly(silentMs / 1000), roughly(usualSilenceMs / 1000)];
  return `${clean(name, 80)} is silent for ${silent}, and was not for longer than ${usual} lately`;
}

const ago = (atMs: number, nowMs: number): string => roughly(Math.max(0, (nowMs - atMs) / 1000));

const seconds = (ms: number | null): number | null => (ms === null ? null : Math.round(ms / 1000));

function objectOf({ name, kind, lastAlert, report }: Shown): object {
  const last =
    lastAlert === null
      ? null
      : { at: utc(lastAlert.atMs), rule: lastAlert.rule, delay_seconds: lastAlert.delaySeconds };
  if (report === null) {
    return {
      ...{ source: name, kind, place: null, state: null, since: null, last_minute: null, lag: null, counts: null },
      ...{ last_alert: last, last_error: null, silent: false, silent_seconds: null, usual_silence_seconds: null },
    };
  }
  const { place, state, sinceMs, lastMinute, lag, counts, problem, isSilent, silentMs, usualSilenceMs } = report;
  const { received, bad, tooLong, duplicate, shed, decided, stale, otherHost } = counts;
  return {
    source: name,
    kind,
    place,
    state,
    since: utc(sinceMs),
    last_minute: lastMinute,
    lag,
    counts: { received, bad, too_long: tooLong, duplicate, shed, decided, stale, other_host: otherHost },
    last_alert: last,
    last_error: problem === null ? null : { at: utc(problem.atMs), message: problem.message },
    silent: isSilent,
    silent_seconds: seconds(silentMs),
    usual_silence_seconds: seconds(usualSilenceMs),
  };
}
