/** A lab whose maps are pinned, attached to a veth of its own so that what is blocked would be dropped. */

import { afterAll, beforeAll } from 'vitest';
import { type Prefix, parsePrefix } from '../../src/address/prefix.ts';
import { Blocklist, type Owner, type Wish } from '../../src/blocklist/blocklist.ts';
import { attach, type Service } from '../../src/kernel/attach.ts';
import type { Sizes } from '../../src/kernel/object.ts';
import { type Lab, type LabOptions, openLab, withLab } from '../kernel/lab.ts';
import { byTest } from './cause.ts';

export interface Pinned {
  readonly lab: Lab;
  readonly list: Blocklist;
  /** Name of the interface that is attached. */
  readonly interfaceName: string;
}

export interface PinnedOptions {
  readonly sizes?: Partial<Sizes>;
  readonly service?: Service;
  readonly lab?: LabOptions;
}

async function pin(lab: Lab, { sizes, service }: PinnedOptions): Promise<Pinned> {
  const { a } = lab.veth({ name: 'p' }, { name: 'q' });
  await attach(lab.pinDir, [a], {
    mode: 'auto',
    sizes: sizes ?? { addresses: 1024, prefixes: 1024 },
    service: service ?? { uid: 0, gid: 0 },
  });
  return { lab, list: Blocklist.open(lab.pinDir), interfaceName: a };
}

/** A set of its own for one test. */
export function withPinned(work: (pinned: Pinned) => Promise<void> | void, options: PinnedOptions = {}): Promise<void> {
  return withLab(async (lab) => {
    const pinned = await pin(lab, options);
    try {
      await work(pinned);
    } finally {
      pinned.list.close();
    }
  }, options.lab);
}

/** One set for the tests of a describe block, each of which begins with empty maps: an attach takes some 150 ms. */
export function sharedPinned(
  options: PinnedOptions = {},
): (work: (pinned: Pinned) => Promise<void> | void) => Promise<void> {
  let lab: Lab | undefined;
  let pinned: Pinned | undefined;
  beforeAll(async () => {
    lab = openLab(options.lab);
    pinned = await pin(lab, options);
  });
  afterAll(async () => {
    pinned?.list.close();
    await lab?.close();
  });
  return async (work) => {
    if (pinned === undefined) throw new Error('the set was not made');
    for (const { target } of [...pinned.list.entries()]) await pinned.list.unblock(target, { cause: byTest });
    await work(pinned);
  };
}

export function wish(
  target: string | Prefix,
  seconds: number | null = 3600,
  { mode = 'enforce', owner = 'hand' }: { mode?: Wish['mode']; owner?: Owner } = {},
): Wish {
  return { target: typeof target === 'string' ? parsePrefix(target) : target, owner, mode, seconds, cause: byTest };
}

/** Another process holds the lock until the function that is resolved to is called. */
export async function holdLock(lab: Lab): Promise<() => Promise<void>> {
  const child = lab.spawn(null, ['flock', '-x', `${lab.pinDir}/lock`, 'sh', '-c', 'echo held; read line; exit 0'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout?.once('data', () => resolve());
    child.once('close', () => reject(new Error('the lock was not taken')));
  });
  return () =>
    new Promise((resolve) => {
      child.once('close', () => resolve());
      child.stdin?.end('\n');
    });
}
