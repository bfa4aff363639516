/**
 * `falcodrop test-alert`: one harmless alert goes the whole way, and each step of it is seen from outside: that it was sent,
 * that the daemon received it and what it decided, that the kernel's map and the ledger have the claim, and that both are rid of
 * it again.
 *
 * Nothing that could be misused tells it from other alerts: it is judged as any, and its rule may make no more than a claim that
 * counts, for seconds, on an address that is nobody's (judge/policy). Who could send it could have sent worse.
 */
import { randomInt, randomUUID } from 'node:crypto';
import { connect, createServer, type Server } from 'node:net';
import { hostname } from 'node:os';
import { setTimeout as after } from 'node:timers/promises';
import { formatAddress } from '../address/address.ts';
import { formatPrefix, type Prefix, parsePrefix } from '../address/prefix.ts';
import { testRule } from '../alert/test-rule.ts';
import { askDaemon } from '../daemon/ask.ts';
import { socketPath } from '../daemon/socket.ts';
import type { SourceReport } from '../daemon/sources.ts';
import { FalcodropError } from '../errors.ts';
import { attachedIfindexes } from '../host/attached.ts';
import { readHostFacts } from '../host/facts.ts';
import { guard } from '../judge/guard/guard.ts';
import { documentation } from '../judge/guard/ranges.ts';
import { testPolicy } from '../judge/policy/policy.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { parseDuration } from '../time/duration.ts';
import { type Call, flag, stateDirOf, text } from './call.ts';
import { failureOf } from './failure.ts';
import { type Hand, openHand } from './hand.ts';
import { clean } from './output/clean.ts';
import { utc } from './output/moment.ts';
import { readConfig } from './settings.ts';
import { askSources, becomeReader, daemonAbsent } from './source-reports.ts';
import { missing, notSent, prepareSender, type Sender, writableSources } from './test-sender.ts';

const defaultTimeoutSeconds = 10;
const longestTimeoutSeconds = 600;

/** A port of `falcodrop_canary_ports` in falco/rules.d that needs no root. */
const canaryPort = 2323;

type StepName = 'sent' | 'received' | 'decided' | 'in_map' | 'recorded' | 'withdrawn';

interface Step {
  readonly step: StepName;
  /** ms since 1970. */
  readonly atMs: number;
  readonly detail: string | null;
}

const owner = `policy:${testPolicy.name}` as const;

export async function testAlert(call: Call): Promise<void> {
  const timeoutMs = readTimeout(call) * 1000;
  if (flag(call, 'throughFalco')) await throughFalco(call, timeoutMs);
  else await throughSource(call, timeoutMs);
}

function readTimeout(call: Call): number {
  const given = text(call, 'timeout');
  if (given === undefined) return defaultTimeoutSeconds;
  const seconds = parseDuration(given);
  if (seconds <= longestTimeoutSeconds) return seconds;
  throw new FalcodropError(
    'usage',
    `--timeout ${given} is longer than ${longestTimeoutSeconds} s`,
    'give a shorter one',
  );
}

/** What was seen so far, told as it is seen; in JSON one object at the end. */
class Steps {
  readonly #call: Call;
  readonly #startedMs: number;
  readonly #steps: Step[] = [];

  constructor(call: Call) {
    this.#call = call;
    this.#startedMs = call.clock.now();
  }

  async add(step: StepName, atMs: number, detail: string | null = null): Promise<void> {
    this.#steps.push({ step, atMs, detail });
    const { answer } = this.#call;
    if (answer.json) return;
    const name = step.replaceAll('_', ' ').padEnd(9);
    const when = `+${(this.#after(atMs) / 1000).toFixed(3)} s`;
    answer.line(detail === null ? `${name}  ${when}` : `${name}  ${when}  ${clean(detail, 400)}`);
    await answer.flush();
  }

  finish(
    rest: { source: string | null; through: 'source' | 'falco'; target: string; rule: string },
    passed: boolean,
  ): void {
    const { answer } = this.#call;
    if (!answer.json) return;
    const steps = this.#steps.map(({ step, atMs, detail }) => ({
      ...{ step, at: utc(atMs), after_ms: Math.round(this.#after(atMs) * 10) / 10, detail },
    }));
    answer.object({ ...rest, status: passed ? 'passed' : 'failed', steps });
  }

  #after(atMs: number): number {
    return Math.max(0, atMs - this.#startedMs);
  }
}

