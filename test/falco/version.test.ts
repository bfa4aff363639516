import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isSince, parseFalcoVersion, readVersionOutput, requireNewEnough } from '../../src/falco/version.ts';

describe('a version', () => {
  test.each([
    ['0.43.1', [0, 43, 1]],
    ['0.31', [0, 31, 0]],
    ['v0.38.0', [0, 38, 0]],
    ['0.44.0-rc1', [0, 44, 0]],
    ['0.36.0-41+8a1b2c3', [0, 36, 0]],
    ['1.0.0', [1, 0, 0]],
  ] as const)('%s', (text, [major, minor, patch]) => {
    expect(parseFalcoVersion(text)).toEqual({ major, minor, patch, text: text.replace('v', '') });
  });

  test.each([
    '',
    '43',
    'latest',
    '0.43.1\n',
    ' 0.43',
    '0.43.1 (x86_64)',
    '0.43.x',
    '99999.1',
    `0.43.1-${'x'.repeat(99)}`,
  ])('is not %j', (text) => {
    expect(parseFalcoVersion(text)).toBeNull();
  });

  test('is as new as its numbers say', () => {
    fc.assert(
      fc.property(fc.nat(3), fc.nat(60), fc.nat(3), fc.nat(60), (major, minor, sinceMajor, sinceMinor) => {
        const version = parseFalcoVersion(`${major}.${minor}.7`);
        if (version === null) throw new Error('it is one');
        const expected = major * 1_000 + minor >= sinceMajor * 1_000 + sinceMinor;
        expect(isSince(version, `${sinceMajor}.${sinceMinor}`)).toBe(expected);
      }),
    );
  });

  test('before 0.30 is too old', () => {
    const [old, enough] = [parseFalcoVersion('0.29.1'), parseFalcoVersion('0.30.0')];
    if (old === null || enough === null) throw new Error('they are versions');
    expect(() => requireNewEnough(old)).toThrow(expect.objectContaining({ code: 'falco_unfit' }));
    expect(() => requireNewEnough(enough)).not.toThrow();
  });
});

describe('what falco --version prints', () => {
  test.each<[string, string, string, string | null]>([
    ['0.43', 'Falco version: 0.43.1\nLibs version:  0.22.2\n', '', '0.43.1'],
    ['0.31', 'Falco version: 0.31.1\nDriver version: b7eb0dd65226a8dc254d228c8d950d07bf3521d2\n', '', '0.31.1'],
    ['with the machine', 'Falco version: 0.43.1 (x86_64)\n', '', '0.43.1'],
    ['JSON', '{"engine_version":"57","falco_version":"0.43.1","libs_version":"0.22.2"}\n', '', '0.43.1'],
    ['the log alone', '', 'Sun Nov 22 14:00:00 2026: Falco version: 0.44.1 (aarch64)\n', '0.44.1'],
    ['the log before JSON', '{"falco_version":"0.44.1"}\n', 'Sun: Falco version: 0.1.1 (x86_64)\n', '0.44.1'],
    ['an error', '', 'Error: yaml-cpp: error at line 3\n', null],
    ['JSON that is none', '{"falco_version":\n', '', null],
    ['JSON of another kind', '{"falco_version":43}\n', '', null],
    ['nonsense', 'Falco version: \u001b[31mnew\n', '', null],
  ])('%s', (_, stdout, stderr, expected) => {
    expect(readVersionOutput(stdout, stderr)?.text ?? null).toBe(expected);
  });

  test('any text is read without a failure', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string(), (stdout, stderr) => {
        const version = readVersionOutput(stdout, stderr);
        expect(version === null || /^\d+\.\d+/.test(version.text)).toBe(true);
      }),
    );
  });
});
