/**
 * The bounded queue between the sources and the judge.
 *
 * An alert is decoded before it is queued, not after: a body of one kilobyte takes microseconds, a malformed one can be
 * answered as such, and the sender of a flood pays for it. Judging happens in a later turn of the event loop, so that an
 * answer never waits for work.
 *
 * Sources take turns, one alert each, so none waits behind another's flood. The same alert twice, or over two sources, counts
 * once. When the queue is full the least is lost (see {@link ranks}): a flood that accuses at most half as many offenders as
 * the queue has places loses no new one, for each has at most two alerts in it that are not given up for those. Sources that
 * can wait have places of their own and shed nothing.
 */
import { randomBytes } from 'node:crypto';
import { type Alert, decodeAlert, longestAlert, type NotAlert, type Origin, parseAlert } from '../alert/alert.ts';
import { type Identity, identityOf } from '../alert/identity.ts';
import { type SourceRef, sourceOf } from '../alert/source.ts';
import { isTestRule } from '../alert/test-rule.ts';
import { shortText } from '../alert/text.ts';
import { type Accused, type Arrival, Lane, lowestFirst, type Rank, ranks, type Waiting } from './lane.ts';
import { Lately } from './lately.ts';
import { Seen } from './seen.ts';

export type { SourceRef } from '../alert/source.ts';
export type { Arrival } from './lane.ts';

export interface IntakeLimits {
  readonly alerts: number;
  /** Characters of text. */
  readonly characters: number;
}

/** Of sources that can not wait, together. */
export const intakeLimits: IntakeLimits = { alerts: 10_000, characters: 32 << 20 };

/** What sources that can wait may have in the queue: alerts each, and characters together. */
const patientLimits: IntakeLimits = { alerts: 128, characters: 4 << 20 };

/** Per source, since the start. What is received is bad, duplicate, shed, decided, or waits. */
export interface IntakeCounts {
  /** Bodies, good and bad. */
  readonly received: number;
  /** No alert. */
  readonly bad: number;
  /** Of these: larger than an alert may be, and not read as one. */
  readonly tooLong: number;
  /** Taken before, from this source or another. */
  readonly duplicate: number;
  /** Not taken, the queue being full, or given up for another. */
  readonly shed: number;
  /** Handed to the judge. */
  readonly decided: number;
  /** Of these: older than an alert may be. */
  readonly stale: number;
  /** Of these: of a host that the source may not speak for. */
  readonly otherHost: number;
}

/** The last alert of a source; test alerts are none, for they say nothing of who sends the others. */
export interface LastAlert {
  readonly rule: string;
  /** Its own; null = it has none. */
  readonly timeNs: bigint | null;
  /** `process.hrtime.bigint()` at its last byte. */
  readonly receivedNs: bigint;
  /** How many there were: another number tells of another alert. */
  readonly nth: number;
}

/** `queued`: it will be judged, or was taken before. `shed`: it will not, try again later. Else why it is no alert. */
export type Pushed = 'queued' | 'shed' | NotAlert;

export interface SourceProperties {
  readonly name: string;
  /** See {@link SourceRef}. */
  readonly remote?: boolean;
  readonly fleetHosts?: Iterable<string>;
  /** It asks {@link Intake.hasRoom} before it pushes. */
  readonly canWait?: boolean;
}

/** What is known of an alert before it is judged, at the cost of a microsecond or two. Neither function may throw. */
export interface Glance {
  /** False: it is of a host that its source may not speak for. */
  readonly isOurs: (alert: Alert, source: SourceRef) => boolean;
  /** Null: it accuses nobody, or somebody who can not be blocked. */
  readonly accuse: (alert: Alert, source: SourceRef) => Accusation | null;
}

export interface Accusation {
  /** The same text for the same address. */
  readonly offender: string;
  /** Whether the rule does the most that an alert may do. */
  readonly acts: boolean;
  /** Whether that is done already. */
  readonly isBlocked: boolean;
}

export interface IntakeOptions {
  readonly glance?: Glance;
  /** Milliseconds of a clock that only goes forward. */
  readonly nowMs?: () => number;
  /** False: the same alert counts every time it comes. */
  readonly remembers?: boolean;
}

const noGlance: Glance = { isOurs: () => true, accuse: () => null };

/**
 * While fewer wait than this (and than a sixteenth of the places) nobody asks what could be shed: a glance costs as much as
 * reading the alert. The first one beyond pays for all of them, half a millisecond.
 */
const calm = 64;

/** Milliseconds of judging before the event loop gets its turn. */
const sliceMs = 2;

/** Characters of a rule's name that tell it from others; real ones have under a hundred. */
const longestRule = 128;

