/**
 * A log that is followed: from where it was left, through renames, truncations and restarts, for as long as it is wanted.
 *
 * A file that was renamed is read on, for its writer goes on with it until it is told to reopen its log (Falco: SIGUSR1), and
 * both are read meanwhile. Before a truncation (copytruncate) a copy was made: what had not been read yet is read there.
 *
 * How far it came is kept only when all before it is decided and durable (position.ts).
 */
import type { FileHandle } from 'node:fs/promises';
import { stat } from 'node:fs/promises';
import { Keeping } from '../keeping.ts';
import { Feed, type FeedOptions, type Say } from './feed.ts';
import { type Position, PositionFile } from './position.ts';
import { rotatedOf, rotatedSince, tailAt } from './rotated.ts';
import {
  type FileStatus,
  keyOf,
  NotAFile,
  type Opened,
  openFile,
  readTail,
  Segment,
  statusOf,
  tailSize,
} from './segment.ts';
import { PathWatch } from './watch.ts';

export interface FollowOptions extends FeedOptions {
  /** Absolute. */
  readonly path: string;
  /** Where positions are kept. */
  readonly stateDir: string;
  /**
   * Resolves when every alert that was queued until now is decided and what came of it is on the disk: true, or false when
   * that can not be said of all of it.
   */
  readonly durable: () => Promise<boolean>;
  readonly say: Say;
  readonly pace?: Partial<Pace>;
}

export interface Pace {
  /** The file is looked at so often though inotify says nothing. */
  readonly pollMs: number;
  /** A renamed file is given up after so many polls in a row that found nothing new in it. */
  readonly lingerPolls: number;
  /** From reading something to keeping its position. */
  readonly keepMs: number;
  /** Bytes read at once. */
  readonly pieceSize: number;
}

const defaultPace: Pace = { pollMs: 1_000, lingerPolls: 10, keepMs: 1_000, pieceSize: 256 << 10 };

/** Remembered of files that are done with. */
const mostDone = 256;

/** By so much at most a file system's times lag behind the clock: a tick of the kernel's. */
const coarseMs = 10;

/** Files of one path open at once; rotated faster than they are given up, more wait. */
const mostSegments = 16;

interface Kept {
  readonly positions: readonly Position[];
  /** ns since 1970. Copies made since then were not there. */
  readonly atNs: bigint;
}

export class Follower {
  readonly #options: FollowOptions;
  readonly #pace: Pace;
  readonly #feed: Feed;
  readonly #kept: PositionFile;
  readonly #watch: PathWatch;
  readonly #buffer: Buffer;
  /** The oldest first; the last is what the path names, or named last. */
  #segments: Segment[] = [];
  /** What the path names now. */
  #current: string | null = null;
  #running: Promise<void> | null = null;
  #isStopped = false;
  #isDirty = false;
  /** `performance.now()` of the last poll. */
  #polledAt = Number.NEGATIVE_INFINITY;
  #wake: () => void = () => undefined;
  /** Files that were read to their ends, by {@link idOf}: not to be taken for new ones. */
  readonly #done = new Set<string>();
  /** ns since 1970. Copies made since then were not there when the path's file was begun. */
  #begunNs = 0n;
  /** By topic, what is wrong now: said when it changes. */
  readonly #troubles = new Map<string, string>();
  readonly #keeping: Keeping<Kept>;

