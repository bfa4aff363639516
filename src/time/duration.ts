/** Durations as people write them: `90s`, `5m`, `1h`, `2d`, `1w`, one number and one unit. */
import { FalcodropError } from '../errors.ts';

const secondsOf: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** The longest duration taken, in seconds: ten years. Longer is "for ever", and must be said so. */
export const longestSeconds = 315_360_000;

/** Seconds. Throws `duration_invalid`; zero only where `zero` allows it. */
export function parseDuration(text: string, { zero = false }: { zero?: boolean } = {}): number {
  const match = /^(\d{1,10})([smhdw])$/.exec(text) ?? (zero && text === '0' ? ['0', '0', 's'] : null);
  const seconds = match === null ? Number.NaN : Number(match[1]) * (secondsOf[match[2] ?? ''] ?? Number.NaN);
  if (Number.isNaN(seconds)) {
    throw new FalcodropError(
      'duration_invalid',
      `${JSON.stringify(text.slice(0, 40))} is not a duration`,
      'write a number and a unit: 90s, 5m, 1h, 2d, 1w',
    );
  }
  if (seconds > longestSeconds) {
    throw new FalcodropError(
      'duration_invalid',
      `${text} is longer than ten years`,
      'use --forever for a block without an end',
    );
  }
  if (seconds === 0 && !zero) throw new FalcodropError('duration_invalid', 'a duration must be longer than nothing');
  return seconds;
}

/** The two largest units: `3d 4h`, `59m 12s`, `0s`. Negative counts as nothing. */
export function formatDuration(seconds: number): string {
  let rest = Math.max(0, Math.floor(seconds));
  const parts: string[] = [];
  for (const unit of ['w', 'd', 'h', 'm', 's'] as const) {
    const size = secondsOf[unit] ?? 1;
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.length === 0 ? '0s' : parts.join(' ');
}
