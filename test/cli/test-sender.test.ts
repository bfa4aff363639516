import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Call } from '../../src/cli/call.ts';
import { prepareSender, type Sender } from '../../src/cli/test-sender.ts';
import type { Config } from '../../src/config/config.ts';
import type { SourceReport } from '../../src/daemon/sources.ts';

let directory = '';
let log = '';
let sender: Sender;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), `fd${process.pid}-`));
  log = join(directory, 'alerts.jsonl');
});
afterEach(() => {
  sender.close();
  rmSync(directory, { recursive: true });
});

function open(): Sender {
  const config = {
    http: { enabled: false, socket: null },
    lines: { files: [{ path: log, follow: true }] },
    journal: { enabled: false },
  };
  sender = prepareSender({} as Call, config as unknown as Config, `file:${log}`);
  return sender;
}

const report = {} as SourceReport;

test('Falco in the middle of a line is waited for', async () => {
  writeFileSync(log, '{"rule":"a"}\n{"rule":');
  const sent = open().send('{"rule":"test"}', report);
  appendFileSync(log, '"b"}\n');
  await sent;
  expect(readFileSync(log, 'utf8')).toBe('{"rule":"a"}\n{"rule":"b"}\n{"rule":"test"}\n');
});

test('but not for ever: half a line that somebody left is no line', async () => {
  writeFileSync(log, '{"rule":');
  await open().send('{"rule":"test"}', report);
  expect(readFileSync(log, 'utf8')).toBe('{"rule":\n{"rule":"test"}\n');
});
