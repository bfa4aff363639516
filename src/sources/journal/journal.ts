/**
 * Falco's lines in systemd's journal, through journalctl: from where it was left, through rotations, reboots and restarts of
 * any side, for as long as it is wanted.
 *
 * Two journalctls take turns. The first reads to the end of the journal and ends: it shows entries of former boots too, and
 * its first line tells whether the entry that was read last is still there. The second follows from there. When it has said
 * nothing for a while it is ended and both begin anew: one that hangs looks just like a journal without alerts.
 *
 * How far it came is kept only when all before it is decided and durable (cursor-file.ts).
 */
import { readFile } from 'node:fs/promises';
import { FalcodropError } from '../../errors.ts';
import { Keeping } from '../keeping.ts';
import { Feed, type FeedOptions, type Say } from '../lines/feed.ts';
import { type ChildEnd, Journalctl } from './child.ts';
import { type From, journalctlArguments, type Selection } from './command.ts';
import { CursorFile } from './cursor-file.ts';
import { type Entry, kindOf, readEntry } from './entry.ts';

export interface JournalOptions extends FeedOptions {
  readonly selection: Selection;
  /** Where nothing is kept, or what is kept is gone, so much of the past is read; null: all of it. */
  readonly pastSeconds: number | null;
  /** Where the cursor is kept. */
  readonly stateDir: string;
  /** As {@link Keeping}'s. */
  readonly durable: () => Promise<boolean>;
  readonly say: Say;
  /** ms since 1970. */
  readonly now: () => number;
  readonly pace?: Partial<JournalPace>;
}

export interface JournalPace {
  /** After so long without a line journalctl is begun anew. */
  readonly quietMs: number;
  /** From its end to the next one: doubled each time from the least to the most, less up to a half of it by chance. */
  readonly leastWaitMs: number;
  readonly mostWaitMs: number;
  /** What has run for so long is no longer in trouble. */
  readonly steadyMs: number;
  /** From reading something to keeping the cursor. */
  readonly keepMs: number;
  /** Between two lines of the log about the same thing. */
  readonly oftenMs: number;
}

const defaultPace: JournalPace = {
  // Less than the age at which alerts are refused.
  quietMs: 120_000,
  leastWaitMs: 500,
  mostWaitMs: 30_000,
  steadyMs: 60_000,
  keepMs: 1_000,
  oftenMs: 60_000,
};

/** A journal so large that nothing comes in `quietMs` is given more time each time, up to so much. */
const longestQuietMs = 3_600_000;

/** Since the start. */
export interface JournalCounts {
  /** Entries of the journal, alerts or not. */
  readonly entries: number;
  /** Messages that are no alerts, and none that went wrong: Falco's own words. */
  readonly texts: number;
  /** Lines that are none of journalctl's, or too long. */
  readonly unreadable: number;
  /** Journalctls that ended though they should not have. */
  readonly failures: number;
}

type Round =
  /** At once again. */
  | 'again'
  /** Why it is in trouble. */
  | { readonly problem: string };

export class Journal {
  readonly #options: JournalOptions;
  readonly #pace: JournalPace;
  readonly #feed: Feed;
  readonly #kept: CursorFile;
  readonly #keeping: Keeping<string>;
  readonly #counts = { entries: 0, texts: 0, unreadable: 0, failures: 0 };
  /** Of the entry that was read last. */
  #cursor: string | null = null;
  #child: Journalctl | null = null;
  #running: Promise<void> | null = null;
  #isStopped = false;
  #wake: () => void = () => undefined;
  #quietMs: number;
  #failuresInARow = 0;
  /** The last line of the present journalctl's stderr. */
  #lastError = '';
  #isDenied = false;
  /** The last one that followed was ended for saying nothing. */
  #wasQuiet = false;
  /** By topic, what is wrong now: said when it changes. */
  readonly #troubles = new Map<string, string>();
  /** By what is said only now and then: when it was said last, and how often it was not. */
  readonly #seldom = new Map<string, { at: number; unsaid: number }>();

