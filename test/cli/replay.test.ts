import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ownAddresses, recording, recordings } from '../alert/recordings.ts';
import { cutOff, environmentOf, falcodrop, objects, root } from './falcodrop.ts';

const own = ownAddresses.join(',');
const fixture = (name: string) => `${root}test/fixtures/alerts/${name}.jsonl`;
const [first = ''] = recording('falco-0.43-append').lines.slice(1);

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'fd-replay-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function file(name: string, contents: string | Buffer): string {
  const path = join(directory, name);
  writeFileSync(path, contents);
  return path;
}

describe.each(recordings)('%s', (name) => {
  const { lines, expected } = recording(name);

  test('every line against its offender, with exactly the keys of the contract', () => {
    const { status, stdout, stderr } = falcodrop(['replay', fixture(name), '--own', own, '--json']);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const decisions = objects(stdout);
    expect(decisions).toHaveLength(lines.length);
    for (const [n, decision] of decisions.entries()) {
      expect(Object.keys(decision)).toEqual(['n', 'rule', 'offender', 'verdict', 'action', 'reason']);
      expect(decision.n).toBe(n);
      expect(decision.rule).toBe(expected[n]?.rule);
      expect(['block', 'refuse', 'ignore']).toContain(decision.verdict);
      expect(decision.verdict === 'block' ? decision.offender : null).toBe(expected[n]?.offender);
      expect([...(decision.verdict === 'block' ? ['enforce', 'monitor', 'observe'] : []), null]).toContain(
        decision.action,
      );
      expect(decision.action === null).toBe(decision.verdict !== 'block');
    }
  });

  test('from stdin the same', () => {
    const piped = falcodrop(['replay', '-', '--own', own, '--json'], {}, lines.join('\n'));
    expect(piped.stdout).toBe(falcodrop(['replay', fixture(name), '--own', own, '--json']).stdout);
  });

  test('for people: a row an alert, and a summary that adds up', () => {
    const { status, stdout } = falcodrop(['replay', fixture(name), '--own', own]);
    expect(status).toBe(0);
    const blocked = expected.filter(({ offender }) => offender !== null);
    expect(stdout).toContain(`${lines.length} alerts; 0 lines were none`);
    expect(stdout).toContain(
      `block   ${blocked.length}: ${new Set(blocked.map(({ offender }) => offender)).size} offenders`,
    );
    expect(stdout.split('\n').filter((line) => /^ *\d+ {2}(block|refuse|ignore)/.test(line))).toHaveLength(
      lines.length,
    );
  });
});

describe('lines that are no alerts', () => {
  const garbage = [
    Buffer.from(`\ufeff${first}\r\n`),
    Buffer.from('\n'),
    Buffer.from('not json\n'),
    Buffer.from([0x00, 0xff, 0x80, 0x1b, 0x5b, 0x0a]),
    Buffer.from('{"rule":\n'),
    Buffer.from('[]\n'),
    Buffer.from('{"output":"no rule"}\n'),
    Buffer.from(`${'['.repeat(100_000)}\n`),
    Buffer.concat([Buffer.alloc(5 << 20, 0x61), Buffer.from('\n')]),
    Buffer.from(`{"__proto__":{"rule":"x"}}\n`),
    Buffer.from(first),
  ];

  test('print nothing on stdout, one warning each on stderr, and the status stays 0', () => {
    const path = file('garbage', Buffer.concat(garbage));
    const { status, stdout, stderr } = falcodrop(['replay', path, '--own', own, '--json']);
    expect(status).toBe(0);
    expect(objects(stdout).map(({ n, offender }) => [n, offender])).toEqual([
      [0, '203.0.113.66'],
      [10, '203.0.113.66'],
    ]);
    const warnings = objects(stderr);
    expect(warnings).toHaveLength(9);
    for (const [index, warning] of warnings.entries()) {
      expect(warning).toMatchObject({ code: 'body_not_alert', hint: null });
      expect(warning.message).toContain(`line ${index + 1} `);
    }
    const { stderr: forPeople } = falcodrop(['replay', path, '--own', own]);
    expect(forPeople.trim().split('\n')).toHaveLength(9);
  });

  test('an empty file is no failure', () => {
    expect(falcodrop(['replay', file('empty', ''), '--own', own, '--json'])).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
  });
});

