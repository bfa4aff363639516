import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

/** What lies in falco/, to be laid beside a Falco. */
const folder = new URL('../../falco/', import.meta.url);
const read = (path: string): unknown => parse(readFileSync(fileURLToPath(new URL(path, folder)), 'utf8'));

interface Item {
  readonly list?: string;
  readonly items?: readonly (string | number)[];
  readonly macro?: string;
  readonly rule?: string;
  readonly desc?: string;
  readonly condition?: string;
  readonly output?: string;
  readonly priority?: string;
  readonly tags?: readonly string[];
}

const items = read('rules.d/falcodrop_rules.yaml') as readonly Item[];
const rules = items.filter((item) => item.rule !== undefined);
const lists = new Map(
  items.flatMap((item) => (item.list === undefined ? [] : [[item.list, item.items ?? []] as const])),
);
const macros = new Set(items.flatMap((item) => item.macro ?? []));

const config = read('config.d/falcodrop.yaml') as {
  readonly json_output: boolean;
  readonly http_output: { readonly enabled: boolean; readonly url: string };
  readonly append_output: readonly { readonly match: object; readonly extra_fields: readonly string[] }[];
};

/** What names an offender: the two ends, what kind of socket, and which way. */
const needed = ['fd.name', 'fd.cip', 'fd.cport', 'fd.sip', 'fd.sport', 'fd.l4proto', 'fd.type', 'evt.type', 'evt.res'];

describe('the rules file', () => {
  test('has the three rules, by the names that falcodrop knows', () => {
    expect(rules.map((rule) => rule.rule)).toEqual([
      'Connection to Canary Port',
      'Inbound SSH Connection',
      'Unexpected Inbound Connection on Management Port',
    ]);
  });

  test.each(rules.map((rule) => [rule.rule, rule] as const))('%s is complete', (_, rule) => {
    expect(Object.keys(rule).sort()).toEqual(['condition', 'desc', 'output', 'priority', 'rule', 'tags']);
    for (const text of [rule.desc, rule.condition, rule.output]) expect(text).toMatch(/^\S.*\S$/s);
    expect(rule.priority).toMatch(/^(EMERGENCY|ALERT|CRITICAL|ERROR|WARNING|NOTICE|INFO|DEBUG)$/);
    expect(rule.tags).toEqual(['network', 'falcodrop']);
    const printed = [...(rule.output ?? '').matchAll(/%([a-z0-9_.]+)/g)].map((match) => match[1]);
    expect(printed).toEqual(expect.arrayContaining(needed));
  });

  test('starts from accepted TCP connections alone, and never looks at the deprecated evt.dir', () => {
    const macro = items.find((item) => item.macro === 'falcodrop_inbound_accepted');
    expect(macro?.condition).toBe('evt.type in (accept, accept4) and evt.rawres >= 0 and fd.type in (ipv4, ipv6)');
    for (const rule of rules) expect(rule.condition).toMatch(/^falcodrop_inbound_accepted and /);
  });

  test('refers to lists and macros that are there, and has none that is not used', () => {
    const used = new Set(items.flatMap((item) => (item.condition ?? '').match(/\bfalcodrop_\w+/g) ?? []));
    expect([...used].sort()).toEqual([...lists.keys(), ...macros].sort());
  });

  test('has ports as numbers and networks in the quotes that Falco wants', () => {
    for (const [name, values] of lists) {
      expect(values.length, name).toBeGreaterThan(0);
      for (const value of values) {
        if (name.endsWith('_ports'))
          expect(value, name).toSatisfy((port) => Number.isInteger(port) && port > 0 && port < 65_536);
        else expect(value, name).toMatch(/^"\d+\.\d+\.\d+\.\d+\/\d+"$/);
      }
    }
  });

  test('has no port that is a canary and something else too', () => {
    const canaries = lists.get('falcodrop_canary_ports') ?? [];
    const others = [...(lists.get('falcodrop_ssh_ports') ?? []), ...(lists.get('falcodrop_management_ports') ?? [])];
    expect(canaries.filter((port) => others.includes(port))).toEqual([]);
  });
});

describe('the configuration snippet', () => {
  test('posts JSON to us', () => {
    expect(config.json_output).toBe(true);
    expect(config.http_output).toMatchObject({ enabled: true, url: 'http://127.0.0.1:2804/falco' });
  });

  test('adds what names an offender to the network rules, and nothing that Falco may not print', () => {
    expect(config.append_output).toHaveLength(1);
    expect(config.append_output[0]?.match).toEqual({ source: 'syscall', tags: ['network'] });
    const fields = config.append_output[0]?.extra_fields ?? [];
    expect(fields).toEqual(expect.arrayContaining(needed));
    expect(new Set(fields).size).toBe(fields.length);
    for (const filterOnly of ['fd.ip', 'fd.net', 'fd.port']) expect(fields).not.toContain(filterOnly);
  });
});
