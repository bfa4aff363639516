/** The wall clock's interface; the kernel's drop clock is kernel/clock.ts. */
export interface Clock {
  /** Milliseconds since 1970, UTC. */
  now(): number;
}

export const wallClock: Clock = { now: () => Date.now() };
