import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as z from 'zod';
import { readDocument } from '../../src/config/document.ts';
import { environmentLayer } from '../../src/config/environment.ts';
import type { Layer } from '../../src/config/layer.ts';
import { printHeld } from '../../src/config/print.ts';
import { formatPlace } from '../../src/config/problem.ts';
import { readLayers, writtenSettings } from '../../src/config/reading.ts';
import { readSecret, type Secret, secret, secretProblems } from '../../src/config/secret.ts';
import { shapeOf } from '../../src/config/shape.ts';

const schema = z.strictObject({
  bus: z
    .strictObject({ token: secret('What the bus asks for.', 'bus-token').optional(), url: z.string().optional() })
    .prefault({}),
});
const shape = shapeOf(schema);
const literal = 'hunter2-is-a-literal';

function read(text: string, environment: NodeJS.ProcessEnv = {}) {
  const layers: Layer[] = [readDocument(text, 'f.yaml'), environmentLayer(shape, environment)];
  const { problems, output, held } = readLayers(schema, layers);
  return {
    said: problems.map(({ place, message, hint }) => `${formatPlace(place)}: ${message} (${hint})`),
    output,
    held,
  };
}

describe('a setting that is a secret', () => {
  test('names a file or a credential, from file or environment; the later one replaces it whole', () => {
    expect(read('bus: { token: { file: /x/y } }').output).toEqual({ bus: { token: { file: '/x/y' } } });
    const { output, said, held } = read('bus:\n  token: { file: /x/y }', { FALCODROP_BUS__TOKEN__CREDENTIAL: 'bus' });
    expect(said).toEqual([]);
    expect(output).toEqual({ bus: { token: { credential: 'bus' } } });
    expect(writtenSettings(held)).toEqual({ bus: { token: { credential: 'bus' } } });
    expect(printHeld(held).join('\n')).toMatch(
      /^ {2}token: \{ credential: bus \} +# FALCODROP_BUS__TOKEN__CREDENTIAL$/m,
    );
  });

  test.each<[string, RegExp]>([
    [`bus: { token: ${literal} }`, /f\.yaml:1:8: bus\.token: a secret may not stand here.*token: \{ file: \/etc/],
    [`bus: { token: [${literal}] }`, /may not stand here/],
    [`bus: { token: { value: ${literal} } }`, /there is no setting bus\.token\.value.*file, credential/],
    ['bus: { token: {} }', /names either a file or a credential/],
    ['bus: { token: { file: /a, credential: b } }', /names either a file or a credential/],
    [`bus: { token: { file: ${literal} } }`, /is no absolute path/],
    [`bus: { token: { file: [${literal}] } }`, /expected text, not what stands here/],
    ['bus: { token: { credential: ../../etc/shadow } }', /is no name of a credential/],
    ['bus: { token: { credential: .. } }', /is no name of a credential/],
  ])('%s', (text, wanted) => {
    const { said } = read(text);
    expect(said.join('\n')).toMatch(wanted);
    expect(said.join('\n')).not.toContain(literal);
  });

  test('may not stand in the environment', () => {
    const { said } = read('', { FALCODROP_BUS__TOKEN: literal });
    expect(said.join('\n')).toMatch(/^FALCODROP_BUS__TOKEN: a secret may not.*FALCODROP_BUS__TOKEN__FILE/);
    expect(said.join('\n')).not.toContain(literal);
  });
});

describe('reading a secret', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'fd-secret-'));
    const files: [string, string | Buffer, number][] = [
      ['good', `${literal}\n`, 0o600],
      ['crlf', `${literal}\r\n`, 0o640],
      ['bare', literal, 0o400],
      ['open', literal, 0o604],
      ['writable', literal, 0o602],
      ['empty', '\n', 0o600],
      ['lines', `${literal}\n${literal}\n`, 0o600],
      ['binary', Buffer.from([0xff, 0xfe]), 0o600],
      ['nul', 'a\0b', 0o600],
      ['large', 'x'.repeat(65_537), 0o600],
    ];
    for (const [name, text, mode] of files) {
      writeFileSync(join(folder, name), text);
      chmodSync(join(folder, name), mode);
    }
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.each(['good', 'crlf', 'bare'])('%s', (name) => {
    expect(readSecret({ file: join(folder, name) }, {})).toBe(literal);
    expect(readSecret({ credential: name }, { CREDENTIALS_DIRECTORY: folder })).toBe(literal);
  });

  test.each<[string, RegExp]>([
    ['open', /everybody may read or write this secret/],
    ['writable', /everybody may read or write this secret/],
    ['empty', /there is no secret in it/],
    ['lines', /one line of text/],
    ['nul', /one line of text/],
    ['binary', /not UTF-8/],
    ['large', /larger than/],
    ['missing', /there is no such file/],
    ['.', /it is a directory/],
  ])('%s is refused, and none of it told', (name, wanted) => {
    const named: Secret = { file: join(folder, name) };
    expect(() => readSecret(named, {})).toThrowError(wanted);
    const held = [
      {
        path: ['bus', 'token'],
        shape: { 'x-secret': true as const },
        value: named,
        place: { kind: 'default' as const },
      },
    ];
    const said = secretProblems(held, {});
    expect(said).toHaveLength(1);
    expect(said[0]?.message).toMatch(/^bus\.token: /);
    expect(JSON.stringify(said)).not.toContain(literal);
  });

  test('a credential that systemd has not given: refused when it is read, no problem when it is checked', () => {
    expect(() => readSecret({ credential: 'bus' }, {})).toThrowError(/systemd has given none/);
    const held = [
      {
        path: ['a'],
        shape: { 'x-secret': true as const },
        value: { credential: 'bus' },
        place: { kind: 'default' as const },
      },
      { path: ['b'], shape: { 'x-secret': true as const }, value: undefined, place: { kind: 'default' as const } },
      { path: ['c'], shape: {}, value: { file: '/none' }, place: { kind: 'default' as const } },
    ];
    expect(secretProblems(held, {})).toEqual([]);
  });
});
