/**
 * What the journal costs over the bare reading of what journalctl prints: entries of real journal files through the source, identity and
 * queue (B), and the same journalctl, whose lines and whose messages are parsed, nothing more (A).
 * Usage: journal.ts [ALERTS] [PAIRS]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Intake } from '../src/sources/intake.ts';
import { journalctlArguments } from '../src/sources/journal/command.ts';
import { Journal } from '../src/sources/journal/journal.ts';
import { append, alert as entryOf } from '../test/sources/journal/journals.ts';
import { recordedAlerts } from './alerts.ts';
import { comparePairs } from './pairs.ts';

const alerts = Number(process.argv[2] ?? 10_000);
const pairs = Number(process.argv[3] ?? 5);
const root = mkdtempSync(join(tmpdir(), 'fd-bench-journal-'));
const directory = join(root, 'journal');
mkdirSync(directory);
const entries = recordedAlerts(alerts).map((line) => entryOf('', { MESSAGE: line }));
for (let n = 0; n < entries.length; n += 1_000) append(directory, entries.slice(n, n + 1_000));

const selection = { units: ['falco-modern-bpf.service'], matches: [], directory };

async function bare(): Promise<void> {
  const child = spawn('journalctl', journalctlArguments(selection, { all: true }, false), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const closed = once(child, 'close');
  let came = 0;
  for await (const line of createInterface(child.stdout)) {
    const { MESSAGE: message } = JSON.parse(line) as { readonly MESSAGE: string };
    if (typeof JSON.parse(message) === 'object') came++;
  }
  await closed;
  if (came !== alerts) throw new Error(`${came} alerts`);
}

let states = 0;
async function ours(): Promise<void> {
  let came = 0;
  let isOver: () => void = () => undefined;
  const over = new Promise<void>((resolve) => {
    isOver = resolve;
  });
  const intake = new Intake(() => {
    if (++came === alerts) isOver();
  });
  const stateDir = mkdtempSync(join(root, `state-${states++}-`));
  const journal = new Journal({
    intake,
    source: 'journal',
    longest: 1 << 20,
    onBad: (problem) => {
      throw new Error(problem);
    },
    selection,
    pastSeconds: null,
    stateDir,
    durable: async () => {
      await intake.decided();
      return true;
    },
    say: () => undefined,
    now: Date.now,
  });
  await journal.start();
  await over;
  await journal.close();
}

try {
  await comparePairs({
    what: 'entries of a journal',
    alerts,
    pairs,
    a: { name: 'journalctl, its lines parsed (A)', run: bare },
    b: [{ name: 'falcodrop, queued (B)', run: ours }],
  });
} finally {
  rmSync(root, { recursive: true });
}
