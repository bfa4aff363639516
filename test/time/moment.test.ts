import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FalcodropError } from '../../src/errors.ts';
import { parseMoment } from '../../src/time/moment.ts';

const zoneBefore = process.env.TZ;
afterEach(() => {
  if (zoneBefore === undefined) delete process.env.TZ;
  else process.env.TZ = zoneBefore;
});

const iso = (ms: number): string => new Date(ms).toISOString();

describe('in Berlin, on 22 November 2026 at 13:30', () => {
  const now = Date.parse('2026-11-22T12:30:00Z');
  beforeEach(() => {
    process.env.TZ = 'Europe/Berlin';
  });

  test.each([
    ['2026-11-22T04:31:02Z', '2026-11-22T04:31:02.000Z'],
    ['2026-11-22t04:31:02.25z', '2026-11-22T04:31:02.250Z'],
    ['2026-11-22T04:31:02.123456789+05:30', '2026-11-21T23:01:02.123Z'],
    ['2026-11-22T04:31-03:00', '2026-11-22T07:31:00.000Z'],
    ['2026-11-22 14:00', '2026-11-22T13:00:00.000Z'],
    ['2026-07-01 14:00:05', '2026-07-01T12:00:05.000Z'],
    ['2026-11-20', '2026-11-19T23:00:00.000Z'],
    ['2024-02-29', '2024-02-28T23:00:00.000Z'],
    ['today', '2026-11-21T23:00:00.000Z'],
    ['today 14:00', '2026-11-22T13:00:00.000Z'],
    ['Yesterday 09:30', '2026-11-21T08:30:00.000Z'],
    ['yesterday', '2026-11-20T23:00:00.000Z'],
    ['13:00', '2026-11-22T12:00:00.000Z'],
    ['13:30', '2026-11-22T12:30:00.000Z'],
    // has not been today yet
    ['14:00', '2026-11-21T13:00:00.000Z'],
    ['15m', '2026-11-22T12:15:00.000Z'],
    ['2d', '2026-11-20T12:30:00.000Z'],
    ['0s', '2026-11-22T12:30:00.000Z'],
    ['now', '2026-11-22T12:30:00.000Z'],
  ])('%s', (text, moment) => {
    expect(iso(parseMoment(text, now))).toBe(moment);
  });

  test.each([
    '',
    'soon',
    '24:00',
    '9:30',
    'today 25:00',
    'tomorrow 10:00',
    '2026-02-30',
    '2026-13-01',
    '1969-12-31',
    '2026-11-22T10:00:60Z',
    '2026-11-22T10:00:00+24:00',
    '-5m',
    '5 m',
    '5y',
    '99999999999d',
    '11w22d',
    '1e9',
    '2026-11-22T10:00:00Z; rm',
  ])('%j is none', (text) => {
    expect(() => parseMoment(text, now)).toThrow(
      expect.objectContaining({ code: 'time_invalid', hint: expect.stringContaining('today 14:00') as string }),
    );
  });

  test('yesterday is a day of 25 hours when the clocks went back', () => {
    const afterwards = Date.parse('2026-10-26T11:00:00Z');
    expect(iso(parseMoment('yesterday 12:00', afterwards))).toBe('2026-10-25T11:00:00.000Z');
    expect(iso(parseMoment('yesterday', afterwards))).toBe('2026-10-24T22:00:00.000Z');
  });
});

test('the zone is that of the environment', () => {
  const now = Date.parse('2026-11-22T12:30:00Z');
  process.env.TZ = 'UTC';
  expect(iso(parseMoment('today 14:00', now))).toBe('2026-11-22T14:00:00.000Z');
  process.env.TZ = 'Asia/Kolkata';
  expect(iso(parseMoment('today 14:00', now))).toBe('2026-11-22T08:30:00.000Z');
});

test('what is printed is read back', () => {
  fc.assert(
    fc.property(fc.date({ min: new Date(0), max: new Date('9999-12-31'), noInvalidDate: true }), (date) => {
      expect(parseMoment(date.toISOString(), 0)).toBe(date.getTime());
    }),
  );
});

test('any text is a moment or a clear error', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9TZ:. +a-z-]{0,30}$/)), (text) => {
      try {
        expect(Number.isFinite(parseMoment(text, 1e12))).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(FalcodropError);
        expect((error as FalcodropError).code).toBe('time_invalid');
      }
    }),
  );
});