async function throughSource(call: Call, timeoutMs: number): Promise<void> {
  const { answer } = call;
  const stateDir = stateDirOf(call.environment);
  const config = await readConfig(call);
  const wanted = text(call, 'source') ?? writableSources(config)[0];
  if (wanted === undefined) {
    throw new FalcodropError(
      'source_read_only',
      'no source that is configured takes alerts from this command',
      'falcodrop test-alert --through-falco has Falco send one',
    );
  }
  const pinDir = pinDirOf(call.environment);
  const host = readHostFacts({ attachedIfindexes: attachedIfindexes(pinDir), aliases: config.hostAliases });
  let sender: Sender | null = null;
  let hand: Hand | null = null;
  try {
    sender = prepareSender(call, config, wanted);
    // From here on as the service: what its daemon says is not read as root.
    hand = openHand(call);
    const { blocklist, ledger } = hand;
    const isFree = (target: Prefix): boolean =>
      guard(target, host, config.rules.guard, null) === null &&
      blocklist.covering(target).length === 0 &&
      (ledger?.claimsOf(target).length ?? 0) === 0;
    const target = freeTarget(isFree);
    const before = await askSources(stateDir);
    if (before === null) throw daemonAbsent(stateDir);
    const report = before.find(({ name }) => name === wanted);
    if (report === undefined)
      throw missing(
        wanted,
        before.map(({ name }) => name),
      );

    const uuid = randomUUID();
    const steps = new Steps(call);
    if (!answer.json) answer.line(`${formatPrefix(target)} through ${clean(wanted, 200)}`);
    let passed = false;
    try {
      await walk(call, { steps, timeoutMs, stateDir, hand, target, sender, report, uuid });
      passed = true;
    } finally {
      steps.finish({ source: wanted, through: 'source', target: formatPrefix(target), rule: testRule }, passed);
    }
  } finally {
    sender?.close();
    hand?.close();
  }
}

interface Walk {
  readonly steps: Steps;
  readonly timeoutMs: number;
  readonly stateDir: string;
  readonly hand: Hand;
  readonly target: Prefix;
  readonly sender: Sender;
  readonly report: SourceReport;
  readonly uuid: string;
}

/** Step by step; throws the first that failed, with nothing left behind. */
async function walk(call: Call, given: Walk): Promise<void> {
  const { steps, timeoutMs, stateDir, hand, target, sender, report, uuid } = given;
  const { clock } = call;
  const alert = alertText(target, uuid, clock.now());
  let inMap: { readonly atMs: number; readonly detail: string } | null = null;
  let droppedBy: string | null = null;
  const look = (): void => {
    const value = inMap === null ? hand.blocklist.set.lookup(target) : null;
    if (value === null) return;
    const now = hand.blocklist.set.now();
    if (value.dropUntil > now) droppedBy = `${formatPrefix(target)} is dropped`;
    if (value.countUntil > now) inMap = { atMs: clock.now(), detail: 'counts, and drops nothing' };
  };
  let told: Told | null = null;
  try {
    told = await watch(
      stateDir,
      { uuid },
      {
        timeoutMs,
        send: async () => {
          const atMs = clock.now();
          await sender.send(alert, report);
          await steps.add('sent', atMs, report.place);
        },
        onDecided: look,
      },
    );
    if (told.received === null || told.decided === null) throw await notReceived(given, told, stateDir);
    await steps.add('received', told.received.atMs, `by ${told.received.source}`);
    const { decided } = told;
    await steps.add('decided', decided.atMs, decisionText(decided));
    if (decided.applied !== 'monitor' || decided.outcome === null || decided.outcome === 'failed') {
      throw notDecided(decided);
    }
    look();
    if (droppedBy !== null)
      throw new FalcodropError(
        'test_not_in_map',
        `in the map, and wrongly: ${droppedBy}`,
        'falcodrop show tells by whom',
      );
    if (inMap === null) {
      throw new FalcodropError(
        'test_not_in_map',
        `decided, and not in the map: ${formatPrefix(target)} is not there`,
        'does the daemon use these pins (FALCODROP_PIN_DIR)? falcodrop map check tells what is wrong with them',
      );
    }
    const { atMs, detail } = inMap as { readonly atMs: number; readonly detail: string };
    await steps.add('in_map', atMs, detail);
    if (told.recorded?.isDurable !== true) {
      throw new FalcodropError(
        'test_not_recorded',
        'in force, and not written down: the ledger can not be written',
        'drops go on; the daemon’s log tells why',
      );
    }
    await steps.add('recorded', told.recorded.atMs);
  } catch (error) {
    // It ends by itself within seconds, also where this can not be done.
    if (told?.decided !== undefined && told?.decided !== null) await withdraw(hand, target).catch(() => undefined);
    throw error;
  }
  try {
    await withdraw(hand, target);
  } catch (error) {
    const { message, hint } = failureOf(error, call.verb);
    throw new FalcodropError('test_not_withdrawn', `not withdrawn: ${message}`, hint ?? endsText, error);
  }
  if (hand.blocklist.set.lookup(target) !== null && !isOthers(hand, target)) {
    throw new FalcodropError(
      'test_not_withdrawn',
      `withdrawn, and ${formatPrefix(target)} is still in the map`,
      endsText,
    );
  }
  await steps.add('withdrawn', clock.now());
}

