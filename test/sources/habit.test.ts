import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Habit,
  habitDays,
  habitFactor,
  isSilent,
  leastSilenceMs,
  listened,
  noHabit,
  readHabit,
  silentForMs,
  usualSilenceMs,
  writeHabit,
} from '../../src/sources/habit.ts';

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

/** An alert after each of these silences. */
const heard = (silences: readonly number[], habit: Habit = noHabit): Habit =>
  silences.reduce((before, ms) => listened(before, ms, true), habit);

const quiet = (habit: Habit, ms: number): Habit => listened(habit, ms, false);

/** Every ten minutes by day, nothing at night. */
const office = (days: number): number[] =>
  Array.from({ length: days }, () => [14 * hour, ...Array.from({ length: 60 }, () => 10 * minute)]).flat();

describe('a habit', () => {
  test('of a source that never spoke is none', () => {
    expect(silentForMs(quiet(noHabit, 100 * day))).toBeNull();
    expect(isSilent(quiet(noHabit, 100 * day))).toBe(false);
  });

  test('is not known before alerts came on three days', () => {
    const two = heard([hour, day]);
    expect(usualSilenceMs(two)).toBeNull();
    expect(isSilent(quiet(two, 20 * day))).toBe(false);
    expect(usualSilenceMs(heard([day], two))).toBe(day);
    // A million alerts of one day are no more than one day.
    expect(usualSilenceMs(heard(Array.from({ length: 2_000 }, () => 1)))).toBeNull();
  });

  test.each<[string, readonly number[], number, boolean]>([
    ['a busy source, an hour', Array.from({ length: 5 * 24 * 60 }, () => minute), hour, false],
    ['a busy source, an hour and a minute', Array.from({ length: 5 * 24 * 60 }, () => minute), hour + minute, true],
    ['a usual night', office(5), 14 * hour, false],
    ['a night and a day', office(5), 28 * hour, false],
    ['two nights and a day', office(5), 28 * hour + minute, true],
    ['a weekend that was never seen', office(5), 62 * hour, true],
    ['a weekend after one', [...office(5), 62 * hour, ...office(5)], 63 * hour, false],
  ])('%s', (_, silences, now, silent) => {
    expect(isSilent(quiet(heard(silences), now))).toBe(silent);
  });

  test('is forgotten after four weeks', () => {
    const habit = heard([...office(3), 3 * day]);
    expect(usualSilenceMs(habit)).toBe(3 * day);
    const later = heard(office(habitDays), habit);
    expect(usualSilenceMs(later)).toBe(14 * hour);
    // Its days pass while it is silent, too, and with them what could be said.
    expect(isSilent(quiet(later, 10 * day))).toBe(true);
    expect(isSilent(quiet(later, 60 * day))).toBe(false);
  });
});

const silences = fc.array(fc.oneof(fc.integer({ min: 0, max: 10 * minute }), fc.integer({ min: 0, max: 2 * day })), {
  maxLength: 200,
});

describe('for any past', () => {
  test('a silence no longer than one that was seen lately is no news, nor is one within the hour', () => {
    fc.assert(
      fc.property(silences, fc.double({ min: 0, max: 1, noNaN: true }), (past, share) => {
        const habit = heard(past);
        const usual = usualSilenceMs(habit) ?? Number.POSITIVE_INFINITY;
        // What is looked back at ends earlier the longer it lasts.
        fc.pre(usual < day);
        expect(isSilent(quiet(habit, share * Math.max(usual, leastSilenceMs)))).toBe(false);
      }),
    );
  });

  test('one of more than twice the longest is, where three of the days are still looked at', () => {
    fc.assert(
      fc.property(silences, (past) => {
        const habit = heard(past);
        const usual = usualSilenceMs(habit);
        if (usual === null) return;
        const later = quiet(habit, Math.max(leastSilenceMs, habitFactor * usual) + 1);
        expect(isSilent(later)).toBe((usualSilenceMs(later) ?? Number.POSITIVE_INFINITY) <= usual);
      }),
    );
  });

  test('an alert ends it; how it was told in pieces does not matter; it is small, and kept whole', () => {
    fc.assert(
      fc.property(silences, fc.integer({ min: 0, max: 5 * day }), fc.integer({ min: 1, max: 7 }), (past, ms, parts) => {
        const habit = heard(past);
        expect(isSilent(listened(habit, ms, true))).toBe(false);
        const piece = Math.floor(ms / parts);
        const inPieces = Array.from({ length: parts }, () => piece).reduce(quiet, habit);
        expect(quiet(inPieces, ms - parts * piece)).toEqual(quiet(habit, ms));
        expect(habit.days.length).toBeLessThanOrEqual(habitDays);
        expect(readHabit(JSON.parse(JSON.stringify(writeHabit(habit))))).toEqual(habit);
      }),
    );
  });

  test('what is kept and is none is not believed', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(readHabit(value)).toBeNull();
      }),
    );
    const good = {
      listened_ms: 5 * day,
      heard_at_ms: day,
      days: [
        [0, 5],
        [1, 7],
      ],
    };
    expect(readHabit(good)).not.toBeNull();
    for (const bad of [
      { ...good, listened_ms: -1 },
      { ...good, listened_ms: 1e300 },
      { ...good, heard_at_ms: 6 * day },
      { ...good, heard_at_ms: '1' },
      {
        ...good,
        days: [
          [1, 7],
          [0, 5],
        ],
      },
      { ...good, days: [[0, -5]] },
      { ...good, days: [[9, 5]] },
      { ...good, days: [[0, 5, 6]] },
      { ...good, days: Array.from({ length: 29 }, (_, n) => [n / 10, 1]) },
    ]) {
      expect(readHabit(bad)).toBeNull();
    }
  });

  test('time that goes backward is none', () => {
    expect(listened(noHabit, -5, true)).toEqual({ listenedMs: 0, heardAtMs: 0, days: [[0, 0]] });
  });
});
