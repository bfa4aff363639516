/**
 * How long a source is silent at times, learnt from what was seen, so that a longer silence can be told from a quiet night.
 *
 * Time is that during which somebody listened, of a clock that only goes forward: while falcodrop is down, or the machine
 * sleeps, nobody knows whether a source was silent, and no step of the wall clock makes a silence. Of each of the last 28 such
 * days the longest silence that ended in it is kept. A source is silent for longer than its habit when it has been for more
 * than twice the longest of these, and for an hour at least; nothing is said before alerts came on three different days, so a
 * source that speaks less often is never said to be silent. Nights are learnt in the first days, weekends with the first one.
 */

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

/** Days that are looked at, and on how many of them alerts must have come. */
export const habitDays = 28;
export const leastDays = 3;

/** By how much the longest silence seen may be exceeded. */
export const habitFactor = 2;

/** Shorter silences are nobody's habit. */
export const leastSilenceMs = hourMs;

export interface Habit {
  /** ms that were listened for. */
  readonly listenedMs: number;
  /** Of these, when the last alert came; null: none has yet. */
  readonly heardAtMs: number | null;
  /** Days (of {@link listenedMs}) on which alerts came, the newest last, each with the longest silence that ended in it. */
  readonly days: readonly (readonly [day: number, longestMs: number])[];
}

export const noHabit: Habit = { listenedMs: 0, heardAtMs: null, days: [] };

/** Somebody listened for so long, and whether an alert came in that time; as if at its end. */
export function listened(habit: Habit, forMs: number, isHeard: boolean): Habit {
  const listenedMs = habit.listenedMs + Math.max(0, forMs);
  if (!isHeard) return { ...habit, listenedMs };
  // Before the first alert there is no silence that it ends.
  const silenceMs = habit.heardAtMs === null ? 0 : listenedMs - habit.heardAtMs;
  const today = Math.floor(listenedMs / dayMs);
  const earlier = recent(habit.days, today);
  const last = earlier.at(-1);
  const days: Habit['days'] =
    last?.[0] === today
      ? [...earlier.slice(0, -1), [today, Math.max(last[1], silenceMs)]]
      : [...earlier, [today, silenceMs]];
  return { listenedMs, heardAtMs: listenedMs, days };
}

/** For how long nothing has come, of the time in which somebody listened; null: nothing ever came. */
export function silentForMs({ listenedMs, heardAtMs }: Habit): number | null {
  return heardAtMs === null ? null : listenedMs - heardAtMs;
}

/** The longest silence that is usual; null: not enough was seen to say. */
export function usualSilenceMs({ days, listenedMs }: Habit): number | null {
  const seen = recent(days, Math.floor(listenedMs / dayMs));
  return seen.length < leastDays ? null : Math.max(...seen.map(([, longestMs]) => longestMs));
}

export function isSilent(habit: Habit): boolean {
  const usualMs = usualSilenceMs(habit);
  const silentMs = silentForMs(habit);
  if (usualMs === null || silentMs === null) return false;
  return silentMs > Math.max(leastSilenceMs, habitFactor * usualMs);
}

function recent(days: Habit['days'], today: number): Habit['days'] {
  return days.filter(([day]) => day > today - habitDays);
}

/** From what was kept; null where it is none. Nothing in it is believed beyond its form. */
export function readHabit(value: unknown): Habit | null {
  if (typeof value !== 'object' || value === null) return null;
  const { listened_ms: listenedMs, heard_at_ms: heardAtMs, days } = value as Record<string, unknown>;
  if (!isTime(listenedMs) || !Array.isArray(days) || days.length > habitDays) return null;
  if (heardAtMs !== null && (!isTime(heardAtMs) || heardAtMs > listenedMs)) return null;
  const read: [number, number][] = [];
  for (const each of days as unknown[]) {
    if (!Array.isArray(each) || each.length !== 2) return null;
    const [day, longestMs] = each as unknown[];
    const before = read.at(-1)?.[0] ?? -1;
    if (!isTime(day) || !isTime(longestMs) || day <= before || day > listenedMs / dayMs) return null;
    read.push([day, longestMs]);
  }
  return { listenedMs, heardAtMs, days: read };
}

export function writeHabit({ listenedMs, heardAtMs, days }: Habit): object {
  return { listened_ms: listenedMs, heard_at_ms: heardAtMs, days };
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}
