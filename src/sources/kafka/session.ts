/**
 * One membership in a consumer group: joins, fetches what it is dealt, hands it over, commits what it is told to. It ends with the
 * first failure that does not pass by itself, and is never mended: the next one begins anew.
 *
 * Of the client's library the parts that speak with brokers are used, not its stream: that one commits what it has read, and can
 * not be told that one partition was dealt to somebody else. Known of 1.35: a heartbeat that failed is the last one, and a
 * coordinator that was found once is never looked for again, which is why every such error ends the session.
 */
import {
  type ClusterMetadata,
  type Connection,
  ConnectionPool,
  Consumer,
  FetchIsolationLevels,
  IS_CONTROL,
  ListOffsetTimestamps,
  type RecordsBatch,
  SASLMechanisms,
} from '@platformatic/kafka';
import { type Failure, failureOf } from './failure.ts';
import { type Assigned, cutAt, type FromThread, type Offset, type Records, type SessionOptions } from './message.ts';

/** Bytes of a fetch. A message that is larger comes all the same, alone. */
const fetchBytes = 1 << 20;

/** Batches that a fetch may have held: where one is not read, they are fetched one at a time (the least that brokers give). */
const mostBatches = 10_000;

/** Bytes that may be handed over and not yet queued; then nothing is fetched. */
const windowBytes = 4 << 20;

/** How often partitions are looked at that nobody fetches: their leader was unknown, or the topic has more of them now. */
const lookMs = 1_000;

/** What leaving the group may take: then the group notices by itself. */
const leaveMs = 1_000;

const mechanisms = {
  plain: SASLMechanisms.PLAIN,
  'scram-sha-256': SASLMechanisms.SCRAM_SHA_256,
  'scram-sha-512': SASLMechanisms.SCRAM_SHA_512,
} as const;

interface Partition {
  readonly lease: number;
  /** Of the next message to be fetched. */
  offset: bigint;
}

type FetchResponse = Awaited<ReturnType<Consumer['fetch']>>;

export class Session {
  readonly #options: SessionOptions;
  readonly #say: (message: FromThread) => void;
  readonly #consumer: Consumer;
  readonly #pool: ConnectionPool;
  #partitions = new Map<number, Partition>();
  /** Of the last assignment: ours in two generations that follow each other, a partition was nobody else's between them. */
  #generation: number | null = null;
  #member: string | null = null;
  #isLeader = false;
  #hasBegun = false;
  /** How many the topic had when they were dealt. */
  #count = 0;
  #nextLease = 1;
  /** Assignments, one after the other. */
  #assigning: Promise<void> = Promise.resolve();
  readonly #fetching = new Set<number>();
  #turn = 0;
  #handedOver = 0;
  #isQuiet = false;
  #isEnded = false;
  #failingSince: number | null = null;
  /** A request that a connection broke under only says that it did; this says why. */
  #brokenBy: unknown = null;
  #end: (failure: Failure) => void = () => undefined;

