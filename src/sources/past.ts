/**
 * What is known of sources from before: the last alert of each, and how long it is silent at times. A small file in the state
 * directory, `sources.json`, which survives any end (kept-file.ts); a full disk leaves the old one.
 */
import { type Habit, readHabit, writeHabit } from './habit.ts';
import { KeptFile } from './kept-file.ts';

export interface PastAlert {
  /** When it came, ms since 1970. */
  readonly atMs: number;
  readonly rule: string;
  /** How long it came after the event, seconds; null: it told no time. */
  readonly delaySeconds: number | null;
}

export interface Past {
  readonly kind: string;
  readonly lastAlert: PastAlert | null;
  readonly habit: Habit;
}

export type Pasts = ReadonlyMap<string, Past>;

export const pastFileName = 'sources.json';

/** UTF-16 units of a rule that are kept. */
export const longestRule = 128;

/** Sources that are kept: those that are here now, then those whose last alert is the youngest. */
const mostSources = 256;

/** Characters of the file; a path may have 4 095. */
const largestText = 512 << 10;

/** UTF-8 has up to three bytes for one UTF-16 unit. */
export const pastFile = (stateDir: string): KeptFile => new KeptFile(stateDir, pastFileName, 3 * largestText);

/** `bad`: there is a file, and it is none of ours. Never rejects. */
export async function readPasts(file: KeptFile): Promise<Pasts | 'bad'> {
  const kept = await file.read();
  if (kept === 'none') return new Map();
  return kept === 'bad' ? 'bad' : (pastsOf(kept.text) ?? 'bad');
}

/** `here`: names of the sources that there are now. */
export function textOf(pasts: Pasts, here: ReadonlySet<string>): string {
  const rank = ([name, { lastAlert }]: readonly [string, Past]): number =>
    here.has(name) ? Number.POSITIVE_INFINITY : (lastAlert?.atMs ?? 0);
  const entries = [...pasts].toSorted((one, other) => rank(other) - rank(one) || 0).slice(0, mostSources);
  const sources: [string, object][] = [];
  let length = 0;
  for (const [name, past] of entries) {
    const object = objectOf(past);
    length += JSON.stringify([name, object]).length;
    if (length > largestText - 64) break;
    sources.push([name, object]);
  }
  return `${JSON.stringify({ version: 1, sources })}\n`;
}

function objectOf({ kind, lastAlert, habit }: Past): object {
  const last =
    lastAlert === null ? null : { at_ms: lastAlert.atMs, rule: lastAlert.rule, delay_seconds: lastAlert.delaySeconds };
  return { kind, last_alert: last, habit: writeHabit(habit) };
}

/** Null: it is no text of ours. Sources in it that are none are left out. */
export function pastsOf(text: string): Pasts | null {
  try {
    const { version, sources } = JSON.parse(text) as Record<string, unknown>;
    if (version !== 1 || !Array.isArray(sources)) return null;
    const pasts = new Map<string, Past>();
    for (const each of sources.slice(0, mostSources) as unknown[]) {
      const [name, value] = Array.isArray(each) ? (each as unknown[]) : [];
      const past = pastOf(value);
      if (typeof name === 'string' && past !== null) pasts.set(name, past);
    }
    return pasts;
  } catch {
    return null;
  }
}

function pastOf(value: unknown): Past | null {
  if (typeof value !== 'object' || value === null) return null;
  const { kind, last_alert: last, habit } = value as Record<string, unknown>;
  const read = readHabit(habit);
  if (typeof kind !== 'string' || read === null) return null;
  return { kind: kind.slice(0, 32), lastAlert: alertOf(last), habit: read };
}

function alertOf(value: unknown): PastAlert | null {
  if (typeof value !== 'object' || value === null) return null;
  const { at_ms: atMs, rule, delay_seconds: delaySeconds } = value as Record<string, unknown>;
  // Dates end at ±8.64e15 ms.
  if (typeof atMs !== 'number' || !(Math.abs(atMs) <= 8.64e15) || typeof rule !== 'string') return null;
  return {
    atMs,
    rule: rule.slice(0, longestRule),
    delaySeconds: typeof delaySeconds === 'number' && Number.isFinite(delaySeconds) ? delaySeconds : null,
  };
}