interface Source {
  readonly ref: SourceRef;
  readonly canWait: boolean;
  readonly lane: Lane;
  readonly counts: { -readonly [Key in keyof IntakeCounts]: number };
  /** One object, written over. */
  readonly last: { -readonly [Key in keyof LastAlert]: LastAlert[Key] };
}

export class Intake {
  readonly #onAlert: (arrival: Arrival) => unknown;
  readonly #limits: IntakeLimits;
  readonly #glance: Glance;
  readonly #calm: number;
  #hasUnranked = false;
  readonly #nowMs: () => number;
  readonly #sources = new Map<string, Source>();
  /** The same, to take turns. */
  #turns: Source[] = [];
  #turn = 0;
  readonly #seen: Seen | null;
  readonly #key: Identity = { a: randomBytes(4).readUInt32LE(), b: randomBytes(4).readUInt32LE() };
  readonly #lately = new Lately();
  /** How many of each wait, by pair; by offender, of all rules and of those that act. */
  readonly #pairs = new Map<string, number>();
  readonly #offenders = new Map<string, { all: number; acting: number }>();
  /** Of all sources, and of those that can not wait. */
  #waiting = 0;
  #impatient = 0;
  #characters = 0;
  #impatientCharacters = 0;
  /** Of the next alert. */
  #nth = 0;
  #isScheduled = false;
  #idle: (() => void)[] = [];
  #room: (() => void)[] = [];
  /** Those who wait until all before an alert were judged, in order. */
  #marks: { readonly nth: number; readonly resolve: () => void }[] = [];

  /**
   * `onAlert` is called one alert after the other, those of one source in the order they came in. It must not throw. Where it
   * returns `stale` or `other_host`, that is counted.
   */
  constructor(
    onAlert: (arrival: Arrival) => unknown,
    limits: IntakeLimits = intakeLimits,
    { glance = noGlance, nowMs = () => performance.now(), remembers = true }: IntakeOptions = {},
  ) {
    this.#onAlert = onAlert;
    this.#limits = limits;
    this.#glance = glance;
    this.#calm = Math.min(calm, Math.floor(limits.alerts / 16));
    this.#nowMs = nowMs;
    this.#seen = remembers ? new Seen() : null;
  }

