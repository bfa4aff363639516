/** How long a source waits that could not reach where its alerts are, before it tries again. */

/** Milliseconds. */
export interface BackoffPace {
  readonly firstDelayMs: number;
  readonly longestDelayMs: number;
}

/** After so many failures in a row: doubled each time until the longest. */
export function backoffMs(failures: number, { firstDelayMs, longestDelayMs }: BackoffPace): number {
  return Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(failures, 30));
}

/** Up to half of it taken off at random: those that lost the same server do not come back at once. */
export function jittered(ms: number): number {
  return ms * (1 - Math.random() / 2);
}

/** A pause that can be ended early; one at a time. */
export class Pause {
  #end: () => void = () => undefined;

  /** Null: until {@link end}. */
  wait(ms: number | null): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === null ? null : setTimeout(resolve, ms);
      this.#end = () => {
        if (timer !== null) clearTimeout(timer);
        resolve();
      };
    });
  }

  end(): void {
    this.#end();
  }
}