const endsText = `it ends by itself after ${testPolicy.seconds} s`;

async function withdraw(hand: Hand, target: Prefix): Promise<void> {
  await hand.blocklist.unblockMany([target], { owners: [owner], cause: hand.because('the test is over') });
}

/** Somebody has claimed it since. */
function isOthers(hand: Hand, target: Prefix): boolean {
  return (hand.ledger?.claimsOf(target) ?? []).some((claim) => claim.owner !== owner);
}

/** Documentation addresses that nobody has to do with, at random: the next test does not meet what this one left in a queue. */
export function freeTarget(isFree: (target: Prefix) => boolean): Prefix {
  const networks = documentation.prefixes.toReversed();
  for (const network of networks) {
    const begin = randomInt(254);
    for (let n = 0; n < 254; n++) {
      const bytes = Uint8Array.from(network.address.bytes);
      bytes[3] = 1 + ((begin + n) % 254);
      const target = parsePrefix(formatAddress({ family: 4, bytes }));
      if (isFree(target)) return target;
    }
  }
  throw notSent(
    'every documentation address (RFC 5737) is blocked or protected here',
    'falcodrop list --within 203.0.113.0/24, falcodrop guard list',
  );
}

function alertText(target: Prefix, uuid: string, nowMs: number): string {
  const client = formatAddress(target.address);
  return JSON.stringify({
    time: new Date(nowMs).toISOString(),
    rule: testRule,
    priority: 'Debug',
    source: 'syscall',
    hostname: hostname(),
    uuid,
    tags: ['falcodrop', 'test'],
    output: 'falcodrop test-alert: nobody did anything',
    output_fields: {
      'evt.type': 'accept4',
      'fd.type': 'ipv4',
      'fd.l4proto': 'tcp',
      'fd.name': `${client}:${randomInt(1024, 65_536)}->127.0.0.1:${canaryPort}`,
    },
  });
}

interface Decided {
  readonly atMs: number;
  readonly verdict: string;
  readonly reason: string;
  readonly detail: string;
  readonly applied: string | null;
  readonly seconds: number | null;
  readonly policy: string | null;
  readonly outcome: string | null;
}

interface Told {
  readonly received: { readonly atMs: number; readonly source: string } | null;
  readonly decided: Decided | null;
  readonly recorded: { readonly atMs: number; readonly isDurable: boolean } | null;
  /** The daemon ended before it told. */
  readonly isLeft: boolean;
}

interface Watching {
  readonly timeoutMs: number;
  /** Called when the daemon watches. */
  readonly send: () => Promise<void>;
  readonly onDecided?: () => void;
}