  /** Once a source, before it pushes; one that is not registered speaks for this host alone. Counts go on under its name. */
  register({ name, canWait = false, ...speaks }: SourceProperties): SourceRef {
    const ref = sourceOf(name, speaks);
    const before = this.#sources.get(name) ?? {
      ...{ canWait, lane: new Lane(), counts: noCounts() },
      last: { rule: '', timeNs: null, receivedNs: 0n, nth: 0 },
    };
    if (before.lane.size > 0 && before.canWait !== canWait) {
      throw new RangeError(`alerts of ${name} are queued already`);
    }
    this.#sources.set(name, { ...before, ref, canWait });
    this.#turns = [...this.#sources.values()];
    return ref;
  }

  push(text: string, source: string, origin: Origin, receivedNs: bigint): Pushed {
    return this.#take(parseAlert(text, origin), text, this.#sourceOf(source), receivedNs);
  }

  /** An alert that is decoded already (a gRPC message as proto-loader gives it); `text` is what is kept of it, as its cause. */
  pushValue(value: unknown, text: string, source: string, origin: Origin, receivedNs: bigint): Pushed {
    const alert =
      text.length > longestAlert
        ? { problem: 'the text is longer than an alert may be (1 MiB)' }
        : decodeAlert(value, origin);
    return this.#take(alert, text, this.#sourceOf(source), receivedNs);
  }

  /** A body that was refused before it was read as an alert (too large, of a foreign encoding). */
  countBad(source: string, { isTooLong = false }: { isTooLong?: boolean } = {}): void {
    const { counts } = this.#sourceOf(source);
    counts.received++;
    counts.bad++;
    if (isTooLong) counts.tooLong++;
  }

  /**
   * Whether a source that can wait may push so many characters now. Where nothing of it waits there is room for anything.
   * Without a source: as if all that waits were of one.
   */
  hasRoom(characters: number, source?: string): boolean {
    const of = source === undefined ? null : this.#sourceOf(source);
    const waiting = of?.canWait === true ? of.lane.size : this.#waiting;
    const held = of?.canWait === true ? this.#characters - this.#impatientCharacters : this.#characters;
    if (waiting === 0) return true;
    return (
      waiting < Math.min(patientLimits.alerts, this.#limits.alerts) &&
      held + characters <= Math.min(patientLimits.characters, this.#limits.characters)
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
    return this.#waiting;
  }

  /** All that memory is spent on, besides what {@link Seen} has from the start. */
  get held(): { readonly alerts: number; readonly characters: number; readonly pairs: number } {
    return { alerts: this.#waiting, characters: this.#characters, pairs: this.#pairs.size + this.#lately.size };
  }

  counts(): Readonly<Record<string, IntakeCounts>> {
    return Object.fromEntries([...this.#sources].map(([source, { counts }]) => [source, { ...counts }]));
  }

  /** Null: none came since the start. */
  lastOf(name: string): LastAlert | null {
    const last = this.#sources.get(name)?.last;
    return last === undefined || last.nth === 0 ? null : { ...last };
  }

  /** Resolves when all that is queued now was judged, whatever comes after it. */
  decided(): Promise<void> {
    if (this.waiting === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#marks.push({ nth: this.#nth, resolve });
    });
  }

  /** Resolves when nothing is queued. */
  idle(): Promise<void> {
    if (this.waiting === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idle.push(resolve);
    });
  }

  #sourceOf(name: string): Source {
    const source = this.#sources.get(name);
    if (source !== undefined) return source;
    this.register({ name });
    return this.#sourceOf(name);
  }

  #take(alert: Alert | NotAlert, text: string, source: Source, receivedNs: bigint): Pushed {
    const { counts, ref } = source;
    counts.received++;
    if (!('problem' in alert)) hear(source, alert, receivedNs);
    if ('problem' in alert) {
      counts.bad++;
      return alert;
    }
    // What one source may not say must not hide that another says it.
    const isTold = this.#seen !== null && this.#glance.isOurs(alert, ref);
    const identity = isTold ? identityOf(alert, this.#key) : null;
    if (identity !== null && this.#seen?.has(identity)) {
      counts.duplicate++;
      return 'queued';
    }
    const nowMs = this.#nowMs();
    const came: Waiting = {
      arrival: { alert, text, source: ref, receivedNs },
      rank: null,
      nth: this.#nth++,
      identity,
      accused: null,
    };
    // Of what is never shed nobody asks how little would be lost.
    const isCalm = source.canWait || (this.#impatient < this.#calm && this.#isRoomFor(text.length));
    if (!isCalm && this.#hasUnranked) this.#rankAll(nowMs);
    const waiting = isCalm ? came : this.#ranked(came, nowMs);
    if (!this.#makeRoom(source, waiting.rank, text.length)) {
      counts.shed++;
      return 'shed';
    }
    if (identity !== null) this.#seen?.add(identity, nowMs);
    if (isCalm && !source.canWait) this.#hasUnranked = true;
    this.#add(source, waiting);
    this.#schedule();
    return 'queued';
  }

  /** Those that came while it was calm. */
  #rankAll(nowMs: number): void {
    this.#hasUnranked = false;
    const all: { readonly source: Source; readonly waiting: Waiting }[] = [];
    for (const source of this.#turns) {
      if (source.canWait || source.lane.unranked === 0) continue;
      for (let waiting = source.lane.shift(); waiting !== null; waiting = source.lane.shift()) {
        this.#left(source, waiting);
        all.push({ source, waiting });
      }
    }
    // In the order they came: the first of an offender is the one that counts.
    for (const { source, waiting } of all.toSorted((one, other) => one.waiting.nth - other.waiting.nth)) {
      this.#add(source, waiting.rank === null ? this.#ranked(waiting, nowMs) : waiting);
    }
  }

  #ranked(waiting: Waiting, nowMs: number): Waiting {
    const { alert, source } = waiting.arrival;
    const accusation = this.#glance.accuse(alert, source);
    const accused = accusation === null ? null : accusedBy(alert.rule, accusation);
    return { ...waiting, accused, rank: this.#rankOf(accused, accusation?.isBlocked ?? false, nowMs) };
  }

  #rankOf(accused: Accused | null, isBlocked: boolean, nowMs: number): Rank {
    if (accused === null) return ranks.nobody;
    const { offender, acts, pair } = accused;
    if (isBlocked || this.#pairs.has(pair) || this.#lately.hasPair(pair, nowMs)) return ranks.redundant;
    const waiting = this.#offenders.get(offender);
    const isKnown =
      (waiting !== undefined && (waiting.acting > 0 || !acts)) || this.#lately.hasOffender(offender, acts, nowMs);
    return isKnown ? ranks.known : ranks.fresh;
  }

  /** False when it has less right to a place than all that wait. */
  #makeRoom(source: Source, rank: Rank | null, characters: number): boolean {
    if (source.canWait) return this.hasRoom(characters, source.ref.name);
    if (characters > this.#limits.characters) return false;
    while (!this.#isRoomFor(characters)) {
      if (rank === null) return false;
      const [from, lowest] = this.#mostDispensable(source, rank, characters) ?? [];
      const given = lowest === undefined ? undefined : from?.lane.pop(lowest);
      if (from === undefined || given === undefined || given === null) return false;
      this.#left(from, given);
      from.counts.shed++;
      if (given.identity !== null) this.#seen?.forget(given.identity);
    }
    return true;
  }

  #isRoomFor(characters: number): boolean {
    return this.#impatient < this.#limits.alerts && this.#impatientCharacters + characters <= this.#limits.characters;
  }

  /** Of the lowest rank, from the source with most of it; of the same rank only from one with more than this one would have. */
  #mostDispensable(source: Source, rank: Rank, characters: number): readonly [Source, Rank] | null {
    for (const lower of lowestFirst) {
      if (lower > rank) break;
      let most: Source | null = null;
      let share = lower < rank ? 0 : this.#share(source.lane, rank, 1, characters);
      for (const other of this.#turns) {
        const theirs = other.canWait ? 0 : this.#share(other.lane, lower, 0, 0);
        if (theirs <= share) continue;
        share = theirs;
        most = other;
      }
      if (most !== null) return [most, lower];
    }
    return null;
  }

  /** Of the queue; by what it has more of, alerts or characters. */
  #share(lane: Lane, rank: Rank, more: number, moreCharacters: number): number {
    return Math.max(
      (lane.sizeOf(rank) + more) / this.#limits.alerts,
      (lane.charactersOf(rank) + moreCharacters) / this.#limits.characters,
    );
  }

  #add(source: Source, waiting: Waiting): void {
    const { accused, arrival } = waiting;
    source.lane.push(waiting);
    this.#count(source, 1, arrival.text.length);
    if (accused === null) return;
    const { pair, offender, acts } = accused;
    this.#pairs.set(pair, (this.#pairs.get(pair) ?? 0) + 1);
    const of = this.#offenders.get(offender) ?? { all: 0, acting: 0 };
    of.all++;
    if (acts) of.acting++;
    this.#offenders.set(offender, of);
  }

  #left(source: Source, { accused, arrival }: Waiting): void {
    this.#count(source, -1, -arrival.text.length);
    if (accused === null) return;
    const { pair, offender, acts } = accused;
    const alike = (this.#pairs.get(pair) ?? 1) - 1;
    if (alike === 0) this.#pairs.delete(pair);
    else this.#pairs.set(pair, alike);
    const of = this.#offenders.get(offender);
    if (of === undefined) return;
    of.all--;
    if (acts) of.acting--;
    if (of.all === 0) this.#offenders.delete(offender);
  }

  #count({ canWait }: Source, alerts: number, characters: number): void {
    this.#waiting += alerts;
    this.#characters += characters;
    if (canWait) return;
    this.#impatient += alerts;
    this.#impatientCharacters += characters;
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
        const source = this.#next();
        const waiting = source?.lane.shift() ?? null;
        if (source === null || waiting === null) break;
        this.#left(source, waiting);
        const { accused, arrival } = waiting;
        if (accused !== null) this.#lately.add(accused.pair, accused.offender, accused.acts, this.#nowMs());
        source.counts.decided++;
        const outcome = this.#onAlert(arrival);
        if (outcome === 'stale') source.counts.stale++;
        else if (outcome === 'other_host') source.counts.otherHost++;
      } while (performance.now() < until);
    } finally {
      const first = this.#marks.length === 0 ? 0 : Math.min(...this.#turns.map(({ lane }) => lane.first));
      const passed = this.#marks.findIndex(({ nth }) => nth > first);
      for (const { resolve } of this.#marks.splice(0, passed === -1 ? this.#marks.length : passed)) resolve();
      for (const resolve of this.#room.splice(0)) resolve();
      if (this.waiting > 0) this.#schedule();
      else for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  /** The next in turn of which something waits. */
  #next(): Source | null {
    for (let n = 0; n < this.#turns.length; n++) {
      const source = this.#turns[this.#turn++ % this.#turns.length];
      if (source !== undefined && source.lane.size > 0) return source;
    }
    return null;
  }
}

function accusedBy(rule: string, { offender, acts }: Accusation): Accused {
  return { offender, acts, pair: `${acts ? '+' : '-'}${offender} ${shortText(rule, longestRule)}` };
}

function hear({ last }: Source, { rule, timeNs }: Alert, receivedNs: bigint): void {
  if (isTestRule(rule)) return;
  last.rule = rule;
  last.timeNs = timeNs;
  last.receivedNs = receivedNs;
  last.nth++;
}

function noCounts(): Source['counts'] {
  return { received: 0, bad: 0, tooLong: 0, duplicate: 0, shed: 0, decided: 0, stale: 0, otherHost: 0 };
}