  constructor(options: SessionOptions, say: (message: FromThread) => void) {
    this.#options = options;
    this.#say = say;
    const { brokers, group, memberId, pace, sasl, tls, topic } = options;
    const connection = {
      connectTimeout: pace.connectMs,
      // Joining waits for the other members.
      requestTimeout: pace.rebalanceMs + pace.connectMs,
      ...(tls === null
        ? {}
        : {
            tls: {
              ...(tls.ca === null ? {} : { ca: tls.ca }),
              ...(tls.cert === null || tls.key === null ? {} : { cert: tls.cert, key: tls.key }),
            },
          }),
      ...(sasl === null
        ? {}
        : { sasl: { mechanism: mechanisms[sasl.mechanism], username: sasl.username, password: sasl.password } }),
    };
    this.#consumer = new Consumer({
      ...connection,
      clientId,
      groupId: group,
      bootstrapBrokers: brokers.map(({ host, port }) => ({ host, port })),
      retries: 0,
      metadataMaxAge: pace.metadataMs,
      autocommit: false,
      sessionTimeout: pace.sessionMs,
      rebalanceTimeout: pace.rebalanceMs,
      heartbeatInterval: pace.heartbeatMs,
      // Alerts of transactions that were given up are evidence too; and the library fails at their markers.
      isolationLevel: FetchIsolationLevels.READ_UNCOMMITTED,
    });
    this.#consumer.memberId = memberId;
    this.#consumer.topics.track(topic);
    // A broker answers the requests of a connection one after the other: heartbeats do not wait behind a fetch.
    this.#pool = new ConnectionPool(clientId, connection);
  }

  get memberId(): string | null {
    return this.#consumer.memberId;
  }

  /** Resolves when it has ended, and was said so. */
  async run(): Promise<void> {
    const ended = new Promise<Failure>((resolve) => {
      this.#end = resolve;
    });
    const consumer = this.#consumer;
    const fail = (error: unknown): void => this.#fail(error);
    consumer.on('error' as 'client:close', fail as () => void);
    consumer.on('consumer:heartbeat:error', ({ error }) => fail(error));
    // A broker may refuse our certificate when the connection is there already (TLS 1.3).
    const listen = ({ connection }: { readonly connection?: Connection }): void => {
      connection?.on('error', (error) => {
        this.#brokenBy = error;
      });
    };
    consumer.on('client:broker:connect', listen);
    this.#pool.on('connect', listen);
    consumer.on('consumer:group:join', ({ assignments = [], generationId = 0, isLeader = false }) => {
      const ours = assignments.find(({ topic }) => topic === this.#options.topic)?.partitions ?? [];
      this.#isLeader = isLeader;
      const { memberId } = consumer;
      const isNext = memberId !== null && memberId === this.#member && generationId - 1 === this.#generation;
      this.#generation = generationId;
      this.#member = memberId;
      this.#assigning = this.#assigning.then(() => this.#assign(ours, isNext).catch(fail));
    });
    consumer.joinGroup({}).catch(fail);
    const looking = setInterval(() => {
      if (!this.#isLeader || this.#isQuiet) this.#pump();
      else void this.#look().catch(fail);
    }, lookMs);
    const failure = await ended;
    clearInterval(looking);
    this.#partitions.clear();
    await this.#close();
    this.#say({ kind: 'ended', failure, memberId: consumer.memberId });
  }

  /** The other side has room for so many bytes again. */
  taken(bytes: number): void {
    this.#handedOver -= bytes;
    this.#pump();
  }

  /** Of what is still ours; the rest is another member's to commit. Never rejects. */
  async commit(id: number, offsets: readonly Offset[]): Promise<void> {
    let failure: Failure | null = null;
    try {
      await this.#commit(offsets.filter(({ partition, lease }) => this.#partitions.get(partition)?.lease === lease));
    } catch (error) {
      failure = failureOf(error);
    }
    this.#say({ kind: 'committed', id, failure });
  }

  quiet(): void {
    this.#isQuiet = true;
  }

  leave(): void {
    this.#isQuiet = true;
    this.#fail(new Error('told to leave'));
  }

  #fail(error: unknown): void {
    this.#isEnded = true;
    this.#end(this.#failureOf(error));
  }

  #failureOf(error: unknown): Failure {
    return failureOf(this.#brokenBy === null ? error : new AggregateError([this.#brokenBy, error]));
  }

  /** Leaves the group where that is possible. */
  async #close(): Promise<void> {
    const late = new Promise((resolve) => setTimeout(resolve, leaveMs));
    const left = new Promise<void>((resolve) => this.#consumer.close(true, () => resolve()));
    await Promise.race([left, late]);
    const closed = new Promise<void>((resolve) => this.#pool.close(() => resolve()));
    await Promise.race([closed, late]);
  }

  async #commit(offsets: readonly { readonly partition: number; readonly offset: number }[]): Promise<void> {
    if (offsets.length === 0) return;
    const { topic } = this.#options;
    await this.#consumer.commit({
      offsets: offsets.map(({ partition, offset }) => ({ topic, partition, offset: BigInt(offset), leaderEpoch: -1 })),
    });
  }

  /** `isNext`: nobody else had what is ours still. */
  async #assign(ours: readonly number[], isNext: boolean): Promise<void> {
    const { topic } = this.#options;
    const kept = new Map(isNext ? [...this.#partitions].filter(([partition]) => ours.includes(partition)) : []);
    // What is no more ours is not fetched, from now on.
    this.#partitions = kept;
    const fresh = ours.filter((partition) => !kept.has(partition));
    const metadata = await this.#consumer.metadata({ topics: [topic] });
    this.#count = metadata.topics.get(topic)?.partitionsCount ?? 0;
    const begins = fresh.length === 0 ? new Map<number, bigint>() : await this.#beginnings(fresh);
    if (this.#isEnded) return;
    const all = new Map(kept);
    for (const [partition, offset] of begins) all.set(partition, { lease: this.#nextLease++, offset });
    this.#partitions = all;
    const partitions = [...all].map(
      ([partition, { lease, offset }]): Assigned => ({ partition, lease, offset: Number(offset) }),
    );
    this.#say({ kind: 'assigned', memberId: this.memberId, partitions });
    this.#hasBegun = true;
    this.#pump();
  }

  /**
   * Where the group has come to; where it has not begun, that is written down before anything is read: what comes from now on is
   * not lost, whoever reads it.
   */
  async #beginnings(partitions: readonly number[]): Promise<Map<number, bigint>> {
    const { begin, topic } = this.#options;
    const committed = await this.#consumer.listCommittedOffsets({ topics: [{ topic, partitions: [...partitions] }] });
    const found = new Map<number, bigint>();
    const missing = { latest: [] as number[], earliest: [] as number[] };
    for (const partition of partitions) {
      const offset = committed.get(topic)?.[partition];
      if (offset !== undefined && offset >= 0n) found.set(partition, offset);
      // A partition that the topic did not have before has nothing in it that was there before.
      else missing[this.#hasBegun ? 'earliest' : begin].push(partition);
    }
    for (const from of ['latest', 'earliest'] as const) {
      const timestamp = from === 'latest' ? ListOffsetTimestamps.LATEST : ListOffsetTimestamps.EARLIEST;
      for (const [partition, offset] of await this.#list(missing[from], timestamp)) found.set(partition, offset);
    }
    await this.#commit(
      [...missing.latest, ...missing.earliest].map((partition) => ({
        partition,
        offset: Number(found.get(partition) ?? 0n),
      })),
    );
    return found;
  }

  async #list(partitions: readonly number[], timestamp: bigint): Promise<Map<number, bigint>> {
    if (partitions.length === 0) return new Map();
    const { topic } = this.#options;
    const offsets = await this.#consumer.listOffsets({
      topics: [topic],
      partitions: { [topic]: [...partitions] },
      timestamp,
    });
    return new Map(partitions.map((partition) => [partition, offsets.get(topic)?.[partition] ?? 0n]));
  }

  /** The leader of the group deals partitions anew when the topic has more of them. */
  async #look(): Promise<void> {
    const { topic } = this.#options;
    await this.#assigning;
    if (this.#isEnded) return;
    const metadata = await this.#consumer.metadata({ topics: [topic] });
    const count = metadata.topics.get(topic)?.partitionsCount ?? 0;
    if (count > this.#count) {
      this.#count = count;
      await this.#consumer.joinGroup({});
    }
    this.#pump();
  }

  /** Begins what may be fetched, a request for each broker at a time. */
  #pump(): void {
    if (this.#isEnded || this.#isQuiet || this.#partitions.size === 0 || this.#handedOver >= windowBytes) return;
    void this.#begin().catch((error: unknown) => this.#fail(error));
  }

  async #begin(): Promise<void> {
    const { topic } = this.#options;
    let metadata: ClusterMetadata;
    try {
      metadata = await this.#consumer.metadata({ topics: [topic] });
      if (this.#isEnded) return;
    } catch (error) {
      return this.#endure(error);
    }
    const about = metadata.topics.get(topic);
    const byLeader = new Map<number, number[]>();
    for (const partition of this.#partitions.keys()) {
      const leader = about?.partitions[partition]?.leader ?? -1;
      // Nobody leads it now: it is looked at again.
      if (leader < 0 || !metadata.brokers.has(leader) || this.#fetching.has(leader)) continue;
      byLeader.set(leader, [...(byLeader.get(leader) ?? []), partition]);
    }
    for (const [leader, partitions] of byLeader) {
      this.#fetching.add(leader);
      const first = this.#turn++ % partitions.length;
      const inTurn = [...partitions.slice(first), ...partitions.slice(0, first)];
      void this.#fetchFrom(leader, about?.id ?? '', inTurn)
        .then(
          () => {
            this.#failingSince = null;
            this.#brokenBy = null;
          },
          (error: unknown) => this.#endure(error),
        )
        .finally(() => {
          this.#fetching.delete(leader);
          // At once again where that went well; else when it is looked at.
          if (this.#failingSince === null) this.#pump();
        });
    }
  }

  /** A failure that may pass: a leader that has changed, a broker that is away. */
  #endure(error: unknown): void {
    if (this.#isEnded) return;
    const failure = this.#failureOf(error);
    this.#failingSince ??= performance.now();
    this.#consumer.clearMetadata();
    if (failure.isRefusal || performance.now() - this.#failingSince > this.#options.pace.patienceMs) this.#fail(error);
  }

  async #fetchFrom(leader: number, topicId: string, partitions: readonly number[]): Promise<void> {
    const wanted = new Map<number, Partition>();
    for (const partition of partitions) {
      const state = this.#partitions.get(partition);
      if (state !== undefined) wanted.set(partition, { ...state });
    }
    let response: FetchResponse;
    try {
      response = await this.#fetch(leader, topicId, wanted, this.#options.pace.fetchMs);
    } catch (error) {
      if (hasSaid(error, 'OFFSET_OUT_OF_RANGE')) return this.#moveToWhatIsThere(wanted);
      if (!isUnreadable(error)) throw error;
      for (const partition of partitions) await this.#readCarefully(leader, topicId, partition);
      return;
    }
    this.#deliver(response, wanted);
  }

  /** False when there was nothing. */
  #deliver(response: FetchResponse, wanted: ReadonlyMap<number, Partition>): boolean {
    let isAny = false;
    for (const { partitions: parts } of response.responses) {
      for (const { partitionIndex: partition, records = [], highWatermark } of parts) {
        const asked = wanted.get(partition);
        const state = this.#partitions.get(partition);
        const last = records.at(-1);
        // Dealt to somebody else meanwhile, or moved.
        if (asked === undefined || state?.lease !== asked.lease || state.offset !== asked.offset) continue;
        if (last === undefined) continue;
        state.offset = last.firstOffset + BigInt(last.lastOffsetDelta) + 1n;
        const message = packed(partition, state, asked.offset, records, highWatermark, this.#options.longest);
        this.#handedOver += message.bytes.length;
        this.#say(message);
        isAny = true;
      }
    }
    return isAny;
  }

  /** Something among what was asked for can not be read: one batch after the other, up to the one that it is, and past it. */
  async #readCarefully(leader: number, topicId: string, partition: number): Promise<void> {
    for (let read = 0; read < mostBatches; read++) {
      const state = this.#partitions.get(partition);
      if (state === undefined || this.#isQuiet || this.#isEnded) return;
      const wanted = new Map([[partition, { ...state }]]);
      let response: FetchResponse;
      try {
        response = await this.#fetch(leader, topicId, wanted, 0, 1);
      } catch (error) {
        if (!isUnreadable(error)) throw error;
        return this.#skip(leader, topicId, partition, { ...state }, failureOf(error).problem);
      }
      if (!this.#deliver(response, wanted)) return;
    }
  }

  #fetch(
    leader: number,
    topicId: string,
    wanted: ReadonlyMap<number, Pick<Partition, 'offset'>>,
    maxWaitTime: number,
    bytes = fetchBytes,
  ): Promise<FetchResponse> {
    return this.#consumer.fetch({
      node: leader,
      connectionPool: this.#pool,
      maxWaitTime,
      minBytes: 1,
      maxBytes: bytes,
      isolationLevel: FetchIsolationLevels.READ_UNCOMMITTED,
      topics: [
        {
          topicId,
          partitions: [...wanted].map(([partition, { offset }]) => ({
            partition,
            currentLeaderEpoch: -1,
            fetchOffset: offset,
            lastFetchedEpoch: -1,
            partitionMaxBytes: bytes,
          })),
        },
      ],
    });
  }

  /** What was to be read next is not there: deleted by age or size, or the topic was made anew. Goes on at the oldest there is. */
  async #moveToWhatIsThere(wanted: ReadonlyMap<number, Partition>): Promise<void> {
    const partitions = [...wanted.keys()];
    const earliest = await this.#list(partitions, ListOffsetTimestamps.EARLIEST);
    const latest = await this.#list(partitions, ListOffsetTimestamps.LATEST);
    for (const [partition, { lease, offset }] of wanted) {
      const state = this.#partitions.get(partition);
      const [from, to] = [earliest.get(partition) ?? 0n, latest.get(partition) ?? 0n];
      if (state?.lease !== lease || state.offset !== offset || (offset >= from && offset <= to)) continue;
      state.offset = from;
      this.#say({ kind: 'moved', partition, lease, to: Number(from) });
    }
  }

  /** A batch, or several, can not be read: looks for where it goes on, ever farther, then ever nearer. */
  async #skip(leader: number, topicId: string, partition: number, state: Partition, problem: string): Promise<void> {
    const end = (await this.#list([partition], ListOffsetTimestamps.LATEST)).get(partition) ?? state.offset + 1n;
    const canRead = async (offset: bigint): Promise<boolean> => {
      if (offset >= end) return true;
      try {
        await this.#fetch(leader, topicId, new Map([[partition, { offset }]]), 0, 1);
        return true;
      } catch (error) {
        if (isUnreadable(error)) return false;
        throw error;
      }
    };
    let bad = state.offset;
    let step = 1n;
    while (!(await canRead(bad + step))) {
      bad += step;
      step *= 2n;
    }
    let good = bad + step < end ? bad + step : end;
    while (good - bad > 1n) {
      const middle = (good + bad) / 2n;
      if (await canRead(middle)) good = middle;
      else bad = middle;
    }
    const now = this.#partitions.get(partition);
    if (now?.lease !== state.lease || now.offset !== state.offset) return;
    now.offset = good;
    const { lease, offset } = state;
    this.#say({ kind: 'unreadable', partition, lease, from: Number(offset), to: Number(good), problem });
  }
}

