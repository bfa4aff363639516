/**
 * The global mode as `settings` holds it: root's switch for every block at once, and what it goes back to by itself, by the
 * kernel alone, unless somebody confirms.
 */
import { monotonicNs } from './clock.ts';
import { mode as modes, type Settings } from './layout.ts';

export type Mode = 'enforce' | 'monitor' | 'off';

export interface ModeNow {
  readonly mode: Mode;
  /** Seconds until `after` holds; null = it stays. */
  readonly seconds: number | null;
  /** What holds then; null = nothing else. */
  readonly after: Mode | null;
}

const codes: Readonly<Record<Mode, number>> = {
  enforce: modes.MODE_ENFORCE,
  monitor: modes.MODE_MONITOR,
  off: modes.MODE_OFF,
};

/** As the XDP program reads it: from the deadline on (CLOCK_MONOTONIC) the mode after it holds. */
export function modeNow(settings: Settings, now: bigint = monotonicNs()): ModeNow {
  const { deadline } = settings;
  if (deadline === 0n) return { mode: modeName(settings.mode), seconds: null, after: null };
  if (deadline <= now) return { mode: modeName(settings.modeAfter), seconds: null, after: null };
  return { mode: modeName(settings.mode), seconds: Number(deadline - now) / 1e9, after: modeName(settings.modeAfter) };
}

/** The XDP program drops in every mode but these two. */
export function modeName(value: number): Mode {
  return value === modes.MODE_MONITOR ? 'monitor' : value === modes.MODE_OFF ? 'off' : 'enforce';
}

/** What has gone back by itself, and how long ago; null when nothing has. */
export function wentBack(
  settings: Settings,
  now: bigint = monotonicNs(),
): { readonly from: Mode; readonly to: Mode; readonly secondsAgo: number } | null {
  const { deadline } = settings;
  if (deadline === 0n || deadline > now) return null;
  return {
    from: modeName(settings.mode),
    to: modeName(settings.modeAfter),
    secondsAgo: Number(now - deadline) / 1e9,
  };
}

export interface ModeWish {
  readonly mode: Mode;
  /** Seconds until it goes back unless confirmed; null = it does not by this wish. */
  readonly revertAfter: number | null;
  /** To what; by default to what held before, which is what a pending deadline would bring. */
  readonly revertTo?: Mode;
}

/**
 * The settings with that mode; the same object when nothing changes.
 *
 * What is pending is not lost by a second wish: it still goes back at its time, and a wish with an end of its own goes back to
 * what the pending one would have gone back to, the last that was confirmed. But `off` without an end is the panic switch: it
 * stays off. And where it would go back to the mode that it has now, nothing is pending any more.
 */
export function withMode(settings: Settings, wish: ModeWish, now: bigint = monotonicNs()): Settings {
  const before = modeNow(settings, now);
  const revertTo = wish.revertTo ?? before.after ?? before.mode;
  const kept = wish.revertAfter === null && wish.mode !== 'off' && before.after !== null && before.after !== wish.mode;
  const begun = wish.revertAfter !== null && revertTo !== wish.mode;
  const code = codes[wish.mode];
  const changed = kept
    ? { ...settings, mode: code }
    : begun
      ? { ...settings, mode: code, deadline: endOf(now, wish.revertAfter ?? 0), modeAfter: codes[revertTo] }
      : { ...settings, mode: code, deadline: 0n, modeAfter: code };
  const { mode, deadline, modeAfter } = settings;
  // modeAfter says nothing without a deadline.
  const same =
    changed.mode === mode && changed.deadline === deadline && (deadline === 0n || changed.modeAfter === modeAfter);
  return same ? settings : changed;
}

function endOf(now: bigint, seconds: number): bigint {
  return now + BigInt(Math.round(seconds * 1e9));
}

/** What is pending stays; the same object when nothing is, or when it is too late. */
export function confirmedMode(settings: Settings, now: bigint = monotonicNs()): Settings {
  if (settings.deadline === 0n || settings.deadline <= now) return settings;
  return { ...settings, deadline: 0n, modeAfter: settings.mode };
}
