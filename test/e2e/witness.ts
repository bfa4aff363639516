/**
 * Who knows what was acknowledged, kills, and looks: whatever a command or the daemon was doing when SIGKILL came, what was
 * acknowledged before goes on to drop, what was unblocked does not come back, maps and ledger can be made equal again, and the
 * same command can be repeated.
 *
 * One host and one set of maps for all cases of a file. The model is what was acknowledged so far; it is compared with the
 * packets' verdicts and with the maps after every crash, after the reconcile that follows, and after reboots.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type FaultName, faults } from '../../src/fault.ts';
import { differences, dropped, type Edge, type EdgeOptions, heldIn, openEdge, type Ways, wantedIn } from './edge.ts';
import type { Step } from './fixtures/automatic.ts';

export interface Wanted {
  /** Seconds from `at` on; null = for ever. Between the two: a crash came between acknowledgements. */
  readonly least: number | null;
  readonly most: number | null;
  readonly mode: 'enforce' | 'monitor';
  readonly at: number;
}

/** Where to die, and at which of the times that it is reached: `name` or `name@2`. */
export type Fault = FaultName | `${FaultName}@${number}`;

export interface Witness {
  readonly edge: Edge;
  /** What was acknowledged: held, or (null) gone for good. What a crash left open is in neither. */
  readonly model: Map<string, Wanted | null>;
  /** Blocks them, exit 0. */
  acknowledge(targets: string | readonly string[], seconds: number | null): void;
  /** They are held for that long from now on, or for something between the two. */
  expects(targets: string | readonly string[], least: number | null, most?: number | null): void;
  /** Nobody knows about them, or they are gone for good. */
  forget(...targets: readonly string[]): void;
  gone(...targets: readonly string[]): void;
  /** The run must die by SIGKILL at that point. */
  die(fault: Fault, args: readonly string[], ways?: Ways): void;
  /** What the daemon does to the block list, on its own book; with a fault it must die there. */
  automatic(steps: readonly Step[], fault?: Fault): void;
  check(when: string): void;
  /** After a crash: first as it is, then made equal by `reconcile`. */
  recover(): void;
  /** Addresses, and /24s, that no other case uses. */
  fresh(): string;
  freshPrefix(): string;
  /** A file of one target a line. */
  listed(name: string, targets: readonly string[]): string;
  /** Points of these families ("block" of "block.begun") where nothing has died yet. */
  missing(families: readonly string[]): string[];
  /** For one that was killed in another way. */
  reached(name: FaultName): void;
}

const automaticScript = join(import.meta.dirname, 'fixtures/automatic.ts');

const many = (targets: string | readonly string[]): readonly string[] =>
  typeof targets === 'string' ? [targets] : targets;

