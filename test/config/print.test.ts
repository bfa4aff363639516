import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readDocument } from '../../src/config/document.ts';
import { firstConfiguration } from '../../src/config/first.ts';
import { flagLayer } from '../../src/config/layer.ts';
import { parseConfig } from '../../src/config/load.ts';
import { inline, printHeld } from '../../src/config/print.ts';
import { readLayers, writtenSettings } from '../../src/config/reading.ts';
import { schema } from '../../src/config/schema.ts';
import { leaves, shapeOf } from '../../src/config/shape.ts';

const shape = shapeOf(schema);

test('every setting has a description, an example that is right, and a default that is right', () => {
  for (const { path, shape: about } of leaves(shape)) {
    const name = path.join('.');
    expect(about.description, name).toMatch(/^[A-Z].*\.$/);
    expect(about['x-example'], name).not.toBe(undefined);
    for (const value of [about['x-example'], about.default]) {
      const layer = flagLayer([{ flag: name, path, value }]);
      expect(readLayers(schema, [layer]).problems, name).toEqual([]);
    }
  }
});

describe('what holds, printed', () => {
  const reading = (text: string) => readLayers(schema, [readDocument(text, 'f.yaml')]);

  test('says where each value comes from', () => {
    const lines = printHeld(reading('http:\n  port: 1\nhost_aliases: [a]\n').held);
    expect(lines).toContain('  port: 1                                # f.yaml:2');
    expect(lines.join('\n')).toMatch(/^host_aliases: +# f\.yaml:3\n {2}- a$/m);
    expect(lines.join('\n')).toMatch(/^automatic: monitor +# default$/m);
    expect(lines.filter((line) => line === 'http:')).toHaveLength(1);
  });

  test('a name of a file can not end the comment', () => {
    const { held } = readLayers(schema, [readDocument('stdin: true', 'f\nautomatic: enforce #\u202e.yaml')]);
    expect(parse(printHeld(held).join('\n'))).toMatchObject({ automatic: 'monitor' });
  });

  test('read again, it is the same configuration', () => {
    const text = fc.string({ minLength: 1, maxLength: 12, unit: 'grapheme' });
    const settings = fc.record(
      {
        automatic: fc.constantFrom('monitor', 'enforce'),
        host_aliases: fc.array(text, { maxLength: 4 }),
        http: fc.record({ port: fc.integer({ min: 0, max: 65_535 }), enabled: fc.boolean() }, { requiredKeys: [] }),
        files: fc.uniqueArray(
          fc.record({ path: text.map((name) => `/${name.replaceAll(/[\0/]/g, '')}x`), follow: fc.boolean() }),
          {
            selector: ({ path }) => path,
            maxLength: 3,
          },
        ),
        max_alert_age: fc.constantFrom('5m', '1h', 0, '0'),
        service: fc.record({ user: fc.constantFrom('root', 0, 'no', 'y', '00') }, { requiredKeys: [] }),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(settings, (wished) => {
        const layer = {
          settings: JSON.parse(JSON.stringify(wished)),
          problems: [],
          placeOf: () => ({ kind: 'default' }) as const,
        };
        const { held, problems } = readLayers(schema, [layer]);
        expect(problems).toEqual([]);
        const printed = printHeld(held).join('\n');
        expect(parse(printed)).toEqual(writtenSettings(held));
        expect(readDocument(printed, 'g').settings).toEqual(writtenSettings(held));
      }),
    );
  });
});

test('a text on one line is read back by YAML 1.1 and 1.2', () => {
  const tricky = fc.constantFrom(
    'yes',
    'No',
    'on',
    '~',
    'null',
    '1e5',
    '0x10',
    '12:30',
    '1_000',
    '.inf',
    '=',
    '<<',
    '5m',
    '-',
    '- a',
    'a: b',
    'a #b',
    '',
  );
  fc.assert(
    fc.property(fc.oneof(tricky, fc.string({ unit: 'binary' })), (text) => {
      for (const version of ['1.1', '1.2'] as const)
        expect(parse(`a: ${inline(text)}`, { version })).toEqual({ a: text });
      expect(inline(text)).toMatch(/^[\x20-\x7e]*$/);
    }),
    { numRuns: 1_000 },
  );
});

describe('the first configuration', () => {
  const text = firstConfiguration({ interfaces: ['eth0', 'eth1'], schemaFile: '/usr/share/falcodrop.schema.json' });

  test('is right, watches only, and tells editors where the schema lies', () => {
    expect(text.split('\n')[0]).toBe('# yaml-language-server: $schema=/usr/share/falcodrop.schema.json');
    expect(parseConfig(text, 'f.yaml')).toMatchObject({ interfaces: ['eth0', 'eth1'], automatic: 'monitor' });
    expect(readDocument(text, 'f.yaml').settings).toEqual({ interfaces: ['eth0', 'eth1'], automatic: 'monitor' });
    expect(firstConfiguration({ interfaces: [], schemaFile: null })).not.toContain('yaml-language-server');
  });

  test('with every setting commented in it is right too, and names them all with their defaults', () => {
    const all = text.replaceAll(/^#(?! [^ ])/gm, '');
    const { settings, problems } = readDocument(all, 'f.yaml');
    expect(problems).toEqual([]);
    const defaults = writtenSettings(readLayers(schema, []).held);
    expect(settings).toEqual({ ...defaults, interfaces: ['eth0', 'eth1'] });
  });
});
