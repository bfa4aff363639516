/**
 * Keeps the facts about this host fresh: rtnetlink events, file system events of the resolver and session files, and a slow
 * timer as a net.
 *
 * The reading is done in a thread of its own, because a dump is synchronous: 100 000 routes take 0.4 s, in which no alert
 * would be judged. The thread hands over packed prefixes; sets are made anew only of what has changed.
 *
 * This file is both sides: the thread runs it again. So it works from the sources and from a bundle, where it is a chunk of
 * its own as long as it is imported dynamically.
 */
import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type PrefixSet, prefixSet } from '../address/set.ts';
import { native } from '../kernel/native.ts';
import { attachedIfindexes } from './attached.ts';
import { readDumps } from './carrier.ts';
import { type HostReading, networkFacts, readFiles, readHostFacts } from './facts.ts';
import { hostNames } from './names.ts';
import { packPrefixes, unpackPrefixes } from './packed.ts';

export interface WatchOptions {
  readonly pinDir: string;
  /** `host_aliases`. */
  readonly aliases: readonly string[];
  /** Hears of every change, after {@link HostWatch.facts} has it. */
  readonly onFacts?: (facts: HostReading) => void;
  /** The thread's troubles: the last facts stay in force and it is started again. One sentence. */
  readonly onProblem?: (problem: string) => void;
  /** Before every path that is read; for tests. */
  readonly root?: string;
}

export interface HostWatch {
  /** As a whole, never half old and half new. */
  readonly facts: () => HostReading;
  readonly close: () => Promise<void>;
}

const setNames = ['own', 'containers', 'broadcasts', 'gateways', 'resolvers', 'sessions'] as const;
type SetName = (typeof setNames)[number];

/** What has been read; the parts that were not read again are left out. */
type Message =
  | { readonly packed: Partial<Record<SetName, Uint8Array>>; readonly unresolvable?: readonly string[] }
  | { readonly problem: string };

interface ThreadData {
  readonly falcodropHost: { readonly pinDir: string; readonly root: string };
}

/** A thread that failed is started again after so long. */
const restartAfterMs = 5_000;

/** Reads the facts once, at once, and keeps them fresh until closed. Throws as `readHostFacts` does. */
export function watchHost({ pinDir, aliases, onFacts, onProblem, root = '' }: WatchOptions): HostWatch {
  let facts = readHostFacts({ attachedIfindexes: attachedIfindexes(pinDir), aliases, root });
  const last = new Map<SetName, Uint8Array>(setNames.map((name) => [name, packPrefixes(facts[name].prefixes)]));
  let worker: Worker | null = null;
  let restart: NodeJS.Timeout | null = null;
  let isClosed = false;

  const take = (message: Message): void => {
    if (isClosed) return;
    if ('problem' in message) {
      onProblem?.(message.problem);
      return;
    }
    const changed: Partial<Record<SetName, PrefixSet>> = {};
    for (const name of setNames) {
      const packed = message.packed[name];
      const before = last.get(name);
      if (packed === undefined || (before !== undefined && Buffer.compare(packed, before) === 0)) continue;
      last.set(name, packed);
      changed[name] = prefixSet(unpackPrefixes(packed));
    }
    const names = hostNames(aliases);
    const unresolvable = message.unresolvable ?? facts.unresolvable;
    const isSame =
      Object.keys(changed).length === 0 &&
      [...names].join() === [...(facts.names ?? [])].join() &&
      unresolvable.join() === facts.unresolvable.join();
    if (isSame) return;
    facts = { ...facts, ...changed, names, unresolvable };
    onFacts?.(facts);
  };

  const start = (): void => {
    const data: ThreadData = { falcodropHost: { pinDir, root } };
    const thread = new Worker(new URL(import.meta.url), { workerData: data, name: 'falcodrop-host' });
    worker = thread;
    let problem = 'it ended';
    thread.on('message', take);
    thread.on('error', (error) => {
      problem = error instanceof Error ? error.message : String(error);
    });
    thread.on('exit', () => {
      if (isClosed || worker !== thread) return;
      worker = null;
      onProblem?.(`the thread that watches this host's addresses failed (${problem}); the last facts stay in force`);
      restart = setTimeout(start, restartAfterMs);
    });
  };
  start();

  return {
    facts: () => facts,
    close: async () => {
      isClosed = true;
      if (restart !== null) clearTimeout(restart);
      await worker?.terminate();
    },
  };
}