/** With bystanders: of both families, a prefix, a watched one, a feed's, a forced one, one for ever. */
export function openWitness(options: EdgeOptions = {}): Witness {
  const edge = openEdge(options);
  const model = new Map<string, Wanted | null>();
  const died = new Set<string>();
  let next = 10;

  const witness: Witness = {
    edge,
    model,
    acknowledge(targets, seconds) {
      edge.must(['block', ...many(targets), ...(seconds === null ? ['--forever'] : ['--for', `${seconds}s`])]);
      witness.expects(targets, seconds);
    },
    expects(targets, least, most = least) {
      for (const target of many(targets)) model.set(target, { least, most, mode: 'enforce', at: performance.now() });
    },
    forget(...targets) {
      for (const target of targets) model.delete(target);
    },
    gone(...targets) {
      for (const target of targets) model.set(target, null);
    },
    die(fault, args, ways = {}) {
      const done = edge.run(args, { ...ways, fault });
      expect({ fault, status: done.status, stderr: done.stderr }).toMatchObject({ status: null });
      died.add(fault.replace(/@\d+$/, ''));
    },
    automatic(steps, fault) {
      const argv = [process.execPath, automaticScript];
      const request = JSON.stringify({ pinDir: edge.lab.pinDir, stateDir: edge.stateDir, steps });
      if (fault === undefined) edge.must([request], { argv });
      else witness.die(fault, [request], { argv });
    },
    check: (when) => expect(wrongs(edge, model), when).toEqual([]),
    recover() {
      witness.check('after the crash');
      edge.must(['reconcile']);
      witness.check('after the reconcile');
      expect(differences(edge)).toEqual([]);
    },
    fresh: () => `203.0.113.${next++}`,
    freshPrefix: () => `198.18.${next++}.0/24`,
    listed(name, targets) {
      const file = join(edge.lab.directory, name);
      writeFileSync(file, `${targets.join('\n')}\n`);
      return file;
    },
    missing: (families) =>
      Object.keys(faults).filter((name) => families.includes(name.split('.')[0] ?? '') && !died.has(name)),
    reached: (name) => {
      died.add(name);
    },
  };

  edge.attach();
  witness.acknowledge(['203.0.113.1', '2001:db8:f::1', '2001:db8:ffff::/48'], 7200);
  witness.acknowledge('192.0.2.128/25', null);
  edge.must(['block', '203.0.113.2', '--monitor', '--for', '2h']);
  model.set('203.0.113.2', { least: 7200, most: 7200, mode: 'monitor', at: performance.now() });
  edge.must(['block', '10.1.2.3', '--force', '--for', '2h']);
  witness.expects('10.1.2.3', 7200);
  const feed = ['203.0.113.3', '192.0.2.0/26'];
  edge.must(['import', witness.listed('feed', feed), '--feed', 'first', '--for', '2h']);
  witness.expects(feed, 7200);
  return witness;
}

/** An address that stands for a target in a packet. */
function sourceOf(target: string): string {
  if (!target.includes('/')) return target;
  const [address = ''] = target.split('/');
  return address.endsWith('::') ? `${address}9` : address.replace(/\d+$/, (n) => `${+n + 9}`);
}

/** Ends that cases tell apart lie half an hour apart; a busy machine takes its time between a command and the look at its end. */
const apartSeconds = 120;

/** What is not as the model says, in words: in the maps, in the ledger, on the wire. */
function wrongs({ lab, stateDir }: Edge, model: Witness['model']): string[] {
  const held = heldIn(lab.pinDir);
  const written = wantedIn(stateDir);
  const wrong: string[] = [];
  for (const [target, wanted] of model) {
    const is = held.get(target);
    if (wanted === null) {
      if (is !== undefined) wrong.push(`${target} came back`);
      continue;
    }
    // What was acknowledged is in the ledger too, before a reconcile could adopt it: with whose it is, and why.
    if (!written.has(target)) wrong.push(`${target} is not in the ledger`);
    const seconds = is === undefined ? 0 : wanted.mode === 'enforce' ? is.dropSeconds : is.countSeconds;
    const passed = (performance.now() - wanted.at) / 1000;
    const left = (of: number | null) => (of === null ? Number.POSITIVE_INFINITY : of - passed);
    const at = seconds ?? Number.POSITIVE_INFINITY;
    if (at < left(wanted.least) - apartSeconds)
      wrong.push(`${target} is held for ${seconds} s, ${left(wanted.least)} were promised`);
    if (at > left(wanted.most) + apartSeconds)
      wrong.push(`${target} is held for ${seconds} s, at most ${left(wanted.most)} were wished`);
  }
  const dropping = [...model].filter(([, wanted]) => wanted?.mode === 'enforce').map(([target]) => sourceOf(target));
  const passing = [...model].filter(([, wanted]) => wanted?.mode !== 'enforce').map(([target]) => sourceOf(target));
  const drops = dropped(lab.pinDir, [...dropping, ...passing]);
  for (const source of dropping) if (!drops.has(source)) wrong.push(`a packet from ${source} passes`);
  for (const source of passing) if (drops.has(source)) wrong.push(`a packet from ${source} is dropped`);
  return wrong.length > 20 ? [...wrong.slice(0, 20), `and ${wrong.length - 20} more`] : wrong;
}
