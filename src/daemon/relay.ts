/**
 * While the daemon runs it is the one reader of the drop samples, and hands them on over its socket to all who watch.
 *
 * Nothing here is needed for dropping: what fails is said in the log, once until it changes, and tried again every second.
 */
import { covers, hostPrefix, type Prefix, parsePrefix } from '../address/prefix.ts';
import { FalcodropError } from '../errors.ts';
import { openSamples, type Sample, type SampleReader } from '../kernel/samples.ts';
import { dropSample, interfaceNames } from './drop-sample.ts';
import type { Logger } from './log.ts';
import { type Client, type DaemonSocket, type SocketVerb, serveSocket, socketPath } from './socket.ts';
import { cleanText } from './text.ts';

export interface RelayOptions {
  readonly pinDir: string;
  readonly stateDir: string;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
  /** What else may be asked over the socket. */
  readonly verbs?: Readonly<Record<string, SocketVerb>>;
}

export interface Relay {
  close(): Promise<void>;
}

interface Watcher {
  readonly client: Client;
  readonly within: Prefix | null;
}

const tryEveryMs = 1_000;

/** Begins at once, and goes on trying what can not be had yet. */
export function openRelay({ pinDir, stateDir, logger, verbs: others = {} }: RelayOptions): Relay {
  const watchers = new Set<Watcher>();
  const nameOf = interfaceNames();
  let reader: SampleReader | null = null;
  let socket: DaemonSocket | null = null;
  let isClosed = false;
  const said = new Map<string, string>();

  const say = (what: string, problem: string | null): void => {
    if (problem !== null && said.get(what) !== problem) logger.warn({ problem: cleanText(problem, 500) }, what);
    if (problem === null) said.delete(what);
    else said.set(what, problem);
  };

  const onSample = (sample: Sample, dropNow: bigint): void => {
    if (watchers.size === 0) return;
    const line = { sample: dropSample(sample, { dropNow, wallMs: Date.now(), nameOf }) };
    for (const { client, within } of watchers) {
      if (within === null || covers(within, hostPrefix(sample.source))) client.send(line);
    }
  };

  const read = (): void => {
    if (reader !== null && !reader.isCurrent()) {
      reader.close();
      reader = null;
    }
    if (reader !== null) return;
    try {
      reader = openSamples(pinDir, onSample);
      say('drop samples not read', reader === null ? 'another falcodrop reads them' : null);
    } catch (error) {
      say('drop samples not read', error instanceof Error ? error.message : String(error));
    }
  };

  const verbs = {
    ...others,
    watch_drops: ({ within }: Readonly<Record<string, unknown>>, client: Client): void => {
      if (within !== undefined && typeof within !== 'string') {
        throw new FalcodropError('usage', 'within is no text', '"203.0.113.0/24"');
      }
      if (watchers.size === 0) reader?.lost(); // what was lost before is nobody's
      const watcher = { client, within: within === undefined ? null : parsePrefix(within) };
      watchers.add(watcher);
      client.onClose(() => watchers.delete(watcher));
      client.send({ ok: true });
      read();
      if (reader === null) client.send({ note: { code: 'samples_busy' } });
    },
  };

  let opening: Promise<void> = Promise.resolve();
  const open = async (): Promise<void> => {
    try {
      socket = await serveSocket(socketPath(stateDir), verbs);
      logger.info({ path: socket.path }, 'socket');
      say('no socket', null);
    } catch (error) {
      say('no socket', error instanceof Error ? error.message : String(error));
    }
  };

  let isOpening = false;
  const tick = (): void => {
    if (isClosed) return;
    read();
    const lost = watchers.size === 0 ? 0 : (reader?.lost() ?? 0);
    if (lost > 0) for (const { client } of watchers) client.send({ lost });
    if (socket !== null || isOpening) return;
    isOpening = true;
    opening = open().finally(() => {
      isOpening = false;
    });
  };
  const timer = setInterval(tick, tryEveryMs);
  tick();

  return {
    close: async () => {
      isClosed = true;
      clearInterval(timer);
      await opening;
      await socket?.close();
      reader?.close();
      reader = null;
    },
  };
}
