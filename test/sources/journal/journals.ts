/** Real journal files, written through systemd-journal-remote, and what journalctl and our source read of them. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { type Arrival, Intake, type IntakeLimits } from '../../../src/sources/intake.ts';
import { Journal, type JournalOptions, type JournalPace } from '../../../src/sources/journal/journal.ts';
import type { Said } from '../lines/log.ts';

const remote = ['/usr/lib/systemd/systemd-journal-remote', '/lib/systemd/systemd-journal-remote'].find(existsSync);

export type Fields = Readonly<Record<string, string | Buffer | readonly (string | Buffer)[]>>;

/** An alert by its rule's name, as Falco's unit sends it. */
export const alert = (rule: string, more: Fields = {}): Fields => ({
  _SYSTEMD_UNIT: 'falco-modern-bpf.service',
  _COMM: 'falco',
  _UID: '0',
  MESSAGE: alertText(rule),
  ...more,
});

export const alertText = (rule: string, padding = 0): string =>
  JSON.stringify({ rule, output: 'x'.repeat(padding), time: new Date().toISOString() });

export const text = (message: string): Fields => alert('', { MESSAGE: message });

export const aBoot = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa';

let lastUs = 0;
let monotonicUs = 1_000_000;

/** In systemd's "Journal Export Format". */
function exported(fields: Fields, boot: string, agoSeconds: number): Buffer {
  lastUs = Math.max(lastUs + 1, Date.now() * 1000);
  monotonicUs += 1_000;
  const parts: Buffer[] = [
    Buffer.from(
      `__REALTIME_TIMESTAMP=${lastUs - agoSeconds * 1_000_000}\n__MONOTONIC_TIMESTAMP=${monotonicUs}\n_BOOT_ID=${boot}\n`,
    ),
  ];
  for (const [name, given] of Object.entries(fields)) {
    for (const value of Array.isArray(given) ? (given as (string | Buffer)[]) : [given as string | Buffer]) {
      const bytes = Buffer.from(value as string);
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(bytes.length));
      parts.push(Buffer.from(`${name}\n`), length, bytes, Buffer.from('\n'));
    }
  }
  return Buffer.concat([...parts, Buffer.from('\n')]);
}

/** Appends to the journal in a directory, as journald would. */
export function append(
  directory: string,
  entries: readonly Fields[],
  { boot = aBoot, agoSeconds = 0 }: { boot?: string; agoSeconds?: number } = {},
): void {
  if (remote === undefined) throw new Error('systemd-journal-remote is not there: scripts/packages test');
  const input = Buffer.concat(entries.map((fields) => exported(fields, boot, agoSeconds)));
  const { status, stderr } = spawnSync(remote, ['--output', join(directory, 'system.journal'), '-'], { input });
  if (status !== 0) throw new Error(`systemd-journal-remote: ${stderr}`);
}

export interface Bench {
  readonly directory: string;
  readonly stateDir: string;
  /** Rules of the alerts that were judged, in order. */
  readonly rules: string[];
  readonly arrivals: Arrival[];
  readonly bad: string[];
  readonly said: Said[];
  readonly intake: Intake;
  append(...entries: readonly Fields[]): void;
  /** As journald does it: the file is renamed, and a new one begun. */
  rotate(): void;
  /** journalctl is this shell script from now on; `$REAL` is the real one. */
  standIn(script: string): void;
  /** How often the stand-in was started. */
  starts(): number;
  until(holds: () => boolean): Promise<void>;
  judged(count: number): Promise<void>;
  saidOf(words: string): Promise<Said>;
  open(options?: Partial<JournalOptions>): Journal;
  close(): Promise<void>;
}

export const quick: JournalPace = {
  quietMs: 60_000,
  leastWaitMs: 5,
  mostWaitMs: 20,
  steadyMs: 60_000,
  keepMs: 1,
  oftenMs: 60_000,
};

export const ours = {
  units: ['falco.service', 'falco-modern-bpf.service'],
  matches: [['_COMM=falco', '_UID=0']],
} as const;

const realPath = process.env.PATH ?? '';

export function openBench({ limits }: { limits?: IntakeLimits } = {}): Bench {
  const root = mkdtempSync(join(tmpdir(), `fd${process.pid}-journal-`));
  const [directory, stateDir, bin] = ['journal', 'state', 'bin'].map((name) => join(root, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [directory, stateDir, bin]) mkdirSync(path);
  const rules: string[] = [];
  const arrivals: Arrival[] = [];
  const bad: string[] = [];
  const said: Said[] = [];
  const journals: Journal[] = [];
  let waiting: (() => void)[] = [];
  const wake = (): void => {
    for (const each of waiting.splice(0)) each();
  };
  const intake = new Intake(
    (arrival) => {
      rules.push(arrival.alert.rule);
      arrivals.push(arrival);
      wake();
    },
    limits,
    { remembers: false },
  );
  const starts = (): number => readdirSync(bin).filter((name) => name.startsWith('start-')).length;
  const bench: Bench = {
    directory,
    stateDir,
    rules,
    arrivals,
    bad,
    said,
    intake,
    starts,
    append: (...entries) => append(directory, entries),
    rotate: () => {
      const [system, old] = [join(directory, 'system.journal'), `system@${starts()}-${rules.length}-${lastUs}.journal`];
      renameSync(system, join(directory, old));
    },
    standIn: (script) => {
      const path = join(bin, 'journalctl');
      writeFileSync(`${path}.new`, `#!/bin/sh\n: > '${bin}'/start-$$\nREAL=/usr/bin/journalctl\n${script}\n`);
      chmodSync(`${path}.new`, 0o755);
      renameSync(`${path}.new`, path);
      process.env.PATH = `${bin}${delimiter}${realPath}`;
    },
    until: async (holds) => {
      while (!holds()) {
        await new Promise<void>((resolve) => {
          waiting.push(resolve);
        });
      }
    },
    judged: (count) => bench.until(() => rules.length >= count),
    saidOf: async (words) => {
      const find = () => said.find(({ message, details }) => `${message} ${JSON.stringify(details)}`.includes(words));
      await bench.until(() => find() !== undefined);
      return find() as Said;
    },
    open: (options = {}) => {
      const journal = new Journal({
        intake,
        source: 'journal',
        longest: 1 << 20,
        onBad: (problem) => {
          bad.push(problem);
          wake();
        },
        selection: { ...ours, directory },
        pastSeconds: 300,
        stateDir,
        durable: async () => {
          await intake.decided();
          return true;
        },
        say: (level, message, details) => {
          said.push({ level, message, details });
          wake();
        },
        now: Date.now,
        pace: quick,
        ...options,
      });
      journals.push(journal);
      return journal;
    },
    close: async () => {
      process.env.PATH = realPath;
      for (const journal of journals) await journal.abandon();
      waiting = [];
      rmSync(root, { recursive: true, force: true });
    },
  };
  return bench;
}
