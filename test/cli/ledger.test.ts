import { chownSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Call } from '../../src/cli/call.ts';
import { serviceOf } from '../../src/cli/ledger.ts';

test('where nothing is pinned a link to a file of root’s makes root of nobody', (context) => {
  if (process.geteuid?.() !== 0) context.skip('needs root: the directory is another user’s');
  const directory = mkdtempSync(join(tmpdir(), `fd${process.pid}-`));
  try {
    const service = { uid: 54_321, gid: 54_322 };
    const call = { environment: { FALCODROP_PIN_DIR: join(directory, 'no-pins') } } as unknown as Call;
    chownSync(directory, service.uid, service.gid);
    expect(serviceOf(call, directory)).toEqual(service);
    const roots = join(directory, 'roots');
    writeFileSync(roots, '');
    symlinkSync(roots, join(directory, 'ledger.db'));
    expect(serviceOf(call, directory)).toEqual(service);
    rmSync(join(directory, 'ledger.db'));
    writeFileSync(join(directory, 'ledger.db'), '');
    chownSync(join(directory, 'ledger.db'), service.uid, service.gid);
    expect(serviceOf(call, directory)).toEqual(service);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
