/**
 * The bounded queue between the sources and the judge.
 *
 * An alert is decoded before it is queued, not after: a body of one kilobyte takes microseconds, a malformed one can be
 * answered as such, and the sender of a flood pays for it. Judging happens in a later turn of the event loop, so that an
 * answer never waits for work.
 */
import { type Alert, decodeAlert, type NotAlert, type Origin, parseAlert } from '../alert/alert.ts';

export interface Arrival {
  readonly alert: Alert;
  /** As it came; to tell it by its hash. */
  readonly text: string;
  /** Name of the way it came in, e.g. `http`. */
  readonly source: string;
  /** `process.hrtime.bigint()` at its last byte. */
  readonly receivedNs: bigint;
}

export interface IntakeLimits {
  readonly alerts: number;
  /** Characters of text. */
  readonly characters: number;
}

export const intakeLimits: IntakeLimits = { alerts: 10_000, characters: 32 << 20 };

/**
 * As much of the queue as sources that can wait may fill: 100 MB of backlog in a file must neither shed nor delay the alert
 * that comes over HTTP meanwhile.
 */
const patientLimits: IntakeLimits = { alerts: 128, characters: 4 << 20 };

/** Per source, since the start. */
export interface IntakeCounts {
  /** Bodies, good and bad. */
  readonly received: number;
  /** No alert. */
  readonly bad: number;
  /** Of these: larger than an alert may be, and not read as one. */
  readonly tooLong: number;
  /** Not taken, the queue being full. */
  readonly shed: number;
  /** Handed to the judge. */
  readonly decided: number;
}

/** `queued`: it will be judged. `shed`: it will not, try again later. Else why it is no alert. */
export type Pushed = 'queued' | 'shed' | NotAlert;

/** Milliseconds of judging before the event loop gets its turn. */
const sliceMs = 2;

export class Intake {
  readonly #onAlert: (arrival: Arrival) => void;
  readonly #limits: IntakeLimits;
  readonly #counts = new Map<string, { -readonly [Key in keyof IntakeCounts]: number }>();
  #queue: Arrival[] = [];
  /** Of the next arrival in the queue. */
  #head = 0;
  #characters = 0;
  #isScheduled = false;
  #idle: (() => void)[] = [];
  #room: (() => void)[] = [];
  /** Judged since the start; those who wait for a number of them, in order. */
  #judged = 0;
  #marks: { readonly judged: number; readonly resolve: () => void }[] = [];

  /** `onAlert` is called one alert after the other, in the order they came in. It must not throw. */
  constructor(onAlert: (arrival: Arrival) => void, limits: IntakeLimits = intakeLimits) {
    this.#onAlert = onAlert;
    this.#limits = limits;
  }

  push(text: string, source: string, origin: Origin, receivedNs: bigint): Pushed {
    const counts = this.#countsOf(source);
    counts.received++;
    if (this.waiting >= this.#limits.alerts || this.#characters + text.length > this.#limits.characters) {
      counts.shed++;
      return 'shed';
    }
    const alert = parseAlert(text, origin);
    if ('problem' in alert) {
      counts.bad++;
      return alert;
    }
    this.#queue.push({ alert, text, source, receivedNs });
    this.#characters += text.length;
    this.#schedule();
    return 'queued';
  }

  /** As {@link push}, for a value that was read already, as Falco's JSON has it. `text` is told by its hash. */
  pushValue(
    value: unknown,
    source: string,
    origin: Origin,
    receivedNs: bigint,
    text: string = JSON.stringify(value),
  ): Pushed {
    const counts = this.#countsOf(source);
    counts.received++;
    if (this.waiting >= this.#limits.alerts || this.#characters + text.length > this.#limits.characters) {
      counts.shed++;
      return 'shed';
    }
    const alert = decodeAlert(value, origin);
    if ('problem' in alert) {
      counts.bad++;
      return alert;
    }
    this.#queue.push({ alert, text, source, receivedNs });
    this.#characters += text.length;
    this.#schedule();
    return 'queued';
  }

  /** A body that was refused before it was read as an alert (too large, of a foreign encoding). */
  countBad(source: string, { isTooLong = false }: { isTooLong?: boolean } = {}): void {
    const counts = this.#countsOf(source);
    counts.received++;
    counts.bad++;
    if (isTooLong) counts.tooLong++;
  }

  /** Whether a source that can wait may push so many characters now. An empty queue has room for anything. */
  hasRoom(characters: number): boolean {
    if (this.waiting === 0) return true;
    return (
      this.waiting < Math.min(patientLimits.alerts, this.#limits.alerts) &&
      this.#characters + characters <= Math.min(patientLimits.characters, this.#limits.characters)
    );
  }

  /** Resolves when some of what is queued was judged. Ask {@link hasRoom} again: others wait too. */
  room(): Promise<void> {
    if (this.waiting === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#room.push(resolve);
    });
  }

  /** Alerts queued and not yet judged. */
  get waiting(): number {
    return this.#queue.length - this.#head;
  }

  counts(): Readonly<Record<string, IntakeCounts>> {
    return Object.fromEntries([...this.#counts].map(([source, counts]) => [source, { ...counts }]));
  }

  /** Resolves when all that is queued now was judged, whatever comes after it. */
  decided(): Promise<void> {
    if (this.waiting === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#marks.push({ judged: this.#judged + this.waiting, resolve });
    });
  }

  /** Resolves when nothing is queued. */
  idle(): Promise<void> {
    if (this.waiting === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idle.push(resolve);
    });
  }

  #countsOf(source: string): { -readonly [Key in keyof IntakeCounts]: number } {
    let counts = this.#counts.get(source);
    if (counts === undefined) {
      counts = { received: 0, bad: 0, tooLong: 0, shed: 0, decided: 0 };
      this.#counts.set(source, counts);
    }
    return counts;
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#drain());
  }

  #drain(): void {
    this.#isScheduled = false;
    const until = performance.now() + sliceMs;
    try {
      do {
        const arrival = this.#queue[this.#head];
        if (arrival === undefined) break;
        this.#head++;
        this.#characters -= arrival.text.length;
        this.#countsOf(arrival.source).decided++;
        this.#judged++;
        this.#onAlert(arrival);
      } while (performance.now() < until);
    } finally {
      // Once for as many alerts as are still waiting, so what is moved stays in proportion to what was done.
      if (this.#head >= this.waiting) {
        this.#queue = this.#queue.slice(this.#head);
        this.#head = 0;
      }
      const passed = this.#marks.findIndex(({ judged }) => judged > this.#judged);
      for (const { resolve } of this.#marks.splice(0, passed === -1 ? this.#marks.length : passed)) resolve();
      for (const resolve of this.#room.splice(0)) resolve();
      if (this.waiting > 0) this.#schedule();
      else for (const resolve of this.#idle.splice(0)) resolve();
    }
  }
}
