import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatDuration, longestSeconds, parseDuration } from '../../src/time/duration.ts';

describe('parseDuration', () => {
  test.each([
    ['1s', 1],
    ['90s', 90],
    ['5m', 300],
    ['1h', 3600],
    ['2d', 172_800],
    ['1w', 604_800],
    ['007s', 7],
    ['315360000s', longestSeconds],
  ])('%s is %i seconds', (text, seconds) => {
    expect(parseDuration(text)).toBe(seconds);
  });

  test.each([
    '',
    '1',
    'h',
    '1 h',
    ' 1h',
    '1h ',
    '1h\n',
    '1H',
    '1.5h',
    '-1h',
    '+1h',
    '1e3s',
    '0x1s',
    '1h30m',
    '1y',
    '٣h',
    'NaNs',
  ])('%j is no duration', (text) => {
    expect(() => parseDuration(text)).toThrow(expect.objectContaining({ code: 'duration_invalid' }));
  });

  test.each(['315360001s', '3651d', '9999999999w', '522w'])('%s is too long', (text) => {
    expect(() => parseDuration(text)).toThrow(/ten years/);
  });

  test('nothing is a duration only where it is asked for', () => {
    expect(() => parseDuration('0s')).toThrow(/longer than nothing/);
    expect(() => parseDuration('0')).toThrow(expect.objectContaining({ code: 'duration_invalid' }));
    expect(parseDuration('0', { zero: true })).toBe(0);
    expect(parseDuration('0h', { zero: true })).toBe(0);
    expect(() => parseDuration('1', { zero: true })).toThrow(expect.objectContaining({ code: 'duration_invalid' }));
  });
});

describe('formatDuration', () => {
  test.each([
    [0, '0s'],
    [-5, '0s'],
    [0.9, '0s'],
    [59, '59s'],
    [60, '1m'],
    [61, '1m 1s'],
    [3600, '1h'],
    [3601, '1h'],
    [3599, '59m 59s'],
    [90_061, '1d 1h'],
    [86_400 * 6 + 3600 * 23, '6d 23h'],
    [604_800, '1w'],
    [694_861, '1w 1d'],
  ])('%d is %s', (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });

  test('is never more than the duration, and lacks less than its second unit', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: longestSeconds }), (seconds) => {
        const parts = formatDuration(seconds).split(' ');
        const total = parts.map((part) => parseDuration(part)).reduce((sum, part) => sum + part, 0);
        expect(parts.length).toBeLessThanOrEqual(2);
        expect(total).toBeLessThanOrEqual(seconds);
        expect(seconds - total).toBeLessThan(seconds >= 604_800 ? 86_400 : seconds >= 86_400 ? 3600 : 60);
      }),
    );
  });
});
