import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { mode as codes, FALCODROP_FORMAT, type Settings } from '../../src/kernel/layout.ts';
import { confirmedMode, type Mode, type ModeWish, modeNow, wentBack, withMode } from '../../src/kernel/mode.ts';

const now = 1_000_000_000_000n;
const code = { enforce: codes.MODE_ENFORCE, monitor: codes.MODE_MONITOR, off: codes.MODE_OFF } as const;

/** `[mode]`, or `[mode, seconds until, mode after]`. */
type Told = readonly [Mode] | readonly [Mode, number, Mode];

function settingsOf([mode, seconds, after]: Told): Settings {
  return {
    format: FALCODROP_FORMAT,
    mode: code[mode],
    deadline: seconds === undefined ? 0n : now + BigInt(seconds) * 1_000_000_000n,
    modeAfter: code[after ?? mode],
    sampling: 1,
    neverDrop: [{ protocol: 6, number: 22 }],
  };
}

function told(settings: Settings, at = now): Told {
  const { mode, seconds, after } = modeNow(settings, at);
  return seconds === null || after === null ? [mode] : [mode, seconds, after];
}

const wish = (mode: Mode, revertAfter: number | null = null, revertTo?: Mode): ModeWish => ({
  mode,
  revertAfter,
  ...(revertTo === undefined ? {} : { revertTo }),
});

describe('a wish', () => {
  test.each<[Told, ModeWish, Told]>([
    [['enforce'], wish('off'), ['off']],
    [['off'], wish('enforce'), ['enforce']],
    [['enforce'], wish('enforce'), ['enforce']],
    // goes back to what held
    [['enforce'], wish('off', 60), ['off', 60, 'enforce']],
    [['off'], wish('enforce', 60), ['enforce', 60, 'off']],
    [['monitor'], wish('enforce', 60), ['enforce', 60, 'monitor']],
    // to the same: nothing is to be confirmed
    [['enforce'], wish('enforce', 60), ['enforce']],
    [['off'], wish('off', 60), ['off']],
    // attach's goes to off
    [['enforce'], wish('enforce', 60, 'off'), ['enforce', 60, 'off']],
    [['off'], wish('off', 60, 'off'), ['off']],
    // what is pending is not lost by another wish
    [['enforce', 30, 'off'], wish('monitor'), ['monitor', 30, 'off']],
    [['enforce', 30, 'off'], wish('enforce'), ['enforce', 30, 'off']],
    [['off', 30, 'enforce'], wish('monitor'), ['monitor', 30, 'enforce']],
    // and goes back to the last that was confirmed
    [['enforce', 30, 'off'], wish('monitor', 60), ['monitor', 60, 'off']],
    [['enforce', 30, 'off'], wish('enforce', 60), ['enforce', 60, 'off']],
    // the panic switch stays off
    [['enforce', 30, 'off'], wish('off'), ['off']],
    [['off', 30, 'enforce'], wish('off'), ['off']],
    [['monitor', 30, 'enforce'], wish('off'), ['off']],
    // nothing is left to go back to
    [['monitor', 30, 'enforce'], wish('enforce'), ['enforce']],
    [['enforce', 30, 'off'], wish('off', 60), ['off']],
    // what went back is over
    [['enforce', -1, 'off'], wish('monitor'), ['monitor']],
    [['enforce', -1, 'off'], wish('monitor', 60), ['monitor', 60, 'off']],
    [['enforce', 0, 'off'], wish('enforce'), ['enforce']],
  ])('%j and %j: %j', (before, asked, after) => {
    const result = withMode(settingsOf(before), asked, now);
    expect(told(result)).toEqual(after);
    expect(result).toMatchObject({ format: FALCODROP_FORMAT, sampling: 1, neverDrop: [{ protocol: 6, number: 22 }] });
  });

  const modes = fc.constantFrom<Mode>('enforce', 'monitor', 'off');
  const states = fc
    .tuple(modes, fc.option(fc.integer({ min: -50, max: 50 })), modes)
    .map(([mode, seconds, after]) => settingsOf(seconds === null ? [mode] : [mode, seconds, after]));
  const wishes = fc.record({ mode: modes, revertAfter: fc.option(fc.integer({ min: 1, max: 100 })) });

  test('holds from now on, whatever was; repeated it changes nothing but the time', () => {
    fc.assert(
      fc.property(states, wishes, (before, asked) => {
        const after = withMode(before, asked, now);
        expect(modeNow(after, now).mode).toBe(asked.mode);
        expect(told(withMode(after, asked, now))).toEqual(told(after));
        if (asked.revertAfter === null) expect(withMode(after, asked, now)).toBe(after);
      }),
    );
  });

  test('without confirmation it ends where it would have ended, but for the panic switch', () => {
    const later = now + 1_000_000_000_000n;
    fc.assert(
      fc.property(states, wishes, (before, asked) => {
        const last = modeNow(before, now);
        const end = modeNow(withMode(before, asked, now), later).mode;
        if (asked.revertAfter !== null) expect(end).toBe(last.after ?? last.mode);
        else if (asked.mode === 'off' || last.after === null) expect(end).toBe(asked.mode);
        else expect(end).toBe(last.after);
      }),
    );
  });

  test('the panic switch stays off for ever', () => {
    fc.assert(
      fc.property(states, fc.bigInt({ min: now, max: 1n << 62n }), (before, at) => {
        expect(told(withMode(before, wish('off'), now), at)).toEqual(['off']);
      }),
    );
  });
});

describe('a confirmation', () => {
  test.each<[Told, Told]>([
    [['enforce', 30, 'off'], ['enforce']],
    [['off', 30, 'enforce'], ['off']],
    [['enforce'], ['enforce']],
    [['enforce', 0, 'off'], ['off']],
    [['enforce', -5, 'off'], ['off']],
  ])('%j: %j', (before, after) => {
    const settings = settingsOf(before);
    const result = confirmedMode(settings, now);
    expect(told(result)).toEqual(after);
    expect(wentBack(result, now) === null).toBe(before[1] === undefined || before[1] > 0);
    if ((before[1] ?? 0) <= 0) expect(result).toBe(settings);
  });

  test('too late: what it went from and to, and when', () => {
    expect(wentBack(settingsOf(['enforce', -5, 'off']), now)).toEqual({ from: 'enforce', to: 'off', secondsAgo: 5 });
    expect(wentBack(settingsOf(['enforce', 5, 'off']), now)).toBeNull();
  });
});
