/** The global mode as `settings` holds it now: root's switch for every block at once. */
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

/** As the XDP program reads it: from the deadline on (CLOCK_MONOTONIC) the mode after it holds. */
export function modeNow(settings: Settings, now: bigint = monotonicNs()): ModeNow {
  const { deadline } = settings;
  if (deadline === 0n) return { mode: nameOf(settings.mode), seconds: null, after: null };
  if (deadline <= now) return { mode: nameOf(settings.modeAfter), seconds: null, after: null };
  return { mode: nameOf(settings.mode), seconds: Number(deadline - now) / 1e9, after: nameOf(settings.modeAfter) };
}

/** The XDP program drops in every mode but these two. */
function nameOf(value: number): Mode {
  return value === modes.MODE_MONITOR ? 'monitor' : value === modes.MODE_OFF ? 'off' : 'enforce';
}
