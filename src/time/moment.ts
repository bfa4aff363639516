/**
 * Moments of the past as people write them, for filters: RFC 3339, `2026-11-22 14:00`, `today 14:00`, `yesterday`, `14:00`,
 * `15m` (ago). What has no offset of its own is in the time zone of the environment (TZ).
 */
import { FalcodropError } from '../errors.ts';
import { parseDuration } from './duration.ts';

const hint = 'write 2026-11-22T14:00:00Z, today 14:00, yesterday 09:30, 14:00, or how long ago: 15m';

/** `14:00`, `14:00:05`. */
const clock = String.raw`([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?`;
const ofDay = new RegExp(`^(today|yesterday)(?: +${clock})?$`, 'i');
const clockAlone = new RegExp(`^${clock}$`);
/** RFC 3339 5.6, the offset left out at will; a leap second is none of ours. */
const ofDate = new RegExp(String.raw`^(\d{4})-(\d\d)-(\d\d)(?:[Tt ]+${clock}(?:\.(\d{1,9}))?(Z|z|[+-]\d\d:\d\d)?)?$`);

/**
 * Milliseconds since 1970. A clock time alone is the last one that was: `23:00` at one o'clock is yesterday's. A day alone is
 * its beginning. Throws `time_invalid`.
 */
export function parseMoment(text: string, nowMs: number): number {
  const trimmed = text.trim();
  if (/^now$/i.test(trimmed)) return nowMs;
  const day = ofDay.exec(trimmed);
  if (day !== null) {
    const [, word = '', hours, minutes, seconds] = day;
    return onDay(nowMs, word.toLowerCase() === 'today' ? 0 : -1, hours, minutes, seconds);
  }
  const time = clockAlone.exec(trimmed);
  if (time !== null) {
    const [, hours, minutes, seconds] = time;
    const today = onDay(nowMs, 0, hours, minutes, seconds);
    return today <= nowMs ? today : onDay(nowMs, -1, hours, minutes, seconds);
  }
  const date = ofDate.exec(trimmed);
  if (date !== null) return dated(trimmed, date);
  if (/^\d+[a-z]$/.test(trimmed)) return ago(trimmed, nowMs);
  throw invalid(text, 'is no time');
}

function onDay(nowMs: number, days: number, hours = '0', minutes = '0', seconds = '0'): number {
  const now = new Date(nowMs);
  // Not a subtraction of 24 hours: a day may have 23 or 25.
  return new Date(
    now.getFullYear(),
    now.getMonth(),
    now.getDate() + days,
    Number(hours),
    Number(minutes),
    Number(seconds),
  ).getTime();
}

function dated(text: string, match: RegExpExecArray): number {
  const [year, month, day, hours, minutes, seconds] = match.slice(1, 7).map((part) => Number(part ?? 0)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const ms = Number((match[7] ?? '').padEnd(3, '0').slice(0, 3));
  const offset = match[8];
  // Days that there are: Date would take 30 February for 2 March.
  const midnight = new Date(Date.UTC(year, month - 1, day));
  if (midnight.getUTCMonth() !== month - 1 || midnight.getUTCDate() !== day || year < 1970) {
    throw invalid(text, 'is no day that there is');
  }
  if (offset === undefined) return new Date(year, month - 1, day, hours, minutes, seconds, ms).getTime();
  const utc = Date.UTC(year, month - 1, day, hours, minutes, seconds, ms);
  if (/^z$/i.test(offset)) return utc;
  const [offsetHours = 0, offsetMinutes = 0] = offset.slice(1).split(':').map(Number);
  if (offsetHours > 23 || offsetMinutes > 59) throw invalid(text, 'has an offset that there is not');
  const offsetMs = (offsetHours * 60 + offsetMinutes) * 60_000;
  return offset.startsWith('-') ? utc + offsetMs : utc - offsetMs;
}

function ago(text: string, nowMs: number): number {
  try {
    return nowMs - parseDuration(text, { zero: true }) * 1000;
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
    throw new FalcodropError('time_invalid', error.message.replace(/^(.*) is not a duration$/, '$1 is no time'), hint);
  }
}

function invalid(text: string, what: string): FalcodropError {
  return new FalcodropError('time_invalid', `${JSON.stringify(text.slice(0, 40))} ${what}`, hint);
}
