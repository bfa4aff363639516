/**
 * A Kafka topic of alerts, read as a member of a consumer group for as long as it is wanted: begun again whenever that breaks.
 *
 * At least once: an offset is committed when all before it is decided and durable, and not before; what comes again is known by
 * its identity, and a block that is there already changes nothing. Who speaks with the brokers is a thread (worker.ts), one for
 * each membership.
 */
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { FalcodropError } from '../../errors.ts';
import { backoffMs, jittered, Pause } from '../backoff.ts';
import type { Intake } from '../intake.ts';
import { Keeping } from '../keeping.ts';
import type { Say } from '../lines/feed.ts';
import { Sparing } from '../sparing.ts';
import type { Standing } from '../standing.ts';
import type { Aside } from './aside.ts';
import type { Failure } from './failure.ts';
import type { Member } from './member.ts';
import type {
  Assigned,
  BrokerAddress,
  FromThread,
  KafkaAccess,
  Offset,
  Records,
  SessionPace,
  ThreadData,
  ToThread,
} from './message.ts';
import { reachProblem } from './reach.ts';

export interface TopicOptions {
  readonly brokers: readonly BrokerAddress[];
  readonly topic: string;
  readonly group: string;
  /** Where a group begins that has never committed. */
  readonly begin: 'latest' | 'earliest';
  /** Read anew for each session; throws FalcodropError. */
  readonly readAccess: () => KafkaAccess;
  readonly intake: Pick<Intake, 'register' | 'push' | 'countBad' | 'hasRoom' | 'room'>;
  /** `kafka:NAME` */
  readonly source: string;
  readonly remote: boolean;
  readonly fleetHosts: readonly string[];
  /** Bytes of one alert. */
  readonly longest: number;
  /** As {@link Keeping}'s. */
  readonly durable: () => Promise<boolean>;
  readonly aside: Aside;
  readonly member?: Pick<Member, 'read' | 'keep'>;
  readonly say: Say;
  readonly standing?: Standing;
  readonly pace?: Partial<TopicPace>;
}

/** Milliseconds. */
export interface TopicPace extends SessionPace {
  /** From a failure to the next attempt; doubled each time until the longest, and up to half of it taken off at random. */
  readonly firstDelayMs: number;
  readonly longestDelayMs: number;
  /** The same, for a broker that has refused us. */
  readonly refusedDelayMs: number;
  /** A session that has lasted so long was no failure. */
  readonly steadyMs: number;
  /** From reading something to committing it. */
  readonly keepMs: number;
  /** At the end, for leaving the group. */
  readonly leaveMs: number;
  /** Between two lines of the log about messages that are no alerts. */
  readonly oftenMs: number;
}

export const topicPace: TopicPace = {
  // The shortest that brokers take is 6 s, by default.
  sessionMs: 10_000,
  rebalanceMs: 20_000,
  heartbeatMs: 1_000,
  connectMs: 5_000,
  fetchMs: 1_000,
  metadataMs: 5_000,
  patienceMs: 10_000,
  firstDelayMs: 250,
  longestDelayMs: 5_000,
  refusedDelayMs: 30_000,
  steadyMs: 30_000,
  keepMs: 1_000,
  leaveMs: 1_500,
  oftenMs: 60_000,
};

/** Messages that are kept aside in a period: who sends a flood of them sends the same. */
const mostAside = 64;

/** Since the start. */
export interface TopicCounts {
  /** Messages that are no alerts and were kept aside. */
  readonly aside: number;
  /** Messages that could not be read at all. */
  readonly unreadable: number;
  /** Sessions that ended though they should not have. */
  readonly failures: number;
  /** Messages of the topic that were not read yet, as far as is known, in the partitions that are ours now. */
  readonly lag: number;
}

interface Lease {
  readonly lease: number;
  /** All before it is queued, or kept aside. */
  offset: number;
  /** Of the next message to be written, when it was last heard of. */
  high: number;
}

export class KafkaTopic {
  readonly source: string;
  readonly #options: TopicOptions;
  readonly #pace: TopicPace;
  readonly #keeping: Keeping<readonly Offset[]>;
  readonly #state: Sparing;
  readonly #dealt: Sparing;
  readonly #counts = { aside: 0, unreadable: 0, failures: 0 };
  /** Of the present session, by partition. */
  readonly #leases = new Map<number, Lease>();
  #thread: Worker | null = null;
  /** What the thread said, one after the other. */
  #taking: Promise<void> = Promise.resolve();
  readonly #commits = new Map<number, (failure: Failure | null) => void>();
  #nextCommit = 1;
  #memberId: string | null = null;
  #hasBegun = false;
  #isStopped = false;
  #isEnded = false;
  readonly #ending = new AbortController();
  #running: Promise<void> | null = null;
  readonly #pause = new Pause();
  /** What secrets and certificates were for the present session. */
  #access = '';
  readonly #period = { from: Number.NEGATIVE_INFINITY, bad: 0, aside: 0, problem: '' };
  /** Commits that failed in a row. */
  #troubles = 0;

