/** Moments and spans as people and programs read them. Times in milliseconds since 1970, spans in seconds. */
import { formatDuration } from '../../time/duration.ts';

const two = (value: number): string => String(value).padStart(2, '0');

/** RFC 3339, UTC, to the nearest second: `2026-11-22T04:31:02Z`. */
export function utc(ms: number): string {
  return new Date(nearestSecond(ms)).toISOString().replace('.000Z', 'Z');
}

/** In the time zone of the environment: `2026-11-22 05:31:02 +01:00`. */
export function local(ms: number): string {
  return `${localDay(ms)} ${localClock(ms)} ${offset(ms)}`;
}

/** What local time is ahead of UTC at that moment: `+01:00`. */
export function offset(ms: number): string {
  const minutes = -new Date(nearestSecond(ms)).getTimezoneOffset();
  const size = Math.abs(minutes);
  return `${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

export function localDay(ms: number): string {
  const date = new Date(nearestSecond(ms));
  return `${String(date.getFullYear()).padStart(4, '0')}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

export function localClock(ms: number): string {
  const date = new Date(nearestSecond(ms));
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** ECMA-262, 21.4.1.1: what a Date can hold, on either side of 1970. */
const latestMs = 8.64e15;

/**
 * Ends are read as remaining time, a few microseconds after they were set. What no Date can hold is shown as the last that it
 * can: the service writes the ledger, and a moment in it must not keep the rest from being read.
 */
function nearestSecond(ms: number): number {
  return Math.min(Math.max(Math.round(ms / 1000) * 1000, -latestMs), latestMs);
}

/** `2026-11-22 05:31:02 +01:00 (in 1h)`. */
export function localIn(seconds: number, nowMs: number): string {
  return `${local(nowMs + seconds * 1000)} (in ${formatDuration(Math.round(seconds))})`;
}

/** The largest unit alone: `59m`, `1d`. */
export function roughly(seconds: number): string {
  return formatDuration(Math.round(seconds)).split(' ')[0] ?? '0s';
}