/** Rejects with `daemon_absent`, and as `send` does. */
async function watch(
  stateDir: string,
  mark: { readonly uuid: string } | { readonly connection: string },
  { timeoutMs, send, onDecided = () => undefined }: Watching,
): Promise<Told> {
  let told: Told = { received: null, decided: null, recorded: null, isLeft: false };
  let sending: Promise<void> | null = null;
  let failure: unknown = null;
  let isTold = false;
  const over = new AbortController();
  const late = setTimeout(() => over.abort(), timeoutMs);
  try {
    const asked = await askDaemon(
      socketPath(stateDir),
      { verb: 'watch_alert', ...mark },
      (line) => {
        if (line.ok === true && sending === null) {
          sending = send().catch((error: unknown) => {
            failure = error;
            over.abort();
          });
        }
        told = { ...told, ...readTold(line) };
        if ('decided' in line) onDecided();
        isTold ||= line.end === 'told';
        if (isTold) over.abort();
        const { message } = membersOf(line.error);
        if (typeof message === 'string') {
          failure = new FalcodropError(
            'failed',
            `the daemon refused: ${clean(message, 300)}`,
            'is it of another version?',
          );
          over.abort();
        }
      },
      over.signal,
    );
    await sending;
    if (failure !== null) throw failure;
    if (asked === 'absent') throw daemonAbsent(stateDir);
    return { ...told, isLeft: !isTold && !over.signal.aborted };
  } finally {
    clearTimeout(late);
  }
}

