import { join } from 'node:path';
import { expect, test } from 'vitest';
import { withLab } from '../../kernel/lab.ts';

const script = join(import.meta.dirname, 'network.ts');

test('by another address than loopback alerts are the network’s, also to a listener that hears both', () =>
  withLab(async (lab) => {
    const host = lab.namespace('h');
    lab.exec(host, 'ip', 'link', 'set', 'lo', 'up');
    for (const address of ['198.51.100.9/32', '2001:db8::9/128']) {
      lab.exec(host, 'ip', 'address', 'add', address, 'dev', 'lo', 'nodad');
    }
    const run = (...addresses: string[]): unknown =>
      JSON.parse(lab.exec(host, process.execPath, script, ...addresses)) as unknown;
    expect(run('198.51.100.9', '198.51.100.9')).toEqual({ statuses: ['202', '403'], origins: ['network'] });
    expect(run('0.0.0.0', '127.0.0.1', '198.51.100.9')).toEqual({
      statuses: ['202', '403', '202', '403'],
      origins: ['local', 'network'],
    });
    expect(run('::', '127.0.0.1', '[::1]', '198.51.100.9', '[2001:db8::9]')).toEqual({
      statuses: Array.from({ length: 4 }, () => ['202', '403']).flat(),
      origins: ['local', 'local', 'network', 'network'],
    });
  }));
