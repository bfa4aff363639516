/** The alerts of one Falco up to 0.43 over gRPC, for as long as they are wanted: connected again whenever that breaks. */
import type { Origin } from '../../alert/alert.ts';
import { backoffMs, jittered, Pause } from '../backoff.ts';
import type { Intake } from '../intake.ts';
import type { Say } from '../lines/feed.ts';
import { Sparing } from '../sparing.ts';
import type { Standing } from '../standing.ts';
import { type FalcoAddress, FalcoConnection, type Taker, type Tls } from './connection.ts';
import { failureOf } from './failure.ts';
import { readAlertMessage } from './message.ts';
import { clientsOf, socketProblem } from './socket.ts';

export interface SubscriptionOptions {
  readonly address: FalcoAddress;
  /** Read anew for each connection; throws FalcodropError. Null: no TLS, for a unix socket. */
  readonly readTls: (() => Tls) | null;
  readonly intake: Pick<Intake, 'register' | 'pushValue' | 'countBad' | 'hasRoom' | 'room'>;
  /** `grpc:unix:///run/falco/falco.sock` */
  readonly source: string;
  readonly remote?: boolean;
  readonly fleetHosts?: readonly string[];
  /** Bytes of one alert. */
  readonly longest: number;
  readonly say: Say;
  /** What it says of itself. */
  readonly standing?: Standing | undefined;
  readonly pace?: Partial<GrpcPace>;
}

export interface GrpcPace {
  /** Falco looks at its queue when it is asked: this long an alert may lie there. */
  readonly requestMs: number;
  /** From a failure to the next attempt; doubled each time until the longest, and up to half of it taken off at random. */
  readonly firstDelayMs: number;
  readonly longestDelayMs: number;
  /** For the connection and Falco's first answer. */
  readonly connectMs: number;
  /** After the stop, for what is on its way. */
  readonly graceMs: number;
  /** Between two looks at who else is connected. */
  readonly clientsMs: number;
}

export const grpcPace: GrpcPace = {
  requestMs: 250,
  firstDelayMs: 250,
  longestDelayMs: 5_000,
  connectMs: 10_000,
  graceMs: 500,
  clientsMs: 60_000,
};

const shared = 'a Falco has one queue for all of its clients: an alert that another one takes never comes here';

export class GrpcSubscription {
  readonly #options: SubscriptionOptions;
  readonly #pace: GrpcPace;
  readonly #origin: Origin;
  readonly #state: Sparing;
  readonly #bad: Sparing;
  readonly #backlog: Sparing;
  readonly #others: Sparing;
  #running: Promise<void> | null = null;
  #connection: FalcoConnection | null = null;
  #isStopped = false;
  readonly #pause = new Pause();

  constructor(options: SubscriptionOptions) {
    const { address, say } = options;
    this.#options = options;
    const { intake, source: name, remote = false, fleetHosts = [] } = options;
    intake.register({ name, remote, fleetHosts, canWait: true });
    this.#pace = { ...grpcPace, ...options.pace };
    this.#origin = 'path' in address || isLoopback(address.host) ? 'local' : 'network';
    this.#state = new Sparing(say, { most: 10, againMs: 600_000 });
    this.#bad = new Sparing(say, { most: 1, againMs: 0 });
    this.#backlog = new Sparing(say, { most: 10, againMs: 0 });
    this.#others = new Sparing(say, { most: 1, againMs: 600_000 });
  }

