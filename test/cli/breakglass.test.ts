import { describe, expect, test } from 'vitest';
import { type Boot, breakGlass, withBoot } from '../../src/cli/breakglass.ts';

const minutes = (...at: number[]): Boot[] => at.map((minute, index) => ({ id: `boot-${index}`, at: minute * 60_000 }));

describe('breakGlass', () => {
  const cases: readonly (readonly [
    name: string,
    commandLine: string,
    hasOffFile: boolean,
    boots: readonly Boot[],
    mode: string,
    why: RegExp | null,
  ])[] = [
    ['nothing', 'ro quiet', false, minutes(0), 'enforce', null],
    ['no boots known', '', false, [], 'enforce', null],
    ['off on the command line', 'ro falcodrop=off quiet', false, minutes(0), 'off', /kernel .* falcodrop=off/],
    ['monitor on the command line', 'falcodrop=monitor', false, minutes(0), 'monitor', /falcodrop=monitor/],
    ['the last word holds', 'falcodrop=off falcodrop=monitor', false, [], 'monitor', /falcodrop=monitor/],
    ['the last word holds, the other way', 'falcodrop=monitor falcodrop=off', false, [], 'off', /falcodrop=off/],
    ['another word', 'falcodrop=on notfalcodrop=off falcodrop.off', false, [], 'enforce', null],
    ['a word that begins so', 'falcodrop=offline', false, [], 'enforce', null],
    ['the file', 'ro', true, minutes(0), 'off', /file OFF/],
    ['the file is more than monitor', 'falcodrop=monitor', true, minutes(0), 'off', /file OFF/],
    ['two boots', '', false, minutes(0, 1), 'enforce', null],
    ['three within 30 minutes', '', false, minutes(0, 10, 30), 'monitor', /three times within 30 minutes/],
    ['three within more', '', false, minutes(0, 10, 30.1), 'enforce', null],
    ['the latest three count', '', false, minutes(0, 100, 110, 120), 'monitor', /three times/],
    ['three once, and one long after', '', false, minutes(0, 1, 2, 100), 'enforce', null],
    ['a clock that went back', '', false, minutes(100, 101, 50), 'enforce', null],
    ['off is more than three boots', 'falcodrop=off', false, minutes(0, 1, 2), 'off', /falcodrop=off/],
  ];
  test.each(cases)('%s', (_, commandLine, hasOffFile, boots, mode, why) => {
    const glass = breakGlass({ commandLine, hasOffFile, boots });
    expect(glass.mode).toBe(mode);
    if (why === null) expect(glass.why).toBeNull();
    else expect(glass.why).toMatch(why);
  });
});

describe('withBoot', () => {
  test('a boot is counted once', () => {
    const boots = minutes(0, 5);
    expect(withBoot(boots, { id: 'boot-1', at: 9e9 })).toEqual(boots);
    expect(withBoot(boots, { id: 'new', at: 9e9 })).toEqual([...boots, { id: 'new', at: 9e9 }]);
  });

  test('ten are kept, the latest', () => {
    let boots: readonly Boot[] = [];
    for (let n = 0; n < 25; n++) boots = withBoot(boots, { id: `${n}`, at: n });
    expect(boots.map(({ id }) => id)).toEqual(Array.from({ length: 10 }, (_, i) => `${i + 15}`));
  });
});
