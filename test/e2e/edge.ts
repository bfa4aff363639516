/**
 * A host under test: the built command in a network namespace with one uplink, its pins, ledger and configuration in a lab;
 * and ways to see from outside what holds: verdicts, and whether maps and ledger say the same.
 */
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { formatPrefix } from '../../src/address/prefix.ts';
import { Ledger } from '../../src/blocklist/ledger/ledger.ts';
import { forEver, never } from '../../src/blocklist/ledger/record.ts';
import { secondsLeft } from '../../src/kernel/clock.ts';
import { MAX_SLOTS } from '../../src/kernel/layout.ts';
import type { BpfProgram } from '../../src/kernel/native.ts';
import { loadInstance } from '../../src/kernel/object.ts';
import { blockMapNames, PinnedSet } from '../../src/kernel/set.ts';
import { command, objects } from '../cli/falcodrop.ts';
import { type Lab, openLab } from '../kernel/lab.ts';
import { frame, ipv4, ipv6 } from '../kernel/packets.ts';

export const uplink = 'up0';

export interface Ways {
  readonly environment?: Readonly<Record<string, string>>;
  /** Dies there. */
  readonly fault?: string;
  /** Numbers of user and group, without any capability. */
  readonly as?: readonly [uid: number, gid: number];
  /** Instead of `bin/falcodrop` itself. */
  readonly argv?: readonly string[];
}

export interface Ended {
  /** null: a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Edge {
  readonly lab: Lab;
  readonly namespace: string;
  readonly outside: string;
  readonly stateDir: string;
  readonly configFile: string;
  /** Environment and command of a run, for `lab.spawn`. */
  argv(args: readonly string[], ways?: Ways): [string, ...string[]];
  run(args: readonly string[], ways?: Ways): Ended;
  /** The run must end with that status; objects of stdout and stderr. */
  json(
    status: number,
    args: readonly string[],
    ways?: Ways,
  ): { readonly said: Record<string, unknown>[]; readonly errors: Record<string, unknown>[] };
  /** Exit 0, or the test fails with what it said. */
  must(args: readonly string[], ways?: Ways): string;
  attach(...more: string[]): string;
  /** What a reboot leaves: no pins. */
  purge(): void;
}

export interface EdgeOptions {
  /** YAML beside `service`. */
  readonly config?: string;
  readonly service?: readonly [uid: number, gid: number];
  readonly sizes?: readonly [addresses: number, prefixes: number];
}

export function openEdge({ config = '', service = [0, 0], sizes = [4096, 1024] }: EdgeOptions = {}): Edge {
  const lab = openLab();
  loaded.set(lab.pinDir, null);
  lab.onClose(() => {
    const last = loaded.get(lab.pinDir);
    loaded.delete(lab.pinDir);
    if (last != null) unload(last);
  });
  const namespace = lab.namespace('e');
  const outside = lab.namespace('x');
  lab.veth(
    { namespace, name: uplink, exact: true, addresses: ['198.51.100.1/24', '2001:db8:1::1/64'] },
    { namespace: outside, name: 'x0', exact: true, addresses: ['198.51.100.254/24', '2001:db8:1::fe/64'] },
  );
  lab.exec(namespace, 'ip', 'route', 'add', 'default', 'via', '198.51.100.254');
  const stateDir = join(lab.directory, 'state');
  const etc = join(lab.directory, 'etc');
  mkdirSync(etc);
  const configFile = join(etc, 'falcodrop.yaml');
  writeFileSync(configFile, `service: { user: "${service[0]}", group: "${service[1]}" }\n${config}`);

  const edge: Edge = {
    lab,
    namespace,
    outside,
    stateDir,
    configFile,
    argv(args, { environment = {}, fault = '', as, argv = [command] } = {}) {
      const settings = {
        TZ: 'UTC',
        FALCODROP_PIN_DIR: lab.pinDir,
        FALCODROP_STATE_DIR: stateDir,
        FALCODROP_CONFIG: configFile,
        SSH_CONNECTION: '',
        FAULT: fault,
        ...environment,
      };
      const drop =
        as === undefined
          ? []
          : [
              'setpriv',
              `--reuid=${as[0]}`,
              `--regid=${as[1]}`,
              '--clear-groups',
              '--inh-caps=-all',
              '--bounding-set=-all',
            ];
      return ['env', ...Object.entries(settings).map(([name, value]) => `${name}=${value}`), ...drop, ...argv, ...args];
    },
    run: (args, ways) => lab.run(namespace, ...edge.argv(args, ways)),
    json(status, args, ways) {
      const done = edge.run([...args, '--json'], ways);
      expect({ status: done.status, stderr: done.stderr, stdout: done.stdout }).toMatchObject({ status });
      return { said: objects(done.stdout), errors: objects(done.stderr) };
    },
    must(args, ways) {
      const done = edge.run(args, ways);
      expect({ args, status: done.status, stderr: done.stderr }).toMatchObject({ status: 0 });
      return done.stdout;
    },
    attach: (...more) =>
      edge.must(['attach', uplink, '--addresses', `${sizes[0]}`, '--prefixes', `${sizes[1]}`, ...more]),
    purge: () => {
      edge.must(['detach', '--all', '--purge']);
    },
  };
  return edge;
}

