/** The wall clock's interface; the kernel's drop clock is kernel/clock.ts. */
export interface Clock {
  /** Milliseconds since 1970, UTC. */
  now(): number;
}

/** Read once and going on from there: a step of the clock in the middle of a piece of work moves none of its moments. */
export function steady(clock: Clock): Clock {
  const aheadMs = clock.now() - performance.now();
  return { now: () => performance.now() + aheadMs };
}

export const wallClock: Clock = { now: () => Date.now() };
