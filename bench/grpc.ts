/**
 * What our gRPC source costs over a bare stream: recorded alerts of Falco 0.43 out of the queue of another process, over a unix
 * socket; bare, decoded by proto-loader and counted (A), and through the source and the intake's queue (B). A B A B in one run.
 * Usage: grpc.ts [ALERTS] [PAIRS]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, credentials } from '@grpc/grpc-js';
import { GrpcSubscription } from '../src/sources/grpc/subscription.ts';
import { Intake } from '../src/sources/intake.ts';
import { decodeResponse } from '../test/sources/grpc/falco.ts';
import { median, say } from './host.ts';

const alerts = Number(process.argv[2] ?? 50_000);
const pairs = Number(process.argv[3] ?? 5);
const directory = mkdtempSync(join(tmpdir(), 'fd-bench-grpc-'));
const socket = join(directory, 'falco.sock');

async function withFalco(work: () => Promise<void>): Promise<number> {
  const script = join(import.meta.dirname, 'grpc-falco.ts');
  const falco: ChildProcess = spawn(process.execPath, [script, socket, String(alerts)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (falco.stdout === null) throw new Error('no pipe');
  await once(falco.stdout, 'data');
  const begun = performance.now();
  await work();
  const took = performance.now() - begun;
  falco.kill('SIGKILL');
  await once(falco, 'close');
  rmSync(socket, { force: true });
  return (alerts / took) * 1000;
}

async function bare(): Promise<void> {
  const client = new Client(`unix:${socket}`, credentials.createInsecure());
  const call = client.makeServerStreamRequest(
    '/falco.outputs.service/get',
    () => Buffer.alloc(0),
    decodeResponse,
    null,
  );
  let came = 0;
  call.on('data', () => came++);
  await once(call, 'end');
  client.close();
  if (came !== alerts) throw new Error(`${came} alerts`);
}

async function ours(): Promise<void> {
  let came = 0;
  let isOver: () => void = () => undefined;
  const over = new Promise<void>((resolve) => {
    isOver = resolve;
  });
  const intake = new Intake(() => {
    if (++came === alerts) isOver();
  });
  const source = new GrpcSubscription({
    address: { path: socket },
    readTls: null,
    intake,
    source: 'grpc',
    longest: 1 << 20,
    say: () => undefined,
  });
  source.start();
  await over;
  await source.stop();
}

try {
  const rates: { readonly a: number; readonly b: number }[] = [];
  // The first of each compiles.
  for (let n = 0; n <= pairs; n++) {
    const pair = { a: await withFalco(bare), b: await withFalco(ours) };
    if (n > 0) rates.push(pair);
  }
  const [a, b] = [median(rates.map((pair) => pair.a)), median(rates.map((pair) => pair.b))];
  say(`alerts a second, ${alerts} recorded ones, median of ${pairs}`);
  say(`  bare stream   ${Math.round(a)}`);
  say(`  our source    ${Math.round(b)}`);
  say(`  our source : bare stream   ${median(rates.map((pair) => pair.b / pair.a)).toFixed(2)}`);
} finally {
  rmSync(directory, { recursive: true });
}