/** At most one dump a second, and at most a twentieth of the time spent on dumps, however often routes change. */
const dumpEveryMs = 1_000;
const dumpShare = 20;

/** Session files come in bursts. */
const filesAfterMs = 50;

/** The net below the events: files and host name, and every fifth time the kernel's tables. */
const slowMs = 60_000;
const slowDumpEvery = 5;

/** Folders watched, and which names in them count. */
const watched: readonly { readonly folder: string; readonly counts: RegExp }[] = [
  { folder: '/etc', counts: /^(resolv\.|dnsmasq)/ },
  { folder: '/etc/dnsmasq.d', counts: /./ },
  { folder: '/etc/unbound', counts: /\.conf$/ },
  { folder: '/etc/unbound/unbound.conf.d', counts: /./ },
  { folder: '/etc/unbound/conf.d', counts: /./ },
  { folder: '/run', counts: /^utmp$/ },
  { folder: '/run/systemd/sessions', counts: /./ },
  { folder: '/run/systemd/resolve', counts: /^resolv\.conf$/ },
  { folder: '/run/NetworkManager', counts: /resolv\.conf$/ },
];

/** The thread's side. */
function serve({ pinDir, root }: ThreadData['falcodropHost'], post: (message: Message) => void): void {
  let isDumpDue = false;
  let nextDumpAt = 0;
  const dump = (): void => {
    isDumpDue = false;
    const begun = performance.now();
    try {
      const dumps = readDumps();
      const { own, containers, broadcasts, gateways } = networkFacts(dumps, attachedIfindexes(pinDir, dumps.links));
      const packed = {
        own: packPrefixes(own),
        containers: packPrefixes(containers),
        broadcasts: packPrefixes(broadcasts),
        gateways: packPrefixes(gateways),
      };
      post({ packed });
    } catch (error) {
      // tables that change faster than they can be dumped (EINTR after the addon's own retries)
      post({ problem: `this host's addresses and routes could not be read: ${String(error)}` });
      isDumpDue = true;
    }
    const ended = performance.now();
    const pause = Math.max(dumpEveryMs, (ended - begun) * dumpShare);
    nextDumpAt = ended + pause;
    if (isDumpDue) setTimeout(dump, pause);
  };
  const dumpSoon = (): void => {
    if (isDumpDue) return;
    isDumpDue = true;
    setTimeout(dump, Math.max(0, nextDumpAt - performance.now()));
  };

  let isLookDue = false;
  const look = (): void => {
    isLookDue = false;
    const { resolvers, sessions, unresolvable } = readFiles(root);
    post({ packed: { resolvers: packPrefixes(resolvers), sessions: packPrefixes(sessions) }, unresolvable });
  };
  const lookSoon = (): void => {
    if (isLookDue) return;
    isLookDue = true;
    setTimeout(look, filesAfterMs);
  };

  let watchers: FSWatcher[] = [];
  /** Set anew each time: a folder that went and came back (a first login makes the sessions' one) is another inode. */
  const watchFolders = (): void => {
    for (const watcher of watchers) watcher.close();
    watchers = [];
    for (const { folder, counts } of watched) {
      try {
        const watcher = watch(join(root, folder), (_event, name) => {
          if (name === null || counts.test(name)) lookSoon();
        });
        watcher.on('error', () => watcher.close());
        watchers.push(watcher);
      } catch {
        // not there, or out of inotify watches: the timer looks
      }
    }
  };

  // Subscribed before the first dump, so that nothing is missed between.
  native().netlink.watch(dumpSoon);
  watchFolders();
  let slowRounds = 0;
  setInterval(() => {
    watchFolders();
    look();
    if (++slowRounds % slowDumpEvery === 0) dumpSoon();
  }, slowMs);
  look();
  dump();
}

if (!isMainThread && parentPort !== null && isThreadData(workerData)) {
  const port = parentPort;
  serve(workerData.falcodropHost, (message) => port.postMessage(message));
}

function isThreadData(data: unknown): data is ThreadData {
  return typeof data === 'object' && data !== null && 'falcodropHost' in data;
}
