/** When what was read is written down: a while after it was read, and only when all before it is decided and durable. */

export interface KeepingOptions<T> {
  /** What would be kept now, and a text that tells whether it is what was kept last; null: nothing. */
  readonly now: () => { readonly value: T; readonly text: string } | null;
  /**
   * Resolves when every alert that was queued until now is decided and what came of it is on the disk: true, or false when
   * that can not be said of all of it.
   */
  readonly durable: () => Promise<boolean>;
  readonly write: (value: T) => Promise<void>;
  /** It was not possible, or (null) it was. */
  readonly onTrouble: (error: unknown) => void;
  /** From reading something to keeping it. */
  readonly keepMs: number;
}

/** What could not be kept is tried again after so many times `keepMs`. */
const retryFactor = 10;

export class Keeping<T> {
  readonly #options: KeepingOptions<T>;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<unknown> = Promise.resolve();
  #last = '';
  #isEnded = false;

  constructor(options: KeepingOptions<T>) {
    this.#options = options;
  }

  /** Something was read. */
  soon(ms = this.#options.keepMs): void {
    if (this.#isEnded) return;
    this.#timer ??= setTimeout(() => {
      this.#running = this.#keep().then((isKept) => {
        this.#timer = null;
        if (!isKept) this.soon(this.#options.keepMs * retryFactor);
        else if ((this.#options.now()?.text ?? this.#last) !== this.#last) this.soon();
      });
    }, ms);
  }

  /** No more by itself. */
  end(): void {
    this.#isEnded = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** Once more, at once; resolves when it was tried. What is waited for is `durable`. */
  async keep(): Promise<void> {
    await this.#running;
    await this.#keep();
  }

  /** False when it was not possible. */
  async #keep(): Promise<boolean> {
    const { now, durable, write, onTrouble } = this.#options;
    const what = now();
    if (what === null || what.text === this.#last) return true;
    if (!(await durable())) return false;
    try {
      await write(what.value);
      this.#last = what.text;
      onTrouble(null);
      return true;
    } catch (error) {
      onTrouble(error);
      return false;
    }
  }
}