const clientId = 'falcodrop';

/** Whether a broker has answered so, for one of what was asked for. */
function hasSaid(error: unknown, name: string): boolean {
  if (!(error instanceof Error)) return false;
  const { apiId, cause, errors } = error as Error & { readonly apiId?: unknown; readonly errors?: unknown };
  const inner = [cause, ...(Array.isArray(errors) ? (errors as unknown[]) : [])];
  return apiId === name || inner.some((each) => hasSaid(each, name));
}

/** The answer came, and was not understood: no error of the library's, but one that it ran into, or a compression of its own. */
function isUnreadable(error: unknown): boolean {
  const { code } = error as { readonly code?: unknown };
  if (typeof code !== 'string') return true;
  return !code.startsWith('PLT_KFK_') || code === 'PLT_KFK_UNSUPPORTED_COMPRESSION' || code === 'PLT_KFK_OUT_OF_BOUNDS';
}

/** In memory of its own, which can be handed over to another thread. */
function packed(
  partition: number,
  { lease, offset: next }: Partition,
  from: bigint,
  batches: readonly RecordsBatch[],
  highWatermark: bigint,
  longest: number,
): Records {
  // A batch comes whole, also when the middle of it was asked for.
  const first = Number(from);
  let count = 0;
  let length = 0;
  for (const { attributes, firstOffset, records } of batches) {
    if ((attributes & IS_CONTROL) !== 0) continue;
    const base = Number(firstOffset);
    for (const { offsetDelta, value } of records) {
      if (base + offsetDelta < first) continue;
      count++;
      if (value !== null) length += value.length > longest ? cutAt : value.length;
    }
  }
  const bytes = new Uint8Array(length);
  const offsets = new Float64Array(count);
  const ends = new Uint32Array(count);
  const sizes = new Int32Array(count);
  let n = 0;
  let end = 0;
  for (const { attributes, firstOffset, records } of batches) {
    if ((attributes & IS_CONTROL) !== 0) continue;
    const base = Number(firstOffset);
    for (const { offsetDelta, value } of records) {
      if (base + offsetDelta < first) continue;
      if (value !== null) {
        const part = value.length > longest ? value.subarray(0, cutAt) : value;
        bytes.set(part, end);
        end += part.length;
      }
      offsets[n] = base + offsetDelta;
      ends[n] = end;
      sizes[n] = value?.length ?? -1;
      n++;
    }
  }
  return {
    kind: 'records',
    partition,
    lease,
    offsets,
    ends,
    sizes,
    bytes,
    next: Number(next),
    high: Number(highWatermark),
  };
}
