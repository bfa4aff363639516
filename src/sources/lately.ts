/** Who was judged within the last second or two, and of which rule: what comes again of these is redundant. */

/** Of each, a generation; of two. Beyond, the older generation is let go early: a repeat counts as news then. */
const most = 16_384;

const generationMs = 1_000;

interface Generation {
  readonly pairs: Set<string>;
  /** Whether one of its alerts was of a rule that acts. */
  readonly offenders: Map<string, boolean>;
}

const empty = (): Generation => ({ pairs: new Set(), offenders: new Map() });

export class Lately {
  #newer = empty();
  #older = empty();
  #sinceMs = Number.NEGATIVE_INFINITY;

  /** `nowMs` of any clock that only goes forward. */
  add(pair: string, offender: string, acts: boolean, nowMs: number): void {
    this.#turn(nowMs);
    if (this.#newer.pairs.size >= most || this.#newer.offenders.size >= most) this.#next(nowMs);
    const { pairs, offenders } = this.#newer;
    pairs.add(pair);
    if (acts || !offenders.has(offender)) offenders.set(offender, acts);
  }

  hasPair(pair: string, nowMs: number): boolean {
    this.#turn(nowMs);
    return this.#newer.pairs.has(pair) || this.#older.pairs.has(pair);
  }

  /** Whether he was judged; with `acts`, whether by a rule that acts. */
  hasOffender(offender: string, acts: boolean, nowMs: number): boolean {
    this.#turn(nowMs);
    return [this.#newer, this.#older].some(({ offenders }) => {
      const known = offenders.get(offender);
      return known !== undefined && (known || !acts);
    });
  }

  /** Pairs held. */
  get size(): number {
    return this.#newer.pairs.size + this.#older.pairs.size;
  }

  #turn(nowMs: number): void {
    const age = nowMs - this.#sinceMs;
    if (age < generationMs) return;
    if (age >= 2 * generationMs) this.#newer = empty();
    this.#next(nowMs);
  }

  #next(nowMs: number): void {
    this.#older = this.#newer;
    this.#newer = empty();
    this.#sinceMs = nowMs;
  }
}