  constructor(options: FollowOptions) {
    this.#options = options;
    this.#pace = { ...defaultPace, ...options.pace };
    this.#feed = new Feed(options);
    this.#kept = new PositionFile(options.stateDir, options.path);
    this.#watch = new PathWatch(options.path, () => this.#stir());
    this.#buffer = Buffer.allocUnsafeSlow(this.#pace.pieceSize + tailSize);
    this.#keeping = new Keeping({
      now: () => this.#positions(),
      durable: options.durable,
      write: ({ positions, atNs }) => this.#kept.write(positions, atNs),
      onTrouble: (error) =>
        this.#trouble(
          'position',
          error === null ? null : wordsOf(error),
          'the position can not be kept: after a restart alerts come again',
        ),
      keepMs: this.#pace.keepMs,
    });
  }

  /** A file that is not there, or is none, is waited for. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Reads no more; resolves when what was read is queued. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#stir();
    await this.#running;
  }

  /** Stops, keeps the position of all that gets durable, and closes. What is waited for is `durable`. */
  async close(): Promise<void> {
    await this.stop();
    this.#keeping.end();
    await this.#keeping.keep();
    await this.abandon();
  }

  /** Closes as a crash would: the position stays what it was. */
  async abandon(): Promise<void> {
    await this.stop();
    this.#keeping.end();
    this.#watch.close();
    for (const segment of this.#segments.splice(0)) await segment.close();
  }

  async #run(): Promise<void> {
    let isResumed = false;
    this.#begunNs = BigInt(Date.now() - coarseMs) * 1_000_000n;
    while (!this.#isStopped) {
      this.#isDirty = false;
      // By the clock: where something happens all the time there is never a pause.
      const isPoll = performance.now() - this.#polledAt >= this.#pace.pollMs;
      if (isPoll) this.#polledAt = performance.now();
      try {
        if (isPoll) this.#trouble('watch', await this.#watch.renew(), 'no inotify: the file is looked at now and then');
        if (!isResumed) await this.#resume();
        isResumed = true;
        await this.#look(isPoll);
        await this.#readAll(isPoll);
        this.#trouble('read', null);
      } catch (error) {
        this.#trouble('read', wordsOf(error), 'file not read; it is tried again');
        this.#isDirty = false;
      }
      this.#stand();
      if (!this.#isDirty) await this.#pause();
    }
  }

  /** Until something happens, or it is time to look anyway. */
  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(1, this.#polledAt + this.#pace.pollMs - performance.now()));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #stir(): void {
    this.#isDirty = true;
    this.#wake();
  }

  /** Where the last process left off. */
  async #resume(): Promise<void> {
    const { path, say } = this.#options;
    const kept = await this.#kept.read();
    if (kept === 'bad') say('warn', 'the position kept is damaged: read from the beginning', { path });
    if (typeof kept === 'string') return;
    for (const position of kept.positions) {
      const found = await this.#locate(position);
      for (const segment of found) {
        if (this.#segments.some(({ key }) => key === segment.key)) await segment.close();
        else {
          // Truncated more than once before it was renamed: the later copies lie between the first one and the file itself.
          const [copy] = found;
          if (copy !== undefined && copy !== segment && copy.isCopy) await this.#addBornSince(copy.bornNs, segment.key);
          this.#segments.push(segment);
        }
      }
      if (found.length === 0 && position.offset > 0)
        say('info', 'what was read last is gone or another: read from the beginning', { path });
    }
    // Of a file of which nothing was read no copy can be told: all that were made since are taken for such.
    if (kept.positions.some(({ tailLength }) => tailLength === 0)) {
      this.#segments.unshift(...(await this.#copiedSince(kept.atNs)));
    }
    for (const { key, position } of this.#segments)
      say('info', 'following', { path, file: key, offset: position.offset });
  }

  /**
   * The file of a position: by its identity, else, renamed over or copied away, by its content; then, truncated and renamed since, the
   * file itself from its beginning.
   */
  async #locate(position: Position): Promise<readonly Segment[]> {
    const { path } = this.#options;
    const { offset, tailLength } = position;
    const named = await openFile(path).catch(() => null);
    const take = async ({ handle, status }: Opened, isCopy: boolean): Promise<Segment | null> => {
      const tail = status.size < offset ? null : await tailAt(handle, position);
      if (tail === null) return null;
      const head =
        (await readTail(handle, Math.min(offset, tailSize), Math.min(offset, tailSize))) ?? tail.subarray(0, 0);
      return new Segment(handle, status, this.#feed.splitter(offset === 0), { offset, tail, head, isCopy });
    };
    let segment = named !== null && keyOf(named.status) === keyOf(position) ? await take(named, false) : null;
    // Not before: when it has been truncated meanwhile the copy is there.
    const isWanted = ({ size }: FileStatus, key: string): boolean => size >= offset || key === keyOf(position);
    const rotated = segment === null ? await rotatedOf(path, isWanted) : [];
    for (const each of rotated) if (each.key === keyOf(position)) segment ??= await take(each, false);
    // Nothing was read of it: nothing tells it from others.
    if (tailLength > 0) {
      if (named !== null) segment ??= await take(named, false);
      for (const each of rotated.toReversed()) segment ??= await take(each, true);
    }
    const found = segment === null ? [] : [segment];
    const itself = rotated.find(({ key }) => key === keyOf(position));
    if (itself !== undefined && itself.handle !== segment?.handle) {
      found.push(new Segment(itself.handle, itself.status, this.#feed.splitter()));
    }
    for (const opened of [...(named === null ? [] : [named]), ...rotated]) {
      if (!found.some(({ handle }) => handle === opened.handle)) await opened.handle.close();
    }
    return found;
  }

  /** What the path names now; when that is another file than before, also those that it named in between. */
  async #look(isPoll: boolean): Promise<void> {
    const { path } = this.#options;
    if (this.#segments.length >= mostSegments) return;
    try {
      const { dev, ino } = await stat(path, { bigint: true });
      const key = keyOf({ dev, ino });
      if (this.#segments.some((segment) => segment.key === key)) {
        this.#current = key;
        this.#trouble('path', null);
        return;
      }
      await this.#open();
      this.#trouble('path', null);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') await this.#addRotated(null);
      // Between a rename and the new file's first line there is none.
      if (code === 'ENOENT' && this.#segments.length > 0 && !isPoll) return;
      this.#trouble('path', code === 'ENOENT' ? notThere : wordsOf(error), 'waiting for the file');
    }
  }

  async #open(): Promise<void> {
    const { path, say } = this.#options;
    const { handle, status } = await openFile(path);
    const key = keyOf(status);
    // Renamed between the two system calls.
    if (this.#segments.some((segment) => segment.key === key)) {
      await handle.close();
      return;
    }
    const last = this.#segments.at(-1);
    await this.#addRotated(key);
    this.#add(handle, status);
    this.#current = key;
    if (last !== undefined) this.#begunNs = status.birthtimeNs;
    say('info', last === undefined ? 'following' : 'rotated', { path, file: key, offset: 0 });
    // At once where nothing is kept: killed and rotated before that, nobody would know of the file.
    this.#keepSoon(last === undefined ? 0 : undefined);
  }

  /** Files that the path has named since anybody looked, and that were renamed since. */
  async #addRotated(current: string | null): Promise<void> {
    const last = this.#segments.at(-1);
    if (last === undefined) return;
    const isKnown = (status: FileStatus, key: string): boolean => key === current || this.#isKnown(status, key);
    const rotated = await rotatedSince(this.#options.path, await statusOf(last.handle), isKnown);
    for (const each of rotated) this.#add(each.handle, each.status);
  }

  async #addBornSince(sinceNs: bigint, except: string): Promise<void> {
    const isKnown = (status: FileStatus, key: string): boolean => key === except || this.#isKnown(status, key);
    const since = { mtimeNs: 0n, birthtimeNs: sinceNs };
    for (const each of await rotatedSince(this.#options.path, since, isKnown)) this.#add(each.handle, each.status);
  }

  #isKnown(status: FileStatus, key: string): boolean {
    return this.#segments.some((segment) => segment.key === key) || this.#done.has(idOf(key, status.birthtimeNs));
  }

  #add(handle: FileHandle, status: FileStatus): void {
    this.#segments.push(new Segment(handle, status, this.#feed.splitter()));
  }

  /** Each to its end before the next, so that alerts keep their order. */
  async #readAll(isPoll: boolean): Promise<void> {
    for (const segment of [...this.#segments]) {
      const grew = await this.#readToEnd(segment);
      if (grew === 'interrupted') return;
      if (isPoll && !grew) segment.emptyPolls++;
    }
    for (const segment of this.#segments.slice(0, -1)) {
      const { lingerPolls } = this.#pace;
      const isCrowded = this.#segments.length >= mostSegments && segment.emptyPolls >= 2;
      const isOver = segment.isCopy || isCrowded || segment.emptyPolls >= lingerPolls;
      if (isOver && segment.key !== this.#current) await this.#drop(segment);
    }
  }

  /** Whether there was anything. `interrupted`: something happened, the path is to be looked at before going on. */
  async #readToEnd(segment: Segment): Promise<boolean | 'interrupted'> {
    for (let grew = false; ; grew = true) {
      if (this.#isStopped) return 'interrupted';
      const read = await segment.read(this.#buffer);
      if (read === 'end') return grew;
      if (read === 'truncated') {
        await this.#truncated(segment);
        this.#isDirty = true;
        return 'interrupted';
      }
      segment.emptyPolls = 0;
      // After the read: if these are the bytes behind a truncation, the copy is there.
      if (segment.at.offset === 0 && !segment.isCopy && (await this.#unseen(segment))) return 'interrupted';
      await this.#feed.take(segment.splitter, read.bytes);
      segment.taken(read.bytes);
      this.#keepSoon();
      if (this.#isDirty) return 'interrupted';
    }
  }

  async #truncated(segment: Segment): Promise<void> {
    const { path, say } = this.#options;
    const copy = segment.isCopy ? null : await this.#copyOf(segment);
    let found = 'read to its end';
    if (copy === null) {
      await this.#feed.end(segment.splitter);
      found = !segment.isCopy && (await this.#passCopy(segment)) ? 'read before' : 'none found';
    } else {
      this.#insert(segment, [copy]);
      this.#begunNs = copy.bornNs;
      // Truncated more than once before anybody looked.
      this.#insert(segment, await this.#copiedSince(copy.bornNs));
    }
    segment.restart(this.#feed.splitter());
    say('info', 'truncated: read from its beginning', { path, copy: found });
    this.#keepSoon();
  }

  /** A copy with nothing that was not read: what came between copying and truncation was read in time. It is not read again. */
  async #passCopy(segment: Segment): Promise<boolean> {
    const isNew = (status: FileStatus, key: string): boolean =>
      status.birthtimeNs > 0n && status.birthtimeNs >= this.#begunNs && !this.#isKnown(status, key);
    let isPassed = false;
    for (const opened of await rotatedOf(this.#options.path, isNew)) {
      if (!isPassed && (await segment.holds(opened))) {
        isPassed = true;
        this.#markDone(opened.key, opened.status.birthtimeNs);
        this.#begunNs = opened.status.birthtimeNs;
      }
      await opened.handle.close();
    }
    return isPassed;
  }

  /** The copy that was made before a truncation: it has, where reading stood, what was read there. */
  async #copyOf(segment: Segment): Promise<Segment | null> {
    const at = segment.at;
    if (at.tail.length === 0) return null;
    const candidates = await rotatedOf(
      this.#options.path,
      (status, key) => status.size >= at.offset && !this.#isKnown(status, key),
    );
    let copy: Segment | null = null;
    for (const { handle, status } of candidates.toReversed()) {
      const candidate = new Segment(handle, status, segment.splitter, { ...at, isCopy: true });
      if (copy === null && (await candidate.read(this.#buffer)) !== 'truncated') copy = candidate;
      else await candidate.close();
    }
    return copy;
  }

  /**
   * Nothing was read of a file, so nothing tells that it was truncated but the copies that were made meanwhile: whether there
   * are such; they are read first.
   */
  async #unseen(segment: Segment): Promise<boolean> {
    const copies = await this.#copiedSince(this.#begunNs);
    this.#insert(segment, copies);
    return copies.length > 0;
  }

  #insert(before: Segment, copies: readonly Segment[]): void {
    this.#segments.splice(this.#segments.indexOf(before), 0, ...copies);
    if (copies.length > 0) this.#isDirty = true;
  }

  async #copiedSince(sinceNs: bigint): Promise<Segment[]> {
    const since = { mtimeNs: 0n, birthtimeNs: sinceNs };
    const later = await rotatedSince(this.#options.path, since, (status, key) => this.#isKnown(status, key));
    const from = { offset: 0, tail: Buffer.alloc(0), isCopy: true };
    return later.map(({ handle, status }) => new Segment(handle, status, this.#feed.splitter(), from));
  }

  async #drop(segment: Segment): Promise<void> {
    await this.#feed.end(segment.splitter);
    this.#segments = this.#segments.filter((each) => each !== segment);
    // Without a time of birth its number may be another's tomorrow.
    if (segment.bornNs > 0n) this.#markDone(segment.key, segment.bornNs);
    await segment.close();
    this.#keepSoon();
  }

  #markDone(key: string, bornNs: bigint): void {
    this.#done.add(idOf(key, bornNs));
    const [oldest] = this.#done;
    if (oldest !== undefined && this.#done.size > mostDone) this.#done.delete(oldest);
  }

  /** Says what is wrong when it begins or becomes something else, and when it is over. */
  #trouble(topic: string, problem: string | null, message = ''): void {
    const before = this.#troubles.get(topic) ?? null;
    if (problem === before) return;
    const { path, say } = this.#options;
    if (problem === null) {
      this.#troubles.delete(topic);
      say('info', `${topicNames[topic] ?? topic}: right again`, { path });
    } else {
      this.#troubles.set(topic, problem);
      say('warn', message, { path, problem });
    }
  }

  /** What the path names, and nobody reads. */
  #stand(): void {
    const ofPath = this.#troubles.get('path') ?? null;
    const isFailed = this.#troubles.has('read') || (ofPath !== null && ofPath !== notThere);
    this.#options.standing?.is(isFailed ? 'failed' : ofPath === null ? 'following' : 'waiting');
  }

  /** Bytes of the open files that were not read yet. Rejects when one is closed meanwhile. */
  async behind(): Promise<number> {
    const rests = this.#segments.map(async ({ handle, at }) => Math.max(0, (await statusOf(handle)).size - at.offset));
    return (await Promise.all(rests)).reduce((sum, rest) => sum + rest, 0);
  }

  #keepSoon(ms?: number): void {
    if (!this.#isStopped) this.#keeping.soon(ms);
  }

  #positions(): { readonly value: Kept; readonly text: string } | null {
    const positions = this.#segments.map(({ position }) => position);
    if (positions.length === 0) return null;
    return { value: { positions, atNs: BigInt(Date.now() - coarseMs) * 1_000_000n }, text: JSON.stringify(positions) };
  }
}

const idOf = (key: string, bornNs: bigint): string => `${key} ${bornNs}`;

const notThere = 'it is not there yet';

const topicNames: Readonly<Record<string, string>> = {
  path: 'the file',
  position: 'keeping the position',
  read: 'reading',
  watch: 'inotify',
};

function wordsOf(error: unknown): string {
  if (error instanceof NotAFile) return error.message;
  const { code, message } = error as NodeJS.ErrnoException;
  return (code === undefined ? null : (words[code] ?? code)) ?? message;
}

const words: Readonly<Record<string, string>> = {
  EACCES: 'it may not be read (or written) by this user',
  EPERM: 'it may not be read (or written) by this user',
  ENOENT: 'it is not there',
  ENOTDIR: 'a part of its path is no directory',
  ELOOP: 'its symbolic links lead round in circles',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the quota of the disk is used up',
  EROFS: 'the file system is read-only',
  EIO: 'the disk has an error',
  EMFILE: 'too many files are open',
};