  constructor(options: JournalOptions) {
    this.#options = options;
    this.#pace = { ...defaultPace, ...options.pace };
    this.#quietMs = this.#pace.quietMs;
    this.#feed = new Feed(options);
    this.#kept = new CursorFile(options.stateDir);
    this.#keeping = new Keeping({
      now: () => (this.#cursor === null ? null : { value: this.#cursor, text: this.#cursor }),
      durable: options.durable,
      write: (cursor) => this.#kept.write(cursor),
      onTrouble: (error) => this.#trouble('cursor', error === null ? null : wordsOf(error)),
      keepMs: this.#pace.keepMs,
    });
  }

  /** Resolves when journalctl runs. Rejects with `journal_unavailable` when it can not be run at all. */
  async start(): Promise<void> {
    const kept = await this.#kept.read();
    const { say } = this.#options;
    if (kept === 'bad') say('warn', 'the cursor kept is damaged: the recent past is read', { path: this.#kept.path });
    if (typeof kept === 'object') this.#cursor = kept.cursor;
    const first = await this.#spawn(this.#from(), false).catch((error: unknown) => {
      throw unavailable(error);
    });
    say('info', 'reading the journal', { cursor: this.#cursor });
    this.#options.standing?.is('following');
    this.#running = this.#run(first);
  }

  counts(): JournalCounts {
    return { ...this.#counts };
  }

  /** Reads no more; resolves when what was read is queued. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#child?.stop();
    this.#wake();
    await this.#running;
  }

  /** Stops, and keeps the cursor of all that gets durable. What is waited for is `durable`. */
  async close(): Promise<void> {
    await this.stop();
    this.#keeping.end();
    await this.#keeping.keep();
  }

  /** Closes as a crash would: the cursor stays what it was. */
  async abandon(): Promise<void> {
    await this.stop();
    this.#keeping.end();
  }

  async #run(first: Journalctl): Promise<void> {
    let child: Journalctl | null = first;
    while (!this.#isStopped) {
      let round: Round;
      try {
        round = await this.#round(child ?? (await this.#spawn(this.#from(), false)));
      } catch (error) {
        round = { problem: wordsOf(error) };
      }
      child = null;
      if (round === 'again' || this.#isStopped) continue;
      this.#counts.failures++;
      this.#trouble('journalctl', this.#isDenied ? denied : round.problem);
      await this.#pause();
    }
  }

  /** To the end of the journal with this one, then on with another. */
  async #round(reader: Journalctl): Promise<Round> {
    const expected = this.#cursor;
    let isFound = expected === null;
    let isGone = false;
    const { entries } = this.#counts;
    const end = await this.#readAll(reader, async (entry, receivedNs) => {
      if (isGone) return;
      if (isFound) return this.#take(entry, receivedNs);
      if (entry.cursor === expected) isFound = true;
      else if (entry.cursor !== null) {
        // What comes now is what lies nearest, by a clock that may have been another.
        isGone = true;
        reader.stop();
      }
    });
    if (this.#isStopped) return 'again';
    const isBadCursor = /cursor/i.test(this.#lastError) && end.code !== 0;
    if (!isGone && !isBadCursor) {
      if (end.why === 'quiet') {
        this.#quietMs = Math.min(this.#quietMs * 2, longestQuietMs);
        return { problem: 'it says nothing, and does not end' };
      }
      if (end.code !== 0) return { problem: this.#problemOf(end) };
    }
    if (!isFound) {
      this.#cursor = null;
      const read = this.#options.pastSeconds === null ? 'all' : `the last ${this.#options.pastSeconds} s`;
      this.#options.say('warn', 'what was read last is not in the journal: it was vacuumed, or is another', { read });
      return 'again';
    }
    if (this.#wasQuiet && this.#counts.entries > entries) {
      this.#often('hung', 'warn', 'journalctl had not told of entries: it hung, and was begun anew', {});
    }
    return this.#follow();
  }

  async #follow(): Promise<Round> {
    const expected = this.#cursor;
    const child = await this.#spawn(await this.#fromHere(), true);
    const steady = setTimeout(() => {
      this.#failuresInARow = 0;
      this.#trouble('journalctl', this.#isDenied ? denied : null);
    }, this.#pace.steadyMs);
    const end = await this.#readAll(child, async (entry, receivedNs) => {
      if (entry.cursor === null || entry.cursor !== expected) await this.#take(entry, receivedNs);
    });
    clearTimeout(steady);
    this.#wasQuiet = end.why === 'quiet';
    if (end.why !== 'ended') {
      if (end.pieces > 0) this.#quietMs = this.#pace.quietMs;
      return 'again';
    }
    return { problem: this.#problemOf(end) };
  }

  /** Where to begin when nothing is known of what journalctl would show first. */
  #from(): From {
    if (this.#cursor !== null) return { cursor: this.#cursor };
    const { pastSeconds, now } = this.#options;
    return pastSeconds === null ? { all: true } : { sinceSeconds: now() / 1000 - pastSeconds };
  }

  /** All was read: what comes after it. An entry of a former boot is none that `--follow` could begin at. */
  async #fromHere(): Promise<From> {
    const from = this.#from();
    if (!('cursor' in from) || this.#options.selection.directory !== null) return from;
    const boot = await thisBoot();
    return boot === null || from.cursor.includes(`b=${boot};`) ? from : { boot: true };
  }

  async #spawn(from: From, follow: boolean): Promise<Journalctl> {
    this.#lastError = '';
    this.#isDenied = false;
    const { selection, longest } = this.#options;
    const child = await Journalctl.start({
      arguments: journalctlArguments(selection, from, follow),
      // A byte in an array of numbers takes four, in a text two; the other fields take some hundreds.
      longest: longest * 4 + 4_096,
      quietMs: this.#quietMs,
      onError: (line) => this.#hear(line),
    });
    this.#child = child;
    // Told to stop while it was being started.
    if (this.#isStopped) child.stop();
    return child;
  }

  #readAll(child: Journalctl, take: (entry: Entry, receivedNs: bigint) => Promise<void>): Promise<ChildEnd> {
    return child.read(async (line, receivedNs) => {
      if (line === null) return this.#unreadable('a line is longer than any alert may be', true);
      // Its own remarks: `-- No entries --`
      if (line.startsWith('-- ')) return;
      const entry = readEntry(line);
      if (entry === null) return this.#unreadable('journalctl says what is no JSON of its own', false);
      await take(entry, receivedNs);
    });
  }

  async #take({ cursor, messages }: Entry, receivedNs: bigint): Promise<void> {
    this.#counts.entries++;
    for (const message of messages) {
      const kind = message === null ? 'object' : kindOf(message);
      if (kind === 'object') {
        const isTooLong = message === null || Buffer.byteLength(message) > this.#options.longest;
        await this.#feed.push(isTooLong ? null : message, receivedNs);
        continue;
      }
      this.#counts.texts++;
      if (kind === 'alert-text') {
        this.#often('text', 'warn', 'Falco writes its alerts as text: it takes json_output: true', {});
      }
    }
    if (cursor === null) return;
    this.#cursor = cursor;
    if (!this.#isStopped) this.#keeping.soon();
  }

  #unreadable(problem: string, isTooLong: boolean): void {
    this.#counts.unreadable++;
    if (isTooLong) this.#options.intake.countBad(this.#options.source, { isTooLong });
    this.#often(problem, 'warn', 'a line of journalctl is not read', { problem });
  }

  /** A line of stderr. */
  #hear(line: string): void {
    const text = line.trim();
    this.#lastError = text;
    if (!isDenial.test(text)) return;
    this.#isDenied = true;
    this.#trouble('journalctl', denied);
  }

  #problemOf({ code, signal }: ChildEnd): string {
    const how = signal === null ? `it ended with ${code}` : `it was ended by ${signal}`;
    return this.#lastError === '' ? how : `${how}: ${this.#lastError}`;
  }

  #pause(): Promise<void> {
    const { leastWaitMs, mostWaitMs } = this.#pace;
    const longest = Math.min(mostWaitMs, leastWaitMs * 2 ** Math.min(this.#failuresInARow++, 30));
    return new Promise((resolve) => {
      if (this.#isStopped) return resolve();
      const timer = setTimeout(resolve, longest * (1 - Math.random() / 2));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Says what is wrong when it begins or becomes something else, and when it is over. */
  #trouble(topic: keyof typeof topics, problem: string | null): void {
    const before = this.#troubles.get(topic) ?? null;
    if (problem === before) return;
    const { say, standing } = this.#options;
    const { message, name } = topics[topic];
    if (topic === 'journalctl') standing?.is(problem === null ? 'following' : 'failed');
    if (problem === null) {
      this.#troubles.delete(topic);
      say('info', `${name}: right again`, {});
    } else {
      this.#troubles.set(topic, problem);
      say('warn', message, { problem });
    }
  }

  #often(about: string, level: 'info' | 'warn', message: string, details: Readonly<Record<string, unknown>>): void {
    const last = this.#seldom.get(about) ?? { at: Number.NEGATIVE_INFINITY, unsaid: 0 };
    last.unsaid++;
    if (performance.now() - last.at >= this.#pace.oftenMs) {
      this.#options.say(level, message, { ...details, times: last.unsaid });
      last.at = performance.now();
      last.unsaid = 0;
    }
    this.#seldom.set(about, last);
  }
}

const topics = {
  journalctl: { name: 'journalctl', message: 'journalctl does not run as it should; it is started again' },
  cursor: { name: 'keeping the cursor', message: 'the cursor can not be kept: after a restart alerts come again' },
} as const;

/** journalctl's words (LC_ALL=C): all files are refused it, or, as a notice, those of the system. */
const isDenial = /insufficient permissions|permission denied|not seeing messages from other users/i;

const denied =
  'this user may not read the journal of the system: he must be in the group systemd-journal (SupplementaryGroups= in the unit), and the daemon be restarted';

function unavailable(error: unknown): FalcodropError {
  const { code } = error as NodeJS.ErrnoException;
  const why = code === 'ENOENT' ? 'there is no journalctl in PATH' : wordsOf(error);
  return new FalcodropError(
    'journal_unavailable',
    `the journal can not be read: ${why}`,
    'journalctl comes with systemd; without it take alerts another way and set journal.enabled to false',
    error,
  );
}

function wordsOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return (code === undefined ? null : (words[code] ?? code)) ?? message;
}

const words: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  ENOENT: 'it is not there',
  EAGAIN: 'there are too many processes',
  ENOMEM: 'there is no memory left',
  EMFILE: 'too many files are open',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the quota of the disk is used up',
  EROFS: 'the file system is read-only',
  EIO: 'the disk has an error',
};

/** As cursors have it; null where the kernel does not say. */
async function thisBoot(): Promise<string | null> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim().replaceAll('-', '');
  } catch {
    return null;
  }
}
