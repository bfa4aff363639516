/** What the ledger's tests share: a state directory, a clock that is set by hand, causes. */
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type Prefix, parsePrefix } from '../../../src/address/prefix.ts';
import type { Owner } from '../../../src/blocklist/claims.ts';
import type { Reading } from '../../../src/blocklist/ledger/clock.ts';
import { Ledger, type LedgerOptions } from '../../../src/blocklist/ledger/ledger.ts';
import type { AlertCause, HandCause, SetCause, WishEvent } from '../../../src/blocklist/ledger/record.ts';

export const self = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };

export const noon = Date.UTC(2026, 10, 7, 12);
export const second = 1_000;
export const hour = 3_600_000;
export const year = 365 * 24 * hour;

/** Removed when the test ends. The state directory in it is not made yet. */
export function freshStateDir(): string {
  const dir = mkdtempSync(join(realpathSync(tmpdir()), `fd${process.pid}-ledger-`));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 'state');
}

export class Clocks {
  bootId = 'boot-1';
  boottimeMs = 100_000;
  wallMs = noon;
  readonly read = (): Reading => ({ bootId: this.bootId, boottimeMs: this.boottimeMs, wallMs: this.wallMs });

  pass(ms: number): void {
    this.boottimeMs += ms;
    this.wallMs += ms;
  }

  reboot(wallMs: number): void {
    this.bootId += '+';
    this.boottimeMs = 5_000;
    this.wallMs = wallMs;
  }
}

/** Closed when the test ends. */
export function openLedger(stateDir: string, options: Partial<LedgerOptions> = {}): Ledger {
  const ledger = Ledger.open(stateDir, { service: self, ...options });
  onTestFinished(() => ledger.close());
  return ledger;
}

export const at = (text: string): Prefix => parsePrefix(text);

export const byHand: HandCause = {
  kind: 'hand',
  hand: { verb: 'block', loginUid: 1000, uid: 0, sudoUser: 'ann', tty: 'pts/3', sshClient: '198.51.100.9' },
  reason: 'scans us',
};

export function byAlert(rule = 'Inbound SSH Connection'): AlertCause {
  return {
    kind: 'alert',
    id: '5b1e3a52-6c2f-4c0e-a2f8-0d8f3d1c9b11',
    rule,
    priority: 'Warning',
    hostname: 'edge-1',
    timeMs: noon,
    policy: 'ssh',
    policyHash: 'c0ffee',
    alert: '{"rule":"…"}',
  };
}

export const byFile: SetCause = { kind: 'import', name: 'list.txt', hand: byHand.hand, reason: null };

export function wish(target: string, owner: Owner, dropEnd: number, rest: Partial<WishEvent> = {}): WishEvent {
  return { kind: 'wish', target: at(target), owner, dropEnd, countEnd: 0, cause: byHand, ...rest };
}
