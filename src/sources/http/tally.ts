/** What became of the alerts of one body, and the answer to its sender. */
import type { Pushed } from '../intake.ts';

export interface Reply {
  readonly status: number;
  readonly text: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Problems that an answer tells; the rest is counted. */
const mostProblems = 10;

const retryAfter = { 'retry-after': '1' };

export const overloaded: Reply = { status: 503, text: 'too many alerts are waiting', headers: retryAfter };

export const queued: Reply = { status: 202, text: '', headers: {} };

/** Of a body with one alert. */
export function replyToOne(pushed: Pushed): Reply {
  if (pushed === 'queued') return queued;
  return pushed === 'shed' ? overloaded : { status: 400, text: pushed.problem, headers: {} };
}

/**
 * Of a body with several. Each counts for itself: what is good is taken, whatever the others are. The status says whether it is
 * of use to send the body again: 503 when some were shed (those that were taken count once, however often they come), 207 when
 * some are no alerts and never will be, 400 when none is one.
 */
export class Tally {
  readonly #problems: { at: number; problem: string }[] = [];
  #at = 0;
  #queued = 0;
  #shed = 0;
  #bad = 0;

  /** Looked at so far. */
  get looked(): number {
    return this.#at;
  }

  add(pushed: Pushed): void {
    const at = this.#at++;
    if (pushed === 'queued') {
      this.#queued++;
    } else if (pushed === 'shed') {
      this.#shed++;
    } else {
      this.#bad++;
      if (this.#problems.length < mostProblems) this.#problems.push({ at, problem: pushed.problem });
    }
  }

  get firstProblem(): string | null {
    return this.#problems[0]?.problem ?? null;
  }

  get bad(): number {
    return this.#bad;
  }

  get queued(): number {
    return this.#queued;
  }

  reply(isTooMany = false): Reply {
    const [taken, shed, bad] = [this.#queued, this.#shed, this.#bad];
    if (bad === 0 && shed === 0) return queued;
    const status = shed > 0 ? 503 : isTooMany ? 413 : taken > 0 ? 207 : 400;
    return {
      status,
      text: JSON.stringify({ queued: taken, shed, bad, problems: this.#problems }),
      headers: { 'content-type': 'application/json', ...(shed > 0 ? retryAfter : {}) },
    };
  }
}
