import { describe, expect, test } from 'vitest';
import { formatPrefix, parsePrefix } from '../../src/address/prefix.ts';
import { prefixSet } from '../../src/address/set.ts';
import { silenceOf } from '../../src/cli/sources.ts';
import { freeTarget } from '../../src/cli/test-alert.ts';

describe('a target for a test', () => {
  test('is of RFC 5737, of the last network first, and no first or last address', () => {
    const seen = new Set(Array.from({ length: 200 }, () => formatPrefix(freeTarget(() => true))));
    expect(seen.size).toBeGreaterThan(50);
    expect([...seen].filter((target) => !/^203\.0\.113\.([1-9]|[1-9]\d|1\d\d|2[0-4]\d|25[0-4])$/.test(target))).toEqual(
      [],
    );
  });

  test('the one that is free is found', () => {
    const only = '192.0.2.254';
    expect(formatPrefix(freeTarget((target) => formatPrefix(target) === only))).toBe(only);
  });

  test('none is said, and nothing is sent', () => {
    const taken = prefixSet(['192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24'].map(parsePrefix));
    expect(() => freeTarget(({ address }) => taken.covering(address) === null)).toThrowError(
      expect.objectContaining({ code: 'test_not_sent', hint: expect.stringContaining('falcodrop list') as string }),
    );
  });
});

test('a silence in words; hostile names are harmless', () => {
  const silent = { name: 'file:/a\u001b[2J', isSilent: true, silentMs: 3 * 3_600_000, usualSilenceMs: 1_200_000 };
  expect(silenceOf(silent)).toBe('file:/a\\u001b[2J is silent for 3h, and was not for longer than 20m lately');
  expect(silenceOf({ ...silent, isSilent: false })).toBeNull();
});
