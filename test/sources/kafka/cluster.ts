/** A broker for the tests of a file, what makes topics and messages there, and readers that only remember. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Admin, type CompressionAlgorithmValue, Producer } from '@platformatic/kafka';
import { Intake } from '../../../src/sources/intake.ts';
import { Aside, asideName } from '../../../src/sources/kafka/aside.ts';
import { KafkaTopic, type TopicOptions } from '../../../src/sources/kafka/topic.ts';
import { type Certificates, makeCertificates } from '../grpc/certificates.ts';
import { type Broker, prepareBroker } from './broker.ts';
import { fastPace } from './pace.ts';

export interface Cluster {
  readonly directory: string;
  readonly broker: Broker;
  readonly certificates: Certificates;
  readonly admin: Admin;
  /** A new topic; its name. */
  topic(partitions?: number): Promise<string>;
  /** Resolves when the broker has them. */
  send(topic: string, values: readonly (string | Buffer | null)[], how?: Sending): Promise<void>;
  /** What the group has committed, by partition; −1: nothing. */
  committed(group: string, topic: string): Promise<number[]>;
  /** Messages in the topic: of a send that the broker answered too late, there are two. */
  written(topic: string): Promise<number>;
  close(): Promise<void>;
}

export interface Sending {
  /** Else in turns. */
  readonly partition?: number;
  readonly compression?: CompressionAlgorithmValue;
}

let nth = 0;

export const unused = (what: string): string => `${what}-${nth++}`;

export async function openCluster(): Promise<Cluster> {
  const directory = mkdtempSync(join(tmpdir(), `fd${process.pid}-kafka-`));
  const certificates = makeCertificates(directory);
  const { server, ca } = certificates;
  const broker = await prepareBroker({ directory, tls: { key: server.key, cert: server.cert, ca: ca.cert } });
  broker.start();
  const client = {
    clientId: 'tests',
    bootstrapBrokers: [`127.0.0.1:${broker.ports.plain}`],
    retries: 300,
    retryDelay: 100,
  };
  const admin = new Admin(client);
  const producer = new Producer(client);
  for (const each of [admin, producer]) each.on('error' as 'client:close', () => undefined);
  await admin.metadata({ topics: [] });
  let turn = 0;
  const partitions = new Map<string, number>();
  return {
    directory,
    broker,
    certificates,
    admin,
    topic: async (count = 1) => {
      const name = unused('falco');
      await admin.createTopics({ topics: [name], partitions: count, replicas: 1 });
      partitions.set(name, count);
      return name;
    },
    send: async (topic, values, { partition, compression = 'none' } = {}) => {
      const byPartition = new Map<number, { topic: string; partition: number; value?: Buffer }[]>();
      for (const value of values) {
        const to = partition ?? turn++ % (partitions.get(topic) ?? 1);
        const message = { topic, partition: to, ...(value === null ? {} : { value: Buffer.from(value) }) };
        byPartition.set(to, [...(byPartition.get(to) ?? []), message]);
      }
      // One after the other: where one partition's leader is not known yet, the producer sends all of them again.
      for (const messages of byPartition.values()) {
        await producer.send({ messages: messages as { topic: string; value: Buffer }[], compression, acks: -1 });
      }
    },
    committed: async (group, topic) => {
      const [found] = await admin.listConsumerGroupOffsets({ groups: [group] });
      const offsets = found?.topics.find(({ name }) => name === topic)?.partitions ?? [];
      const all: number[] = Array.from({ length: partitions.get(topic) ?? 1 }, () => -1);
      for (const { partitionIndex, committedOffset } of offsets) all[partitionIndex] = Number(committedOffset);
      return all;
    },
    written: async (topic) => {
      const offsets = await admin.listOffsets({
        topics: [
          {
            name: topic,
            partitions: Array.from({ length: partitions.get(topic) ?? 1 }, (_, partitionIndex) => ({
              partitionIndex,
              timestamp: -1n,
            })),
          },
        ],
      });
      return offsets.flatMap((of) => of.partitions).reduce((sum, { offset }) => sum + Number(offset), 0);
    },
    close: async () => {
      await Promise.allSettled([admin.close(), producer.close()]);
      await broker.kill();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** An alert that is told from others by its rule. */
export const alert = (rule: string | number): string =>
  JSON.stringify({ time: '2026-11-22T10:00:00.000000001Z', rule: `${rule}`, hostname: 'edge', source: 'syscall' });

export const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, n) => `${from + n}`);

export interface Said {
  readonly level: 'info' | 'warn';
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export interface Reader {
  readonly source: KafkaTopic;
  readonly intake: Intake;
  /** Rules, in the order they were judged. */
  readonly judged: string[];
  readonly said: Said[];
  readonly aside: () => Record<string, unknown>[];
}

export type Reading = Pick<TopicOptions, 'topic'> & Partial<TopicOptions>;

/** Reads what there is from the beginning; to be closed or abandoned. */
export function read({ broker, directory }: Cluster, { pace, ...options }: Reading): Reader {
  const judged: string[] = [];
  const said: Said[] = [];
  // Each time counts: it is the source that is looked at.
  const intake = new Intake(({ alert: { rule } }) => judged.push(rule), undefined, { remembers: false });
  const stateDir = mkdtempSync(join(directory, 'state-'));
  const source = new KafkaTopic({
    brokers: [{ host: '127.0.0.1', port: broker.ports.plain }],
    group: unused('group'),
    begin: 'earliest',
    readAccess: () => ({ tls: null, sasl: null }),
    intake,
    source: 'kafka:test',
    remote: false,
    fleetHosts: [],
    longest: 1 << 20,
    durable: async () => {
      await intake.decided();
      return true;
    },
    aside: new Aside(stateDir),
    say: (level, message, details) => said.push({ level, message, details }),
    ...options,
    pace: { ...fastPace, ...pace },
  });
  source.start();
  const aside = (): Record<string, unknown>[] =>
    readFileSync(join(stateDir, asideName), 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { source, intake, judged, said, aside };
}
