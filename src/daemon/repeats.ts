/**
 * What happens again and again is said once per cause and period, with a count: one noisy rule fires thousands of times, and
 * a log that repeats each hides what matters.
 */
export interface Repeated {
  readonly cause: string;
  /** How often it was left out. */
  readonly times: number;
}

/** Causes told apart in one period. Attackers choose addresses, so there may be any number; the rest is counted together. */
const mostCauses = 1_024;

const others = 'others';

export class Repeats {
  readonly #seen = new Map<string, { times: number; often: number }>();

  /** True when it is to be said: the first `often` times in a period. */
  isNews(cause: string, often: number): boolean {
    const key = this.#seen.has(cause) || this.#seen.size < mostCauses ? cause : others;
    const entry = this.#seen.get(key) ?? { times: 0, often: key === others ? 0 : often };
    entry.times++;
    this.#seen.set(key, entry);
    return entry.times <= entry.often;
  }

  /** Ends the period: what was left out in it. */
  endPeriod(): Repeated[] {
    const left = [...this.#seen]
      .filter(([, { times, often }]) => times > often)
      .map(([cause, { times, often }]) => ({ cause, times: times - often }));
    this.#seen.clear();
    return left;
  }
}
