/** Maps and ledger that differ, and an import that must not say "unchanged". */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { withPinned } from '../blocklist/pinned.ts';
import { falcodrop } from './falcodrop.ts';

test.each([
  ['--for', '1h'],
  ['--feed', 'x', '--replace'],
  ['--for', '1h', '--monitor'],
])('what the ledger holds and the maps do not is blocked anew: %s %s', (...options) =>
  withPinned(({ lab, list }) => {
    const environment = {
      FALCODROP_PIN_DIR: lab.pinDir,
      FALCODROP_STATE_DIR: join(lab.directory, 'state'),
      FALCODROP_CONFIG: join(lab.directory, 'falcodrop.yaml'),
    };
    writeFileSync(environment.FALCODROP_CONFIG, 'service: {user: root, group: root}\n');
    const targets = ['203.0.113.1', '203.0.113.128/25', '2001:db8::1'].map(parsePrefix);
    const file = join(lab.directory, 'list.txt');
    writeFileSync(file, '203.0.113.1\n203.0.113.128/25\n2001:db8::1\n');
    const run = () => {
      const { status, stdout, stderr } = falcodrop(['import', file, ...options], environment);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      return stdout.trim();
    };
    expect(run()).toBe('done: 3 blocked');
    expect(run()).toBe('unchanged: 3 unchanged');
    // As an unblock leaves it that could not write to a full disk.
    for (const target of targets.slice(0, 2)) list.set.remove(target);
    expect(run()).toBe('done: 2 blocked, 1 unchanged');
    for (const target of targets) expect(list.set.lookup(target)).not.toBeNull();
    expect(run()).toBe('unchanged: 3 unchanged');
  }),
);