  /** A Falco that is not there yet is waited for. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Asks for no more; resolves when what was on its way is queued. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#pause.end();
    this.#connection?.finish(this.#pace.graceMs);
    await this.#running;
  }

  async #run(): Promise<void> {
    let failures = 0;
    this.#options.standing?.is('connecting');
    while (!this.#isStopped) {
      failures = (await this.#attempt()) ? 0 : failures + 1;
      this.#options.standing?.is('failed');
      if (!this.#isStopped) await this.#pause.wait(jittered(backoffMs(failures, this.#pace)));
    }
  }

  /** One connection, from its beginning to its end; true when a Falco answered. Never rejects. */
  async #attempt(): Promise<boolean> {
    const { address, readTls, source } = this.#options;
    if ('path' in address) {
      const why = await socketProblem(address.path, process.geteuid?.() ?? 0);
      if (why !== null) {
        this.#state.say('warn', 'not connected; it is tried again', { source, ...why });
        this.#options.standing?.trouble(why.problem);
        return false;
      }
    }
    if (this.#isStopped) return false;
    let isConnected = false;
    let isFalco = false;
    let cert: string | null = null;
    let clients: NodeJS.Timeout | null = null;
    try {
      const tls = readTls?.() ?? null;
      cert = tls?.cert ?? null;
      const connection = new FalcoConnection(address, tls);
      this.#connection = connection;
      const version = await connection.version(this.#pace.connectMs);
      isConnected = true;
      this.#options.standing?.is('connected');
      this.#state.say('info', 'connected', { source, falco: version, queue: shared });
      await this.#lookForOthers();
      clients = setInterval(() => void this.#lookForOthers(), this.#pace.clientsMs);
      isFalco = await this.#takeBacklog(connection);
      const taker = this.#taker(() => {
        isFalco = true;
      });
      await connection.subscribe(taker, this.#pace.requestMs);
      this.#lost('Falco ended it', null);
    } catch (error) {
      const { problem, hint } = failureOf(error, cert);
      if (isConnected) this.#lost(problem, hint);
      else if (!this.#isStopped) this.#state.say('warn', 'not connected; it is tried again', { source, problem, hint });
      if (!this.#isStopped) this.#options.standing?.trouble(problem);
    } finally {
      if (clients !== null) clearInterval(clients);
      this.#connection?.close();
      this.#connection = null;
    }
    return isFalco;
  }

  #lost(problem: string, hint: string | null): void {
    const { source } = this.#options;
    if (!this.#isStopped) this.#state.say('warn', 'connection lost; it is opened again', { source, problem, hint });
  }

  /** What Falco gathered while nobody asked: old alerts, which are judged by their age. */
  async #takeBacklog(connection: FalcoConnection): Promise<boolean> {
    const { source } = this.#options;
    let alerts = 0;
    const taker = this.#taker(() => alerts++);
    try {
      return await connection.drain(taker);
    } finally {
      if (alerts > 0) this.#backlog.say('info', 'backlog taken', { source, alerts });
    }
  }

  #taker(onMessage: () => void): Taker {
    const { intake, source } = this.#options;
    return {
      take: (message) => {
        if (!intake.hasRoom(message.length, source)) return false;
        onMessage();
        this.#push(message);
        return true;
      },
      takeLater: async (message) => {
        while (!intake.hasRoom(message.length, source)) await intake.room();
        onMessage();
        this.#push(message);
      },
    };
  }

  #push(message: Buffer): void {
    const { intake, source, longest } = this.#options;
    const receivedNs = process.hrtime.bigint();
    if (message.length > longest) {
      intake.countBad(source, { isTooLong: true });
      this.#sayBad(`an alert has at most ${longest} bytes`);
      return;
    }
    const alert = readAlertMessage(message);
    if ('problem' in alert) {
      intake.countBad(source);
      this.#sayBad(alert.problem);
      return;
    }
    const pushed = intake.pushValue(alert.value, alert.text, source, this.#origin, receivedNs);
    if (typeof pushed === 'object') this.#sayBad(pushed.problem);
  }

  #sayBad(problem: string): void {
    this.#bad.say('warn', 'a message is no alert', { source: this.#options.source, problem });
  }

  /** Never rejects. */
  async #lookForOthers(): Promise<void> {
    const { address, source } = this.#options;
    const clients = 'path' in address ? await clientsOf(address.path) : null;
    if (clients === null || clients < 2) return;
    this.#others.say('warn', 'other clients are connected to this Falco', {
      source,
      problem: shared,
      others: clients - 1,
      hint: 'have them take their alerts another way: http_output, falcosidekick',
    });
  }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}