/** A program on the maps of one set; loading one costs the kernel 60 ms of verifying. */
interface Loaded {
  readonly set: PinnedSet;
  readonly program: BpfProgram;
  readonly maps: string;
}

/** By pin directory, until their lab closes. */
const loaded = new Map<string, Loaded | null>();

const serviceOwned: ReadonlySet<string> = new Set([...blockMapNames, 'hints']);
const asked = [...serviceOwned, 'allowed_cidr_v4', 'allowed_cidr_v6', 'settings', 'counters'];

/** Which maps are pinned now, whatever handles of former ones still say. */
function pinnedMaps(set: PinnedSet): string {
  return asked.map((name) => set.map(name, !serviceOwned.has(name)).info.id).join(' ');
}

function load(set: PinnedSet, maps: string): Loaded {
  return { set, maps, program: loadInstance((name) => set.map(name), MAX_SLOTS - 1) };
}

function unload({ program, set }: Loaded): void {
  program.close();
  set.close();
}

/** One packet of each source through the program on the pinned maps. */
export function dropped(pinDir: string, sources: readonly string[]): Set<string> {
  const set = new PinnedSet(pinDir);
  const maps = pinnedMaps(set);
  const before = loaded.get(pinDir);
  if (before?.maps === maps) {
    set.close();
    return droppedBy(before.program, sources);
  }
  if (before != null) unload(before);
  const now = load(set, maps);
  if (before !== undefined) {
    loaded.set(pinDir, now);
    return droppedBy(now.program, sources);
  }
  // Of no edge: nobody would take it away.
  try {
    return droppedBy(now.program, sources);
  } finally {
    unload(now);
  }
}

function droppedBy(program: BpfProgram, sources: readonly string[]): Set<string> {
  return new Set(
    sources.filter((source) => {
      const family = source.includes(':') ? 6 : 4;
      const packet = family === 6 ? ipv6({ source }) : ipv4({ source });
      return program.testRun({ data: frame(family, packet) }).returnValue === 1; // XDP_DROP
    }),
  );
}

export interface Held {
  /** 0: not; null: for ever. */
  readonly dropSeconds: number | null;
  readonly countSeconds: number | null;
}

/** What the maps hold, by target. What has ended is left out. */
export function heldIn(pinDir: string): Map<string, Held> {
  const set = new PinnedSet(pinDir);
  try {
    const now = set.now();
    const held = new Map<string, Held>();
    for (const name of blockMapNames) {
      for (const { target, value } of set.entries(name)) {
        const ends = {
          dropSeconds: secondsLeft(value.dropUntil, now),
          countSeconds: secondsLeft(value.countUntil, now),
        };
        if (ends.dropSeconds !== 0 || ends.countSeconds !== 0) held.set(formatPrefix(target), ends);
      }
    }
    return held;
  } finally {
    set.close();
  }
}

/** The same of the live claims of the ledger: each end the latest. Written anew here, not the ledger's own union. */
export function wantedIn(stateDir: string): Map<string, Held> {
  const { uid, gid } = statSync(join(stateDir, 'ledger.db'));
  const ledger = Ledger.open(stateDir, { service: { uid, gid }, create: false });
  try {
    const now = ledger.now();
    const wanted = new Map<string, Held>();
    const later = (a: number | null, b: number | null) => (a === null || b === null ? null : Math.max(a, b));
    const secondsOf = (end: number) => (end === forEver ? null : end === never ? 0 : Math.max(0, (end - now) / 1000));
    for (const claim of ledger.claims({ state: 'live' })) {
      const name = formatPrefix(claim.target);
      const before = wanted.get(name) ?? { dropSeconds: 0, countSeconds: 0 };
      wanted.set(name, {
        dropSeconds: later(before.dropSeconds, secondsOf(claim.dropEnd)),
        countSeconds: later(before.countSeconds, secondsOf(claim.countEnd)),
      });
    }
    return wanted;
  } finally {
    ledger.close();
  }
}

const near = (a: number | null, b: number | null): boolean =>
  a === null || b === null ? a === b : Math.abs(a - b) < 2 || (a < 2 && b < 2);

/** Targets about which maps and ledger differ by more than two seconds, in words. */
export function differences(edge: Pick<Edge, 'lab' | 'stateDir'>): string[] {
  const held = heldIn(edge.lab.pinDir);
  const wanted = wantedIn(edge.stateDir);
  return [...new Set([...held.keys(), ...wanted.keys()])].flatMap((name) => {
    const [a, b] = [held.get(name), wanted.get(name)];
    if (
      a !== undefined &&
      b !== undefined &&
      near(a.dropSeconds, b.dropSeconds) &&
      near(a.countSeconds, b.countSeconds)
    )
      return [];
    return [`${name}: the maps hold ${JSON.stringify(a)}, the ledger wants ${JSON.stringify(b)}`];
  });
}
