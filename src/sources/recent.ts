/** How much came within the last minute, from a count that is looked at now and then. */

const minuteMs = 60_000;

/** Looks that come sooner are not kept: sixteen are enough for the minute, whoever asks how often. */
const everyMs = 4_000;

export class Recent {
  readonly #looks: { readonly atMs: number; readonly count: number }[] = [];

  /** `nowMs` of a clock that only goes forward. */
  look(count: number, nowMs: number): void {
    const last = this.#looks.at(-1);
    if (last === undefined || nowMs - last.atMs >= everyMs) this.#looks.push({ atMs: nowMs, count });
    // The newest that is a minute old is still needed.
    while (this.#looks[1] !== undefined && nowMs - this.#looks[1].atMs >= minuteMs) this.#looks.shift();
  }

  /** Since about a minute ago, or since the first look where that is later. */
  within(count: number): number {
    return count - (this.#looks[0]?.count ?? count);
  }
}
