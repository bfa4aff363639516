/**
 * What our Kafka source costs over the bare consumer of the same library: recorded alerts of falcosidekick's size from a topic with
 * one partition; bare, its stream and JSON.parse of each message (A), and through the source, its thread and the intake's queue, with
 * offsets committed (B). A B A B in one run. Usage: kafka.ts [ALERTS] [PAIRS]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Admin, Consumer, Producer } from '@platformatic/kafka';
import { Intake } from '../src/sources/intake.ts';
import { Aside } from '../src/sources/kafka/aside.ts';
import { KafkaTopic } from '../src/sources/kafka/topic.ts';
import { bodies } from '../test/alert/recordings.ts';
import { prepareBroker } from '../test/sources/kafka/broker.ts';
import { median, say } from './host.ts';

const alerts = Number(process.argv[2] ?? 100_000);
const pairs = Number(process.argv[3] ?? 5);
const topic = 'falco';
const directory = mkdtempSync(join(tmpdir(), 'fd-bench-kafka-'));
const broker = await prepareBroker({ directory });
broker.start();
const brokers = [{ host: '127.0.0.1', port: broker.ports.plain }];
const client = { clientId: 'bench', bootstrapBrokers: brokers, retries: 300, retryDelay: 100 };
let nth = 0;

async function fill(): Promise<void> {
  const admin = new Admin(client);
  await admin.createTopics({ topics: [topic], partitions: 1, replicas: 1 });
  await admin.close();
  const producer = new Producer(client);
  const recorded = bodies('sidekick-2.34');
  for (let from = 0; from < alerts; from += 500) {
    const messages = Array.from({ length: Math.min(500, alerts - from) }, (_, n) => ({
      topic,
      partition: 0,
      value: Buffer.from(recorded[(from + n) % recorded.length] ?? ''),
    }));
    await producer.send({ messages, acks: 1 });
  }
  await producer.close();
}

interface Taken {
  /** Alerts a second, from the first one to the last. */
  readonly rate: number;
  /** Microseconds of the CPU for an alert, of all threads of this process: other work on the machine changes little of it. */
  readonly cpu: number;
}

async function timed(work: (came: () => void) => Promise<() => Promise<void>>): Promise<Taken> {
  let count = 0;
  let first = 0;
  let before = process.cpuUsage();
  let isOver: () => void = () => undefined;
  const over = new Promise<void>((resolve) => {
    isOver = resolve;
  });
  const stop = await work(() => {
    if (count++ === 0) {
      first = performance.now();
      before = process.cpuUsage();
    }
    if (count === alerts) isOver();
  });
  await over;
  const took = performance.now() - first;
  const { user, system } = process.cpuUsage(before);
  await stop();
  return { rate: (alerts / took) * 1000, cpu: (user + system) / alerts };
}

async function bare(came: () => void): Promise<() => Promise<void>> {
  const consumer = new Consumer({ ...client, groupId: `bare-${nth++}`, autocommit: 1_000, maxBytes: 1 << 20 });
  const stream = await consumer.consume({ topics: [topic], mode: 'earliest' });
  stream.on('data', ({ value }) => {
    JSON.parse(value.toString());
    came();
  });
  return async () => consumer.close(true);
}

async function ours(came: () => void): Promise<() => Promise<void>> {
  const intake = new Intake(came, undefined, { remembers: false });
  const source = new KafkaTopic({
    brokers,
    topic,
    group: `ours-${nth++}`,
    begin: 'earliest',
    readAccess: () => ({ tls: null, sasl: null }),
    intake,
    source: 'kafka:bench',
    remote: false,
    fleetHosts: [],
    longest: 1 << 20,
    durable: async () => {
      await intake.decided();
      return true;
    },
    aside: new Aside(directory),
    say: () => undefined,
  });
  source.start();
  return () => source.close();
}

try {
  await fill();
  const rounds: { readonly a: Taken; readonly b: Taken }[] = [];
  // The first of each compiles.
  for (let n = 0; n <= pairs; n++) {
    const round = { a: await timed(bare), b: await timed(ours) };
    if (n > 0) rounds.push(round);
  }
  const line = (name: string, of: 'a' | 'b'): string => {
    const [rate, cpu] = (['rate', 'cpu'] as const).map((what) => median(rounds.map((round) => round[of][what])));
    return `  ${name}   ${Math.round(rate ?? 0)} alerts a second, ${(cpu ?? 0).toFixed(1)} µs of the CPU each`;
  };
  say(`${alerts} recorded alerts, median of ${pairs}`);
  say(line('bare consumer, JSON.parse', 'a'));
  say(line('our source               ', 'b'));
  say(`  our source : bare consumer   ${median(rounds.map(({ a, b }) => b.rate / a.rate)).toFixed(2)}`);
} finally {
  await broker.kill();
  rmSync(directory, { recursive: true });
}