test('a recording of another host says what is missing', () => {
  const { status, stdout } = falcodrop(['replay', fixture('falco-0.40')]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/refuse {2}\d+: .*other_host/);
  expect(stdout.trimEnd()).toMatch(/--own$/);
});

test('hostile text reaches no terminal', () => {
  const alert = { ...(JSON.parse(first) as object), rule: 'a\u001b]0;title\u0007\u202eb\nc\u009b2J' };
  const path = file('hostile', `${JSON.stringify(alert)}\n`);
  for (const args of [[], ['--json']]) {
    const { stdout } = falcodrop(['replay', path, '--own', own, ...args]);
    expect(stdout).not.toMatch(/[\p{Cf}]/u);
    expect(stdout.replaceAll('\n', '')).not.toMatch(/[\p{Cc}]/u);
  }
  expect(objects(falcodrop(['replay', path, '--own', own, '--json']).stdout)[0]?.rule).toBe(alert.rule);
});

describe('large recordings', () => {
  const many = () => file('many', `${first}\n`.repeat(20_000));

  test('arrive whole in a pipe', () => {
    const { status, stdout } = falcodrop(['replay', many(), '--own', own, '--json']);
    expect(status).toBe(0);
    expect(objects(stdout)).toHaveLength(20_000);
  });

  test('end in silence when the reader goes away', async () => {
    const { status, stderr } = await cutOff(['replay', many(), '--own', own, '--json'], 100);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});

describe('what is asked wrongly', () => {
  test.each([
    ['a file that is not there', ['replay', '/nonexistent'], 1, 'file_unreadable'],
    ['a directory', ['replay', '/'], 1, 'file_unreadable'],
    ['an own address that is none', ['replay', '-', '--own', '203.0.113.10,010.0.0.1'], 2, 'address_invalid'],
    ['an own prefix with host bits', ['replay', '-', '--own', '203.0.113.10/24'], 2, 'prefix_host_bits'],
    ['no file', ['replay'], 2, 'usage'],
    ['a configuration that is not there', ['replay', '-', '--config', '/nonexistent'], 1, 'file_unreadable'],
  ])('%s', (_, args, status, code) => {
    const ended = falcodrop([...args, '--json']);
    expect(ended.stdout).toBe('');
    expect(ended.status).toBe(status);
    const [error, ...others] = objects(ended.stderr);
    expect(others).toEqual([]);
    expect(Object.keys(error ?? {})).toEqual(['code', 'message', 'hint']);
    expect(error?.code).toBe(code);
    expect(ended.stderr).not.toContain('    at ');
  });

  test('a broken configuration names its line', () => {
    const path = file('broken.yaml', 'guard:\n  allow_privat: true\n');
    const { status, stderr } = falcodrop(['replay', fixture('falco-0.40'), '--config', path]);
    expect(status).toBe(2);
    expect(stderr).toContain('broken.yaml:2:3');
    expect(stderr).toContain('allow_private');
  });
});

test('the configuration counts: a protected offender is refused', () => {
  const config = file('falcodrop.yaml', 'guard:\n  protected: [203.0.113.64/28]\n');
  const [decision] = objects(
    falcodrop(['replay', '-', '--own', own, '--json'], { FALCODROP_CONFIG: config }, first).stdout,
  );
  expect(decision).toMatchObject({ offender: '203.0.113.66', verdict: 'refuse', action: null, reason: 'protected' });
});

test('no test sees the settings of who runs it', () => {
  expect(environmentOf({})).toMatchObject({ FALCODROP_PIN_DIR: '/nonexistent/falcodrop/bpf' });
  expect(environmentOf({}).FALCODROP_CONFIG).toBeUndefined();
});
