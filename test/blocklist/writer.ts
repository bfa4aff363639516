/**
 * One of several processes that write the maps at random until they are killed; blocklist.kernel.test.ts starts it.
 * Prints a line before each operation and one after it was acknowledged; standard output is a file, written at once.
 *
 * Arguments: PIN_DIR, hand|automatic|reaper, the number of the first of its own sixteen addresses.
 */
import { writeSync } from 'node:fs';
import type { Address } from '../../src/address/address.ts';
import { formatPrefix, hostPrefix, type Prefix } from '../../src/address/prefix.ts';
import { Blocklist } from '../../src/blocklist/blocklist.ts';
import { byTest } from './cause.ts';

const [pinDir = '', kind = '', first = '0'] = process.argv.slice(2);
const list = Blocklist.open(pinDir);
const own = 16;

function target(index: number): Prefix {
  const number = Number(first) + index;
  const address: Address = { family: 4, bytes: Uint8Array.of(10, 99, number >> 8, number & 0xff) };
  return hostPrefix(address);
}

const say = (state: 'try' | 'ack', what: 'blocked' | 'absent', at: Prefix): void => {
  writeSync(1, `${state} ${what} ${formatPrefix(at)}\n`);
};

const pick = (count: number): number => Math.floor(Math.random() * count);
const wish = (at: Prefix, seconds: number, owner: 'hand' | `policy:${string}`) =>
  ({ target: at, owner, mode: 'enforce', seconds, cause: byTest }) as const;

async function hand(): Promise<void> {
  const at = target(pick(own));
  if (pick(3) > 0) {
    say('try', 'blocked', at);
    await list.block(wish(at, 3600 + pick(3600), 'hand'), { replace: pick(4) === 0 });
    say('ack', 'blocked', at);
  } else {
    say('try', 'absent', at);
    await list.unblock(at, { cause: byTest });
    say('ack', 'absent', at);
  }
}

/** An entry that ends at once is there for the reaper, who may hold it for ended while it is blocked again. */
async function automatic(): Promise<void> {
  const at = target(pick(own));
  await list.unblock(at, { cause: byTest });
  say('try', 'absent', at);
  await list.block(wish(at, 0.0005, 'hand'));
  await new Promise((resolve) => setTimeout(resolve, pick(3)));
  say('try', 'blocked', at);
  list.blockAtOnce(wish(at, 3600, 'policy:test'));
  await list.settle();
  say('ack', 'blocked', at);
}

async function reaper(): Promise<void> {
  await list.reap();
}

const turn = { hand, automatic, reaper }[kind];
if (turn === undefined) throw new Error(`what is ${kind}?`);
for (;;) {
  await turn();
  await new Promise((resolve) => setImmediate(resolve));
}
