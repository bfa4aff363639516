import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { readCommandLine, refill } from '../../src/cli/command.ts';
import { release } from '../../src/cli/release.ts';
import { otherWords, verbs } from '../../src/cli/verbs.ts';
import { FalcodropError } from '../../src/errors.ts';

function refusalOf(...argv: string[]): FalcodropError {
  try {
    readCommandLine(argv);
  } catch (error) {
    if (error instanceof FalcodropError) return error;
    throw error;
  }
  throw new Error(`${argv.join(' ')} was accepted`);
}

describe('what is read', () => {
  test.each([
    [['list'], { verb: 'list', operands: [], options: {} }],
    [['list', '--json'], { verb: 'list', operands: [], options: { json: true } }],
    [['--json', 'list'], { verb: 'list', operands: [], options: { json: true } }],
    [
      ['block', '192.0.2.1', '--for', '2h', '::1'],
      { verb: 'block', operands: ['192.0.2.1', '::1'], options: { for: '2h' } },
    ],
    [['block', '::1', '--reason', '--json'], { verb: 'block', operands: ['::1'], options: { reason: '--json' } }],
    [['block', '--monitor', '--', '192.0.2.1'], { verb: 'block', operands: ['192.0.2.1'], options: { monitor: true } }],
    [['unblock', '--all', '-y'], { verb: 'unblock', operands: [], options: { all: true, yes: true } }],
    [
      ['attach', 'eth0', 'eth1', '--xdp', 'native'],
      { verb: 'attach', operands: ['eth0', 'eth1'], options: { xdp: 'native' } },
    ],
    [['run', '--config', 'a.yaml'], { verb: 'run', operands: [], options: { config: 'a.yaml' } }],
    [['replay', '-', '--own', '192.0.2.1'], { verb: 'replay', operands: ['-'], options: { own: '192.0.2.1' } }],
  ])('%j', (argv, parsed) => {
    expect(readCommandLine(argv)).toEqual(parsed);
  });
});

describe('wrong usage', () => {
  test.each([
    ['blok 192.0.2.1', "there is no verb 'blok'", 'did you mean block?'],
    ['unblok', "there is no verb 'unblok'", 'did you mean unblock?'],
    ['block 192.0.2.1 --fro 1h', "unknown option '--fro'", 'did you mean --for?'],
    ['block 192.0.2.1 --forver', "unknown option '--forver'", 'did you mean --forever?'],
    ['list --jsn', "unknown option '--jsn'", 'did you mean --json?'],
    ['frobnicate', "there is no verb 'frobnicate'", 'falcodrop --help tells how it is used'],
    ['block', "missing required argument 'target'", 'falcodrop block --help tells how it is used'],
    [
      'block 192.0.2.1 --for',
      "option '--for <duration>' argument missing",
      'falcodrop block --help tells how it is used',
    ],
    [
      'list 192.0.2.1',
      "too many arguments for 'list'. Expected 0 arguments but got 1",
      'falcodrop list --help tells how it is used',
    ],
    [
      'attach eth0 --xdp offload',
      "option '--xdp <mode>' argument 'offload' is invalid",
      'falcodrop attach --help tells how it is used',
    ],
  ])('%s', (line, message, hint) => {
    const error = refusalOf(...line.split(' '));
    expect(error).toMatchObject({ code: 'usage', exitStatus: 2, hint });
    expect(error.message).toContain(message);
  });

  test.each(Object.entries(otherWords))('%s: names %s', (word, verb) => {
    const error = refusalOf(word, '192.0.2.1');
    expect(error).toMatchObject({ code: 'usage', exitStatus: 2, hint: `it is "falcodrop ${verb}"` });
  });

  test('other words are no verbs', () => {
    expect(Object.keys(otherWords).filter((word) => Object.hasOwn(verbs, word))).toEqual([]);
  });
});

describe('help', () => {
  test('lists every verb', () => {
    const reading = readCommandLine(['--help']);
    if (!('text' in reading)) throw new Error('no help');
    for (const name of Object.keys(verbs)) expect(reading.text).toMatch(new RegExp(`^  ${name} `, 'm'));
    for (const line of reading.text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80);
    expect(reading.text).toContain('Exit statuses');
  });

  test.each(Object.entries(verbs))('of %s names its options and fits', (name, verb) => {
    const reading = readCommandLine([name, '--help']);
    if (!('text' in reading)) throw new Error('no help');
    for (const { flags } of verb.options) expect(reading.text).toContain(flags);
    expect(reading.text).toContain('--json');
    for (const line of reading.text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80);
  });

  test.each([
    ['a b c', 'a b c'],
    ['aaaa bbbb\ncccc', 'aaaa bbbb\ncccc'],
    ['aaaa bbbb cccc', 'aaaa bbbb\ncccc'],
    ['aa\nbb\n\ncc', 'aa bb\n\ncc'],
    ['aa\n\nSo:\n  kept as it is, however long\nbb', 'aa\n\nSo:\n  kept as it is, however long\nbb'],
    ['So:\naa', 'So:\naa'],
    ['aaaaaaaaaaaaaaa b', 'aaaaaaaaaaaaaaa\nb'],
  ])('paragraphs are broken anew: %j', (text, lines) => {
    expect(refill(text, 10)).toBe(lines);
  });

  test('without any word', () => {
    expect(readCommandLine([])).toHaveProperty('help');
  });
});

test('the release is that of package.json', () => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  expect(release).toBe(version);
  expect(readCommandLine(['--version'])).toEqual({ text: version });
});
