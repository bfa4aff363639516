/** From bytes to the queue: every line of a source, none shed, as fast as they are judged. */
import type { Intake } from '../intake.ts';
import type { Standing } from '../standing.ts';
import { LineSplitter } from './splitter.ts';

/** Something to tell the operator. */
export type Say = (level: 'info' | 'warn', message: string, details: Readonly<Record<string, unknown>>) => void;

export interface FeedOptions {
  readonly intake: Pick<Intake, 'register' | 'push' | 'countBad' | 'hasRoom' | 'room'>;
  /** `stdin`, `file:/var/log/falco.jsonl`. */
  readonly source: string;
  /** Whom it speaks for, as the queue's sources do. */
  readonly remote?: boolean;
  readonly fleetHosts?: readonly string[];
  /** Bytes of one alert. */
  readonly longest: number;
  /** What it says of itself. */
  readonly standing?: Standing | undefined;
  /** A line that is no alert; why. */
  readonly onBad: (problem: string) => void;
}

export class Feed {
  readonly #options: FeedOptions;

  constructor(options: FeedOptions) {
    this.#options = options;
    const { intake, source: name, remote = false, fleetHosts = [] } = options;
    intake.register({ name, remote, fleetHosts, canWait: true });
  }

  /** For a beginning, or for bytes from somewhere in the middle. */
  splitter(isBeginning = true): LineSplitter {
    return new LineSplitter({ longest: this.#options.longest, isBeginning });
  }

  /** Resolves when every line that ends in these bytes is queued; the bytes may be used again then. */
  async take(splitter: LineSplitter, bytes: Buffer): Promise<void> {
    const receivedNs = process.hrtime.bigint();
    for (const line of splitter.split(bytes)) {
      if (line === null || !this.#tryPush(line, receivedNs)) await this.push(line, receivedNs);
    }
  }

  /** Nothing more comes: a last line without an end is one too. */
  async end(splitter: LineSplitter): Promise<void> {
    const line = splitter.end();
    if (line !== '') await this.push(line, process.hrtime.bigint());
  }

  /** One line without its end, null for an over-long one; resolves when it is queued. */
  async push(line: string | null, receivedNs: bigint): Promise<void> {
    const { intake, source, longest, onBad } = this.#options;
    if (line === null) {
      intake.countBad(source, { isTooLong: true });
      onBad(`an alert has at most ${longest} bytes`);
      return;
    }
    while (!this.#tryPush(line, receivedNs)) await intake.room();
  }

  /** False when there is no room for it yet. */
  #tryPush(line: string, receivedNs: bigint): boolean {
    const { intake, source, onBad } = this.#options;
    if (!intake.hasRoom(line.length, source)) return false;
    const pushed = intake.push(line, source, 'local', receivedNs);
    if (typeof pushed === 'object') onBad(pushed.problem);
    return true;
  }
}
