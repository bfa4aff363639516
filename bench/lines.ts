/**
 * What lines cost over the bare JSON.parse of the same lines: a file read once, and followed, through decoding, identity and queue (B), and
 * the file read, split and parsed, nothing more (A).
 * Usage: lines.ts [ALERTS] [PAIRS]
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Intake } from '../src/sources/intake.ts';
import { Follower } from '../src/sources/lines/follow.ts';
import { readFileOnce } from '../src/sources/lines/stream.ts';
import { recordedAlerts } from './alerts.ts';
import { comparePairs } from './pairs.ts';

const alerts = Number(process.argv[2] ?? 50_000);
const pairs = Number(process.argv[3] ?? 7);
const directory = mkdtempSync(join(tmpdir(), 'fd-bench-lines-'));
const path = join(directory, 'alerts.jsonl');
writeFileSync(path, recordedAlerts(alerts).join('\n').concat('\n'));

const longest = 1 << 20;
const onBad = (problem: string): never => {
  throw new Error(problem);
};

/** A queue of its own, which remembers what came: `over` resolves when all were taken. */
function openIntake(): { readonly intake: Intake; readonly over: Promise<void> } {
  let came = 0;
  let isOver: () => void = () => undefined;
  const over = new Promise<void>((resolve) => {
    isOver = resolve;
  });
  const intake = new Intake(() => {
    if (++came === alerts) isOver();
  });
  return { intake, over };
}

let parsed = 0;
function bare(): void {
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (line !== '' && typeof JSON.parse(line) === 'object') parsed++;
  }
}

async function once(): Promise<void> {
  const { intake, over } = openIntake();
  await readFileOnce(path, { intake, source: 'file', longest, onBad });
  await over;
}

let states = 0;
async function followed(): Promise<void> {
  const { intake, over } = openIntake();
  const stateDir = mkdtempSync(join(directory, `state-${states++}-`));
  const durable = async (): Promise<boolean> => {
    await intake.decided();
    return true;
  };
  const follower = new Follower({
    path,
    stateDir,
    durable,
    intake,
    source: 'file',
    longest,
    onBad,
    say: () => undefined,
  });
  follower.start();
  await over;
  await follower.close();
}

try {
  await comparePairs({
    what: 'lines of a file',
    alerts,
    pairs,
    a: { name: 'read, split, JSON.parse (A)', run: bare },
    b: [
      { name: 'falcodrop, read once, queued (B)', run: once },
      { name: 'falcodrop, followed, queued', run: followed },
    ],
  });
  if (parsed !== alerts * (pairs + 1)) throw new Error(`${parsed} alerts`);
} finally {
  rmSync(directory, { recursive: true });
}
