/** A log in a directory of its own, what is read of it, and waiting for that without sleeping. */
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Intake, intakeLimits } from '../../../src/sources/intake.ts';
import type { FeedOptions } from '../../../src/sources/lines/feed.ts';
import { Follower, type FollowOptions, type Pace } from '../../../src/sources/lines/follow.ts';

/** An alert by its rule's name, about as long as a real one. */
export const line = (rule: string | number, padding = 300): string =>
  JSON.stringify({ rule: String(rule), output: 'x'.repeat(padding), time: new Date().toISOString() });

export interface Said {
  readonly level: string;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export interface Bench {
  readonly directory: string;
  /** The log. */
  readonly path: string;
  readonly stateDir: string;
  /** Rules of the alerts that were judged, in order. */
  readonly rules: string[];
  readonly bad: string[];
  readonly said: Said[];
  readonly intake: Intake;
  readonly feed: FeedOptions;
  append(...rules: readonly (string | number)[]): void;
  /** Resolves when it holds; looked at whenever something was judged or said. */
  until(holds: () => boolean): Promise<void>;
  /** Until that many were judged. */
  judged(count: number): Promise<void>;
  /** Until something with these words was said. */
  saidOf(words: string): Promise<Said>;
  follow(options?: Partial<FollowOptions>): Follower;
  /** As a crash: positions stay as they are. */
  close(): Promise<void>;
}

export const quick: Pace = { pollMs: 20, lingerPolls: 3, keepMs: 1, pieceSize: 256 << 10 };

export function openBench({
  longest = 1 << 20,
  remembers = false,
}: {
  longest?: number;
  remembers?: boolean;
} = {}): Bench {
  const directory = mkdtempSync(join(tmpdir(), `fd${process.pid}-lines-`));
  const path = join(directory, 'alerts.jsonl');
  const stateDir = mkdtempSync(join(tmpdir(), `fd${process.pid}-state-`));
  const rules: string[] = [];
  const bad: string[] = [];
  const said: Said[] = [];
  const followers: Follower[] = [];
  let waiting: (() => void)[] = [];
  const wake = (): void => {
    for (const each of waiting.splice(0)) each();
  };
  const intake = new Intake(
    ({ alert }) => {
      rules.push(alert.rule);
      wake();
    },
    intakeLimits,
    { remembers },
  );
  const onBad = (problem: string): void => {
    bad.push(problem);
    wake();
  };
  const feed = { intake, source: 'file', longest, onBad };
  const bench: Bench = {
    directory,
    path,
    stateDir,
    rules,
    bad,
    said,
    intake,
    feed,
    append: (...names) => appendFileSync(path, names.map((name) => `${line(name)}\n`).join('')),
    until: async (holds) => {
      while (!holds()) {
        await new Promise<void>((resolve) => {
          waiting.push(resolve);
        });
      }
    },
    judged: (count) => bench.until(() => rules.length >= count),
    saidOf: async (words) => {
      const find = () => said.find(({ message }) => message.includes(words));
      await bench.until(() => find() !== undefined);
      return find() as Said;
    },
    follow: (options = {}) => {
      const follower = new Follower({
        ...feed,
        path,
        stateDir,
        durable: async () => {
          await intake.decided();
          return true;
        },
        say: (level, message, details) => {
          said.push({ level, message, details });
          wake();
        },
        pace: quick,
        ...options,
      });
      followers.push(follower);
      follower.start();
      return follower;
    },
    close: async () => {
      for (const follower of followers) await follower.abandon();
      waiting = [];
      rmSync(directory, { recursive: true, force: true });
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
  writeFileSync(path, '');
  return bench;
}

export const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, n) => String(from + n));
