/**
 * What a process without capabilities does with the maps; blocklist.kernel.test.ts starts it as root.
 * Loads everything first (the tree may lie where the user can not read), then becomes that user, then prints the outcome of
 * each attempt as one JSON object.
 *
 * Arguments: PIN_DIR, uid, gid, an interface.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parsePrefix } from '../../src/address/prefix.ts';
import { Blocklist } from '../../src/blocklist/blocklist.ts';
import { FalcodropError } from '../../src/errors.ts';
import { attach, attachments, detach, u32 } from '../../src/kernel/attach.ts';
import { readCounters } from '../../src/kernel/counters.ts';
import { encodeSettings, FALCODROP_FORMAT } from '../../src/kernel/layout.ts';
import { isNativeError, native } from '../../src/kernel/native.ts';
import { objectBytes } from '../../src/kernel/object.ts';
import { byTest } from './cause.ts';

const [pinDir = '', uid = '', gid = '', interfaceName = ''] = process.argv.slice(2);
native();
objectBytes();
process.setgroups?.([]);
process.setgid?.(Number(gid));
process.setuid?.(Number(uid));

const capabilities = /^CapEff:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
const outcomes: Record<string, unknown> = { capabilities, uid: process.geteuid?.() };

async function attempt(name: string, work: () => unknown): Promise<void> {
  try {
    outcomes[name] = (await work()) ?? null;
  } catch (error) {
    if (error instanceof FalcodropError) outcomes[name] = { code: error.code, message: error.message };
    else if (isNativeError(error)) outcomes[name] = { errno: error.code, operation: error.operation };
    else throw error;
  }
}

const address = parsePrefix('198.51.100.66');
const prefix = parsePrefix('2001:db8::/32');
const wish = (target: typeof address, seconds: number) =>
  ({ target, owner: 'policy:test', mode: 'enforce', seconds, cause: byTest }) as const;

let list: Blocklist | undefined;
await attempt('open', () => {
  list = Blocklist.open(pinDir);
});
if (list !== undefined) {
  const open = list;
  for (const [name, target] of [
    ['address', address],
    ['prefix', prefix],
  ] as const) {
    await attempt(`block ${name}`, async () => (await open.block(wish(target, 100))).status);
    await attempt(`extend ${name}`, async () => (await open.block(wish(target, 200))).status);
    await attempt(`replace ${name}`, async () => (await open.block(wish(target, 50), { replace: true })).status);
  }
  await attempt('at once', async () => {
    const status = open.blockAtOnce(wish(parsePrefix('198.51.100.67'), 100));
    await open.settle();
    return status;
  });
  await attempt('list', () => [...open.entries()].length);
  await attempt('covering', () => open.covering(parsePrefix('2001:db8::1')).length);
  await attempt('unblock address', async () => (await open.unblock(address, { cause: byTest })).before !== null);
  await attempt('unblock prefix', async () => (await open.unblock(prefix, { cause: byTest })).before !== null);
  await attempt('reap', () => open.reap());
  await attempt('counters', () => Object.keys(readCounters(open.set, 0)).length);
  await attempt('attachments', () => attachments(pinDir).length);
}
await attempt('attach', () =>
  attach(pinDir, [interfaceName], { mode: 'auto', sizes: {}, service: { uid: 0, gid: 0 } }),
);
await attempt('detach', () => detach(pinDir, null, { purge: false }));
await attempt('settings', () =>
  native()
    .openMap(join(pinDir, 'current/settings'))
    .update(
      u32(0),
      encodeSettings({ format: FALCODROP_FORMAT, mode: 2, deadline: 0n, modeAfter: 0, sampling: 0, neverDrop: [] }),
    ),
);
await attempt('settings, opened to read', () =>
  native()
    .openMap(join(pinDir, 'current/settings'), { readOnly: true })
    .update(
      u32(0),
      encodeSettings({ format: FALCODROP_FORMAT, mode: 2, deadline: 0n, modeAfter: 0, sampling: 0, neverDrop: [] }),
    ),
);
await attempt('allow', () => native().openMap(join(pinDir, 'current/allowed_cidr_v4')).info.id);
await attempt('link', () => native().openLink(join(pinDir, 'links', process.argv[6] ?? '')).info.id);
process.stdout.write(JSON.stringify(outcomes));
