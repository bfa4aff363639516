/** Alerts one a line: files that are followed or read once, and stdin, wired to the queue, the log and what is durable. */
import type { Readable } from 'node:stream';
import type { LinesConfig } from '../config/config.ts';
import { FalcodropError } from '../errors.ts';
import type { Intake } from '../sources/intake.ts';
import type { FeedOptions, Say } from '../sources/lines/feed.ts';
import { Follower, type Pace } from '../sources/lines/follow.ts';
import { readFileOnce, readStream, type StreamSource } from '../sources/lines/stream.ts';
import type { Logger } from './log.ts';
import { type AddSource, noSources } from './sources.ts';
import { sayTo } from './text.ts';

export interface LinesOptions {
  readonly config: LinesConfig;
  /** Bytes of one alert. */
  readonly longest: number;
  readonly intake: Intake;
  /** Where positions are kept. */
  readonly stateDir: string;
  /** As the follower's. */
  readonly durable: () => Promise<boolean>;
  readonly logger: Logger;
  /** Opened by asking for it. */
  readonly stdin: () => Readable;
  readonly pace?: Partial<Pace>;
  /** Where each source says how it is. */
  readonly add?: AddSource;
}

export interface Lines {
  /**
   * Resolves when every source that has an end has come to it: null, or the first failure, `file_unreadable`; what was read
   * before it is queued all the same.
   */
  readonly ended: Promise<FalcodropError | null>;
  /** Reads no more; resolves when what was read is queued. */
  readonly stop: () => Promise<void>;
  /** Stops, and keeps positions when what was read is durable. */
  readonly close: () => Promise<void>;
  /** Closes as a crash would. */
  readonly abandon: () => Promise<void>;
}

/** Whether all there is to read has an end. */
export function haveEnd({ files, stdin }: LinesConfig): boolean {
  return (stdin || files.length > 0) && files.every(({ follow }) => !follow);
}

/** Rejects with `file_unreadable` for a file that is to be read once and can not be opened; nothing is open then. */
export async function openLines(options: LinesOptions): Promise<Lines> {
  const { config, stateDir, durable, logger, stdin, pace = {}, add = noSources } = options;
  const say = sayTo(logger);
  const streams: StreamSource[] = [];
  const followers: Follower[] = [];
  const abandon = async (): Promise<void> => {
    await Promise.all([...streams.map(({ stop }) => stop()), ...followers.map((follower) => follower.abandon())]);
  };
  try {
    for (const { path, follow, remote, fleetHosts } of config.files) {
      const name = `file:${path}`;
      const standing = add({ name, kind: 'file' });
      standing.at(path);
      const saying = standing.hears(say);
      const feed = { ...feedOf(name, options, saying), remote, fleetHosts, standing };
      if (follow) {
        const follower = new Follower({ ...feed, path, stateDir, durable, say: saying, pace });
        standing.lagsBy(async () => ({ amount: await follower.behind(), unit: 'bytes' }));
        followers.push(follower);
      } else {
        streams.push(await readFileOnce(path, feed));
        say('info', 'reading to its end', { path });
      }
    }
    if (config.stdin) {
      const standing = add({ name: 'stdin', kind: 'stdin' });
      const feed = { ...feedOf('stdin', options, standing.hears(say)), standing };
      streams.push(readStream(stdin(), 'stdin', feed));
      say('info', 'reading stdin to its end', {});
    }
  } catch (error) {
    await abandon();
    throw error;
  }
  for (const follower of followers) follower.start();
  return {
    ended: allEnded(streams),
    stop: async () => {
      await Promise.all([...streams.map(({ stop }) => stop()), ...followers.map((follower) => follower.stop())]);
    },
    close: async () => {
      await Promise.all([...streams.map(({ stop }) => stop()), ...followers.map((follower) => follower.close())]);
    },
    abandon,
  };
}

async function allEnded(streams: readonly StreamSource[]): Promise<FalcodropError | null> {
  const ends = await Promise.allSettled(streams.map(({ ended }) => ended));
  const failure = ends.find((end) => end.status === 'rejected');
  return failure === undefined ? null : asError(failure.reason);
}

function asError(reason: unknown): FalcodropError {
  return reason instanceof FalcodropError ? reason : new FalcodropError('file_unreadable', String(reason));
}

/** Between two lines of the log about lines that are no alerts, of one source. */
const badEveryMs = 60_000;

/** Says of lines that are no alerts once a while, and how many there were. */
export function feedOf(
  source: string,
  { intake, longest }: Pick<LinesOptions, 'intake' | 'longest'>,
  say: Say,
): FeedOptions {
  let saidAt = Number.NEGATIVE_INFINITY;
  let unsaid = 0;
  return {
    intake,
    source,
    longest,
    onBad: (problem) => {
      unsaid++;
      if (performance.now() - saidAt < badEveryMs) return;
      say('warn', 'a line is no alert', { source, problem, times: unsaid });
      saidAt = performance.now();
      unsaid = 0;
    },
  };
}
