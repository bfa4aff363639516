import { describe, expect, test } from 'vitest';
import { formatPrefix, parsePrefix } from '../../src/address/prefix.ts';
import type { Entry } from '../../src/blocklist/entry.ts';
import { decide, type Sight } from '../../src/cli/show.ts';

const entry = (target: string, state: Entry['state'] = 'enforce'): Entry => ({
  target: parsePrefix(target),
  state,
  dropSeconds: state === 'enforce' ? 60 : 0,
  countSeconds: state === 'monitor' ? 60 : 0,
  owners: ['hand'],
  scope: 0,
  packets: 0,
  bytes: 0,
  lastSeenSecondsAgo: null,
});

const sight: Sight = {
  target: parsePrefix('203.0.113.66'),
  entries: [],
  allows: [],
  mode: { mode: 'enforce', seconds: null, after: null },
  attached: [{ ifindex: 2, name: 'eth0', mode: 'native', slot: 0, programId: 1 }],
  looksAtPrefixes: true,
  limits: new Map(),
  inside: 0,
};

const host = entry('203.0.113.66');
const wide = entry('203.0.113.0/24');
const allows = [{ prefix: parsePrefix('203.0.113.64/28'), seconds: null }];

describe('what the XDP program would do', () => {
  test.each<[string, Partial<Sight>, string, string | null]>([
    ['nothing there', {}, 'not_blocked', null],
    ['an entry of its own', { entries: [host, wide] }, 'dropped', '203.0.113.66'],
    ['a wider one', { entries: [wide] }, 'dropped', '203.0.113.0/24'],
    ['watched under a block', { entries: [entry('203.0.113.66', 'monitor'), wide] }, 'dropped', '203.0.113.0/24'],
    ['watched alone', { entries: [entry('203.0.113.66', 'monitor')] }, 'counted', '203.0.113.66'],
    ['allowed', { entries: [wide], allows }, 'allowed', '203.0.113.0/24'],
    ['allowed, never blocked', { allows }, 'not_blocked', null],
    [
      'mode monitor',
      { entries: [host], mode: { mode: 'monitor', seconds: 5, after: 'enforce' } },
      'counted',
      '203.0.113.66',
    ],
    ['mode off', { entries: [host], mode: { mode: 'off', seconds: null, after: null }, allows }, 'off', '203.0.113.66'],
    ['nothing attached', { entries: [host], attached: [] }, 'not_attached', '203.0.113.66'],
    ['a prefix that nobody hinted at', { entries: [wide], looksAtPrefixes: false }, 'not_blocked', null],
    ['an address beside it', { entries: [host, wide], looksAtPrefixes: false }, 'dropped', '203.0.113.66'],
  ])('%s', (_, more, verdict, by) => {
    const decision = decide({ ...sight, ...more });
    expect(decision.verdict).toBe(verdict);
    expect(decision.by === null ? null : formatPrefix(decision.by.target)).toBe(by);
  });
});
