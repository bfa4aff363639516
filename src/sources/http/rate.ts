/**
 * Alerts a second of each sender, with a burst: a bucket of tokens for each address. A body is taken whole as long as there is
 * a token left, and what is missing is owed: a body larger than the burst would never be taken otherwise.
 */

/** Addresses told apart; the one not heard of for longest is forgotten, and begins with a full bucket. */
const mostSenders = 1_024;

interface Bucket {
  tokens: number;
  /** ms. */
  at: number;
}

export class Rate {
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #buckets = new Map<string, Bucket>();

  /** `perSecond` 0 is no limit. */
  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond;
    this.#burst = burst;
  }

  /** Whole seconds until the sender may send again; 0 = now. */
  wait(sender: string, nowMs?: number): number {
    if (this.#perSecond === 0) return 0;
    const { tokens } = this.#bucket(sender, nowMs);
    return tokens >= 1 ? 0 : Math.max(1, Math.ceil((1 - tokens) / this.#perSecond));
  }

  spend(sender: string, alerts: number, nowMs?: number): void {
    if (this.#perSecond === 0) return;
    this.#bucket(sender, nowMs).tokens -= alerts;
  }

  #bucket(sender: string, nowMs = performance.now()): Bucket {
    const known = this.#buckets.get(sender);
    const bucket = known ?? { tokens: this.#burst, at: nowMs };
    bucket.tokens = Math.min(this.#burst, bucket.tokens + (Math.max(0, nowMs - bucket.at) / 1_000) * this.#perSecond);
    bucket.at = nowMs;
    if (known !== undefined) this.#buckets.delete(sender);
    this.#buckets.set(sender, bucket);
    if (this.#buckets.size > mostSenders) {
      const [oldest] = this.#buckets.keys();
      if (oldest !== undefined) this.#buckets.delete(oldest);
    }
    return bucket;
  }
}
