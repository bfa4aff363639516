/**
 * Bodies that take longer than a moment (compressed ones, and long lists), one after the other, so that any number of them
 * takes no more memory than what may wait, and no more of the event loop than a slice at a time.
 */
interface Turn {
  readonly bytes: number;
  readonly work: () => Promise<void>;
}

export class Turns {
  readonly #mostBytes: number;
  #bytes = 0;
  #waiting: Turn[] = [];
  #isRunning = false;

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** False: too much is waiting already, and the work is not done. It must not reject. */
  add(bytes: number, work: () => Promise<void>): boolean {
    if (this.#bytes > 0 && this.#bytes + bytes > this.#mostBytes) return false;
    this.#bytes += bytes;
    this.#waiting.push({ bytes, work });
    if (!this.#isRunning) void this.#run();
    return true;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (let turn = this.#waiting.shift(); turn !== undefined; turn = this.#waiting.shift()) {
      try {
        await turn.work();
      } finally {
        this.#bytes -= turn.bytes;
      }
    }
    this.#isRunning = false;
  }
}

/** Resolves when the event loop has been round. */
export function nextRound(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
