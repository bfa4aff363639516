/** Recorded alerts, sent as each way sends them, through the real sources into one queue. */
import { once } from 'node:events';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { readAlertMessage } from '../../src/sources/grpc/message.ts';
import { GrpcSubscription } from '../../src/sources/grpc/subscription.ts';
import { serveHttp } from '../../src/sources/http.ts';
import type { Intake } from '../../src/sources/intake.ts';
import { Journal } from '../../src/sources/journal/journal.ts';
import { Follower } from '../../src/sources/lines/follow.ts';
import { readStream } from '../../src/sources/lines/stream.ts';
import { bodies, grpcBytes, grpcMessages, recording, recordings } from '../alert/recordings.ts';
import { encodeAlert, startFalco } from './grpc/falco.ts';
import { append, alert as journalEntry, ours, quick as quickJournal } from './journal/journals.ts';
import { type Cluster, openCluster, read } from './kafka/cluster.ts';
import { quick as quickLines } from './lines/log.ts';

/** Each alert of the recordings as one line of JSON. */
export function recordedLines(): readonly string[] {
  const messages = [...grpcMessages().map(({ output }) => output), ...grpcBytes().map(lineOf)];
  return [
    ...recordings.flatMap((name) => recording(name).lines),
    ...bodies('http-0.43'),
    ...bodies('sidekick-2.34'),
    ...messages,
  ].map((line) => line.trim());
}

function lineOf(message: Buffer): string {
  const read = readAlertMessage(message);
  if ('problem' in read) throw new Error(read.problem);
  return read.text;
}

type Json = Readonly<Record<string, unknown>>;

const priorities = ['EMERGENCY', 'ALERT', 'CRITICAL', 'ERROR', 'WARNING', 'NOTICE', 'INFORMATIONAL', 'DEBUG'];

/** As Falco up to 0.43 makes a message of an alert: all fields are strings, what is missing `<NA>`, lists `(a,b)`. */
export function messageOf(line: string, isJson: boolean): Buffer {
  const alert = JSON.parse(line) as Json;
  const text = String(alert.time);
  const nanos = (/\.(\d+)Z$/.exec(text)?.[1] ?? '').padEnd(9, '0');
  const fields = Object.entries((alert.output_fields ?? {}) as Json).map(([key, value]) => [key, textOf(value)]);
  const priority = String(alert.priority).toUpperCase();
  if (!priorities.includes(priority)) throw new Error(priority);
  return encodeAlert({
    time: { seconds: Math.floor(Date.parse(text) / 1000), nanos: Number(nanos) },
    priority,
    rule: alert.rule,
    output: isJson ? line : (alert.output ?? ''),
    output_fields: Object.fromEntries(fields),
    hostname: alert.hostname ?? '',
    tags: alert.tags ?? [],
    source: alert.source ?? '',
  });
}

function textOf(value: unknown): string {
  if (value === null) return '<NA>';
  return Array.isArray(value) ? `(${value.map(textOf).join(',')})` : String(value);
}

/** Hands all lines over, in order; the answer takes it away again. */
export type Way = (lines: readonly string[], intake: Intake, folder: string) => Promise<() => Promise<unknown>>;

const say = (): void => undefined;
const longest = 1 << 20;
const onBad = (problem: string): never => {
  throw new Error(problem);
};

function http(
  place: (
    folder: string,
  ) => { readonly socket: string; readonly gid: null } | { readonly address: string; readonly port: number },
  inBody: number,
  packed: 'as it is' | 'gzip',
): Way {
  return async (lines, intake, folder) => {
    const source = await serveHttp({ ...place(folder), intake, say });
    const to = source.port === 0 ? { socketPath: join(folder, 'http.sock') } : { port: source.port };
    for (let n = 0; n < lines.length; n += inBody) {
      const some = lines.slice(n, n + inBody);
      const body = inBody === 1 ? (some[0] ?? '') : n % (2 * inBody) === 0 ? `[${some.join(',')}]` : some.join('\n');
      const bytes = packed === 'gzip' ? gzipSync(body) : Buffer.from(body);
      const headers = packed === 'gzip' ? { 'content-encoding': 'gzip' } : {};
      const sent = request({ ...to, method: 'POST', path: '/', headers });
      sent.end(bytes);
      const [answer] = (await once(sent, 'response')) as [NodeJS.ReadableStream & { readonly statusCode: number }];
      answer.resume();
      if (answer.statusCode !== 202) throw new Error(`${answer.statusCode}`);
    }
    return () => source.close(0);
  };
}

const tcp = () => ({ address: '127.0.0.1', port: 0 });
const unix = (folder: string) => ({ socket: join(folder, 'http.sock'), gid: null });

function grpc(isJson: boolean): Way {
  return async (lines, intake, folder) => {
    const path = join(folder, 'falco.sock');
    const falco = await startFalco({ listen: `unix://${path}` });
    falco.queue.push(...lines.map((line) => messageOf(line, isJson)));
    const source = 'grpc';
    const subscription = new GrpcSubscription({ address: { path }, readTls: null, intake, source, longest, say });
    subscription.start();
    return async () => {
      await subscription.stop();
      falco.kill();
    };
  };
}

/** One broker for all. */
let opened: Promise<Cluster> | null = null;
export const closeWays = async (): Promise<void> => (await opened)?.close();

export const ways: Readonly<Record<string, Way>> = {
  'HTTP, one a request': http(tcp, 1, 'as it is'),
  'HTTP over a unix socket': http(unix, 1, 'as it is'),
  'HTTP, lists and lines of many': http(tcp, 32, 'as it is'),
  'HTTP, gzip': http(tcp, 32, 'gzip'),
  'a file': async (lines, intake, folder) => {
    const path = join(folder, 'alerts.jsonl');
    const durable = async () => true;
    const followed = { path, stateDir: folder, intake, source: 'file', longest, onBad, say, durable };
    const follower = new Follower({ ...followed, pace: quickLines });
    follower.start();
    for (const line of lines) appendFileSync(path, `${line}\n`);
    return () => follower.abandon();
  },
  stdin: async (lines, intake) => {
    const stdin = new PassThrough();
    const stream = readStream(stdin, 'stdin', { intake, source: 'stdin', longest, onBad });
    stdin.end(lines.join('\n'));
    return stream.stop;
  },
  'the journal': async (lines, intake, folder) => {
    const directory = join(folder, 'journal');
    mkdirSync(directory);
    append(
      directory,
      lines.map((line) => journalEntry('', { MESSAGE: line })),
    );
    const journal = new Journal({
      intake,
      source: 'journal',
      longest,
      onBad,
      selection: { ...ours, directory },
      pastSeconds: 300,
      stateDir: folder,
      durable: async () => true,
      say,
      now: Date.now,
      pace: quickJournal,
    });
    await journal.start();
    return () => journal.abandon();
  },
  'Kafka, through a broker': async (lines, intake) => {
    opened ??= openCluster();
    const cluster = await opened;
    const topic = await cluster.topic();
    await cluster.send(topic, lines);
    const { source } = read(cluster, { topic, intake });
    return () => source.abandon();
  },
  'gRPC, with json_output': grpc(true),
  'gRPC, without': grpc(false),
};

/** `until` looks whether all came. */
export async function bring(
  way: Way,
  lines: readonly string[],
  intake: Intake,
  until: () => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), `fd${process.pid}-way-`));
  try {
    const end = await way(lines, intake, folder);
    await until();
    await end();
  } finally {
    // A position may be on its way to the disk still.
    rmSync(folder, { recursive: true, maxRetries: 10 });
  }
}