/** Nothing of it is believed beyond its type. */
function readTold({ received, decided, recorded }: Readonly<Record<string, unknown>>): Partial<Told> {
  const one = membersOf(received);
  const two = membersOf(decided);
  const three = membersOf(recorded);
  const textOr = (value: unknown): string => (typeof value === 'string' ? value : '');
  const textOrNull = (value: unknown): string | null => (typeof value === 'string' ? value : null);
  return {
    ...(isMoment(one.at_ms) ? { received: { atMs: one.at_ms, source: textOr(one.source) } } : {}),
    ...(isMoment(two.at_ms)
      ? {
          decided: {
            ...{ atMs: two.at_ms, verdict: textOr(two.verdict), reason: textOr(two.reason) },
            ...{ detail: textOr(two.detail), applied: textOrNull(two.applied), policy: textOrNull(two.policy) },
            ...{ seconds: typeof two.seconds === 'number' ? two.seconds : null, outcome: textOrNull(two.outcome) },
          },
        }
      : {}),
    ...(isMoment(three.at_ms) ? { recorded: { atMs: three.at_ms, isDurable: three.durable === true } } : {}),
  };
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** Dates end at ±8.64e15 ms. */
function isMoment(value: unknown): value is number {
  return typeof value === 'number' && Math.abs(value) <= 8.64e15;
}

function decisionText({ verdict, reason, detail, applied, seconds, policy }: Decided): string {
  if (verdict !== 'block') return `${verdict}, ${reason}: ${detail}`;
  return `${applied ?? 'nothing'} for ${seconds ?? 0} s, by policy ${policy ?? 'none'}`;
}

function notDecided(
  { verdict, reason, detail, outcome }: Decided,
  hints: Readonly<Record<string, string>> = ways,
): FalcodropError {
  const what = verdict === 'block' ? `the daemon could not do it (${outcome ?? 'nothing'})` : `${reason}: ${detail}`;
  return new FalcodropError(
    'test_not_decided',
    `received, and not acted on: ${clean(what, 400)}`,
    hints[reason] ?? 'the daemon’s log tells more',
  );
}

const ways: Readonly<Record<string, string>> = {
  other_host: `this host is called ${hostname()}, and the daemon does not know it: host_aliases`,
  stale: 'the daemon sees another time, or the alert waited: falcodrop sources tells of a lag',
  future: 'the daemon sees another time than this command',
};

const falcoWays: Readonly<Record<string, string>> = {
  ...ways,
  other_host: 'Falco calls this host by a name that the daemon does not know, in a container by its id: host_aliases',
};

/** What the counters say of it, where it was sent and never judged. */
async function notReceived({ sender, report, timeoutMs }: Walk, told: Told, stateDir: string): Promise<FalcodropError> {
  const seconds = timeoutMs / 1000;
  const trouble = sender.trouble();
  const now = (await askSources(stateDir).catch(() => null))?.find(({ name }) => name === report.name);
  const why =
    trouble ??
    (told.isLeft || now === undefined
      ? 'the daemon has ended'
      : now.counts.shed > report.counts.shed
        ? 'its queue is full, and alerts were shed'
        : now.counts.bad > report.counts.bad
          ? 'what came was no alert'
          : now.state === 'failed' || now.state === 'waiting'
            ? `the source is ${now.state}${now.problem === null ? '' : `: ${clean(now.problem.message, 200)}`}`
            : `nothing came of it within ${seconds} s`);
  return new FalcodropError(
    'test_not_received',
    `sent, and not received by ${clean(report.name, 200)}: ${why}`,
    'falcodrop sources and the daemon’s log tell more; --timeout waits longer',
  );
}

/**
 * A connection to a canary port, from this host to itself: Falco sees it accepted and sends its alert the way it sends all. The
 * client is this host, whom the guard never blocks: that refusal is what must come of it.
 */
async function throughFalco(call: Call, timeoutMs: number): Promise<void> {
  const { answer, clock } = call;
  const stateDir = stateDirOf(call.environment);
  const port = readPort(call);
  const named = text(call, 'source') ?? null;
  becomeReader(call);
  const before = await askSources(stateDir);
  if (before === null) throw daemonAbsent(stateDir);
  if (named !== null && !before.some(({ name }) => name === named)) {
    throw missing(
      named,
      before.map(({ name }) => name),
    );
  }
  const listener = await listen(port);
  const steps = new Steps(call);
  let source = named;
  let passed = false;
  try {
    const local = await freePort();
    const connection = `127.0.0.1:${local}->127.0.0.1:${port}`;
    if (!answer.json) answer.line(`${connection}, seen by Falco`);
    const told = await watch(
      stateDir,
      { connection },
      {
        timeoutMs,
        send: async () => {
          const atMs = clock.now();
          await knock(local, port);
          await steps.add('sent', atMs, listener === null ? 'somebody else listens there' : null);
        },
      },
    );
    if (told.received === null || told.decided === null) {
      throw new FalcodropError(
        'test_not_received',
        told.isLeft
          ? 'connected, and no alert of it came before the daemon has ended'
          : `connected, and no alert of it came within ${timeoutMs / 1000} s`,
        `does Falco run, with the rule "Connection to Canary Port" for port ${port} (falcodrop setup falco), and does it send here?`,
      );
    }
    source = told.received.source;
    await steps.add('received', told.received.atMs, `by ${source}`);
    await steps.add('decided', told.decided.atMs, decisionText(told.decided));
    if (named !== null && source !== named) {
      throw new FalcodropError(
        'test_not_received',
        `the alert of Falco came by ${clean(source, 200)}, not by ${clean(named, 200)}`,
        'the same alert counts once: the way that is quicker has it',
      );
    }
    if (told.decided.reason !== 'own_address') throw notDecided(told.decided, falcoWays);
    passed = true;
  } finally {
    listener?.close();
    const rule = 'Connection to Canary Port';
    steps.finish({ source, through: 'falco', target: '127.0.0.1', rule }, passed);
  }
}

function readPort(call: Call): number {
  const given = text(call, 'port');
  if (given === undefined) return canaryPort;
  const port = /^\d{1,5}$/.test(given) ? Number(given) : 0;
  if (port >= 1 && port <= 65_535) return port;
  throw new FalcodropError(
    'ports_invalid',
    `--port ${clean(given, 40)} is no TCP port`,
    'one of falcodrop_canary_ports',
  );
}

/** Null: somebody listens there already, whose accept is as good. */
function listen(port: number): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(null);
      else
        reject(notSent(`127.0.0.1:${port} can not be listened at: ${error.message}`, 'another --port of the canary’s'));
    });
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

async function freePort(): Promise<number> {
  const server = await listen(0);
  const address = server?.address();
  await new Promise((resolve) => (server === null ? resolve(null) : server.close(resolve)));
  if (typeof address === 'object' && address !== null) return address.port;
  throw notSent('there is no free port');
}

/** Connects, and goes when the other side has accepted and closed, or after a moment. */
async function knock(localPort: number, port: number): Promise<void> {
  const gone = new AbortController();
  const socket = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.1', localPort });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', (error) => reject(notSent(`127.0.0.1:${port}: ${error.message}`)));
      socket.once('connect', () => {
        socket.once('close', () => resolve());
        after(lingerMs, null, { signal: gone.signal }).then(
          () => resolve(),
          () => undefined,
        );
      });
      socket.resume();
    });
  } finally {
    gone.abort();
    socket.destroy();
  }
}

/** A listener that is somebody else's may keep the connection. */
const lingerMs = 200;