  constructor(options: TopicOptions) {
    const { intake, source: name, remote, fleetHosts, say } = options;
    this.source = name;
    this.#options = options;
    this.#pace = { ...topicPace, ...options.pace };
    intake.register({ name, remote, fleetHosts, canWait: true });
    this.#state = new Sparing(say, { most: 10, againMs: 600_000 });
    this.#dealt = new Sparing(say, { most: 10, againMs: 0 });
    this.#keeping = new Keeping({
      now: () => this.#offsets(),
      durable: options.durable,
      write: (offsets) => this.#commit(offsets),
      onTrouble: (error) => this.#trouble(error),
      keepMs: this.#pace.keepMs,
    });
  }

  /** A broker, or a topic, that is not there yet is waited for. */
  start(): void {
    const { standing } = this.#options;
    standing?.is('connecting');
    standing?.lagsBy(async () => (this.#leases.size === 0 ? null : { amount: this.counts().lag, unit: 'alerts' }));
    this.#running ??= this.#run();
  }

  counts(): TopicCounts {
    let lag = 0;
    for (const { offset, high } of this.#leases.values()) lag += Math.max(0, high - offset);
    return { ...this.#counts, lag };
  }

  /** Secrets and certificates may be others now: where they are, a session is begun with them. */
  renew(): void {
    let access: string;
    try {
      access = JSON.stringify(this.#options.readAccess());
    } catch (error) {
      if (!(error instanceof FalcodropError)) throw error;
      const { message: problem, hint = null } = error;
      const { source, say } = this.#options;
      say('warn', 'the former secrets and certificates go on', { source, problem, hint });
      return;
    }
    if (access === this.#access) return;
    this.#tell({ kind: 'leave' });
    this.#pause.end();
  }

  /** Reads no more and stays in the group; resolves when what came is queued. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#ending.abort();
    this.#tell({ kind: 'quiet' });
    this.#pause.end();
    await this.#taking;
  }

  /** Stops, commits what is durable, and leaves the group. What is waited for is `durable`, and the brokers for a moment. */
  async close(): Promise<void> {
    await this.stop();
    this.#keeping.end();
    await this.#keeping.keep();
    this.#tell({ kind: 'leave' });
    const late = setTimeout(() => void this.#thread?.terminate(), this.#pace.leaveMs);
    this.#isEnded = true;
    this.#pause.end();
    await this.#running;
    clearTimeout(late);
  }

  /** Closes as a crash would: nothing is committed, and the group is left to find out. */
  async abandon(): Promise<void> {
    this.#isStopped = true;
    this.#isEnded = true;
    this.#ending.abort();
    this.#keeping.end();
    this.#pause.end();
    await this.#thread?.terminate();
    await this.#running;
  }

  async #run(): Promise<void> {
    let failures = 0;
    this.#memberId = (await this.#options.member?.read()) ?? null;
    while (!this.#isEnded) {
      const begun = performance.now();
      const failure = await this.#session();
      if (this.#isEnded) break;
      if (failure === null || performance.now() - begun > this.#pace.steadyMs) failures = 0;
      if (failure !== null) this.#counts.failures++;
      await this.#pause.wait(this.#delay(failures++, failure?.isRefusal ?? false));
    }
  }

  #delay(failures: number, isRefusal: boolean): number {
    return jittered(isRefusal ? this.#pace.refusedDelayMs : backoffMs(failures, this.#pace));
  }

  /** One membership, from its beginning to its end; null where it was told to leave. Never rejects. */
  async #session(): Promise<Failure | null> {
    const { brokers, topic, group, readAccess, longest, begin } = this.#options;
    if (this.#isStopped) {
      // Nothing is begun any more.
      if (!this.#isEnded) await this.#pause.wait(null);
      return null;
    }
    let access: KafkaAccess;
    try {
      access = readAccess();
    } catch (error) {
      const { message: problem, hint = null } = error as FalcodropError;
      this.#say(false, { problem, hint });
      return { problem, hint, isRefusal: false };
    }
    this.#access = JSON.stringify(access);
    const unreached = await reachProblem(brokers, this.#pace.connectMs, this.#ending.signal);
    if (this.#isStopped) return null;
    if (unreached !== null) {
      this.#say(false, unreached);
      return unreached;
    }
    const data: ThreadData = {
      falcodropKafka: {
        ...access,
        brokers,
        topic,
        group,
        // What the topic has got since it was seen first is new.
        begin: this.#hasBegun ? 'earliest' : begin,
        memberId: this.#memberId,
        longest,
        pace: this.#pace,
      },
    };
    // Run from the sources, or from the bundle in dist/.
    const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './kafka-worker.js';
    // What it reads lies outside of V8's heap, and in a thread with limits V8 would look for all garbage with every few megabytes of
    // it. The flag holds for threads that are begun from now on.
    setFlagsFromString('--initial-old-space-size=96');
    const thread = new Worker(new URL(file, import.meta.url), {
      workerData: data,
      name: 'falcodrop-kafka',
      // A megabyte can inflate to millions of messages: then this thread ends, and not the daemon.
      resourceLimits: { maxOldGenerationSizeMb: 512 },
    });
    this.#thread = thread;
    let failure: Failure = { problem: 'its thread ended', hint: null, isRefusal: false };
    let wasIn = false;
    thread.on('message', (message: FromThread) => {
      if (message.kind === 'ended') {
        failure = message.failure;
        this.#memberId = message.memberId;
        void thread.terminate();
      } else if (message.kind === 'committed') {
        this.#commits.get(message.id)?.(message.failure);
      } else {
        if (message.kind === 'assigned') wasIn = true;
        this.#taking = this.#taking.then(() => this.#take(message));
      }
    });
    thread.on('error', (error) => {
      failure = { problem: error instanceof Error ? error.message : String(error), hint: null, isRefusal: false };
    });
    await new Promise((resolve) => {
      thread.on('exit', resolve);
    });
    this.#thread = null;
    for (const settle of this.#commits.values()) settle(failure);
    this.#leases.clear();
    await this.#taking;
    this.#leases.clear();
    if (failure.problem === leaving) return null;
    if (!this.#isStopped) this.#say(wasIn, failure);
    return failure;
  }

  #say(wasIn: boolean, { problem, hint }: Pick<Failure, 'problem' | 'hint'>): void {
    const message = wasIn ? 'connection lost; it is opened again' : 'not connected; it is tried again';
    this.#options.standing?.is('failed');
    this.#state.say('warn', message, { source: this.source, problem, hint });
  }

  #tell(message: ToThread): void {
    this.#thread?.postMessage(message);
  }

  /** Never rejects. */
  async #take(message: Exclude<FromThread, { readonly kind: 'ended' | 'committed' }>): Promise<void> {
    if (message.kind === 'assigned') return this.#assign(message.memberId, message.partitions);
    const lease = this.#leases.get(message.partition);
    const isOurs = lease !== undefined && lease.lease === message.lease;
    if (message.kind === 'records') {
      if (isOurs) await this.#push(message, lease);
      this.#tell({ kind: 'taken', bytes: message.bytes.length });
      return;
    }
    if (!isOurs) return;
    const { source, say } = this.#options;
    const { partition } = message;
    if (message.kind === 'moved') {
      say('warn', 'what was to be read next is gone: deleted by its age, or with its topic', {
        source,
        partition,
        from: lease.offset,
        to: message.to,
      });
      lease.offset = message.to;
    } else {
      const { from, to, problem } = message;
      this.#counts.unreadable += to - from;
      this.#options.intake.countBad(source);
      say('warn', 'messages that can not be read are left out', { source, partition, from, to, problem });
      lease.offset = to;
    }
    this.#keeping.soon();
  }

  #assign(memberId: string | null, partitions: readonly Assigned[]): void {
    const before = new Map(this.#leases);
    this.#memberId = memberId;
    if (memberId !== null) void this.#keepMember(memberId);
    this.#hasBegun = true;
    this.#leases.clear();
    for (const { partition, lease, offset } of partitions) {
      const former = before.get(partition);
      this.#leases.set(partition, former?.lease === lease ? former : { lease, offset, high: offset });
    }
    const { source, topic, group, standing } = this.#options;
    standing?.is('connected');
    this.#state.say('info', 'connected', { source, topic, group });
    const ours = partitions.map(({ partition }) => partition).toSorted((one, other) => one - other);
    this.#dealt.say('info', ours.length === 0 ? 'other members of the group have all partitions' : 'partitions', {
      source,
      group,
      partitions: ours,
    });
  }

  /** Without it who comes after a kill waits until the group has noticed. */
  async #keepMember(id: string): Promise<void> {
    const { member, source } = this.#options;
    try {
      await member?.keep(id);
    } catch (error) {
      const problem = (error as NodeJS.ErrnoException).code ?? String(error);
      this.#state.say('warn', 'our membership of the group can not be kept', { source, problem });
    }
  }

  async #push({ partition, lease: id, offsets, ends, sizes, bytes, next, high }: Records, lease: Lease): Promise<void> {
    const { intake, source, longest } = this.#options;
    const receivedNs = process.hrtime.bigint();
    const buffer = Buffer.from(bytes.buffer);
    lease.high = high;
    // Offsets stay where they are: another session, or another member, takes the rest.
    const isGone = (): boolean => this.#isStopped || this.#leases.get(partition)?.lease !== id;
    let from = 0;
    for (let n = 0; n < offsets.length; n++) {
      if (isGone()) return;
      const [offset = 0, to = from, size = -1] = [offsets[n], ends[n], sizes[n]];
      const text = buffer.toString('utf8', from, to);
      from = to;
      let problem: string | null = null;
      if (size < 0 || size > longest) {
        problem = size < 0 ? 'it has no value' : `an alert has at most ${longest} bytes`;
        intake.countBad(source, { isTooLong: size > longest });
      } else {
        while (!intake.hasRoom(text.length, source)) {
          await intake.room();
          if (isGone()) return;
        }
        const pushed = intake.push(text, source, 'network', receivedNs);
        if (typeof pushed === 'object') problem = pushed.problem;
      }
      if (problem !== null) {
        await this.#setAside(partition, offset, problem, size, text);
      }
      lease.offset = offset + 1;
    }
    if (isGone()) return;
    lease.offset = next;
    this.#keeping.soon();
  }

  async #setAside(partition: number, offset: number, problem: string, size: number, text: string): Promise<void> {
    const { aside, source, topic } = this.#options;
    const period = this.#period;
    const now = performance.now();
    if (now - period.from >= this.#pace.oftenMs) {
      this.#sayAside();
      period.from = now;
      period.problem = problem;
      // The first of a period is said at once, and how many there were at its end.
      this.#options.say('warn', 'a message is no alert, and is kept aside', {
        source,
        problem,
        partition,
        offset,
        path: aside.path,
      });
    } else {
      period.bad++;
    }
    if (period.aside >= mostAside) return;
    period.aside++;
    const bytes = size < 0 ? null : size;
    try {
      await aside.keep({ source, topic, partition, offset, problem, bytes, text }, Date.now());
      this.#counts.aside++;
    } catch (error) {
      const why = (error as NodeJS.ErrnoException).code ?? String(error);
      this.#state.say('warn', 'messages that are no alerts can not be kept aside', {
        source,
        problem: why,
        path: aside.path,
      });
    }
  }

  /** What came in the period that has ended. */
  #sayAside(): void {
    const { bad, aside } = this.#period;
    const { source, say } = this.#options;
    if (bad > 0) say('warn', 'further messages were no alerts', { source, messages: bad, notKept: bad + 1 - aside });
    this.#period.bad = 0;
    this.#period.aside = 0;
  }

  /** Null: there is nothing to commit. */
  #offsets(): { readonly value: readonly Offset[]; readonly text: string } | null {
    if (this.#leases.size === 0) return null;
    const value = [...this.#leases].map(([partition, { lease, offset }]): Offset => ({ partition, lease, offset }));
    return { value, text: `${this.#memberId} ${value.map(({ lease, offset }) => `${lease}:${offset}`).join(' ')}` };
  }

  async #commit(offsets: readonly Offset[]): Promise<void> {
    const id = this.#nextCommit++;
    const failure = await new Promise<Failure | null>((resolve) => {
      if (this.#thread === null) return resolve({ problem: 'there is no connection', hint: null, isRefusal: false });
      this.#commits.set(id, resolve);
      this.#tell({ kind: 'commit', id, offsets });
    });
    this.#commits.delete(id);
    if (failure !== null) throw new Error(failure.problem);
  }

  /** A commit that failed comes again; it is worth a line when that lasts. */
  #trouble(error: unknown): void {
    const { source } = this.#options;
    if (error === null) {
      if (this.#troubles > 1) this.#state.say('info', 'offsets are committed again', { source });
      this.#troubles = 0;
      return;
    }
    if (this.#isStopped || this.#leases.size === 0 || ++this.#troubles < 2) return;
    const problem = error instanceof Error ? error.message : String(error);
    this.#state.say('warn', 'offsets are not committed yet: after a restart alerts would come again', {
      source,
      problem,
    });
  }
}

/** What a session says that was told to leave. */
const leaving = 'told to leave';
