import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';

test('nothing configured: off, and when it is on Falco’s units and root’s Falco', () => {
  expect(parseConfig('', 'f').journal).toEqual({
    enabled: false,
    units: [
      'falco.service',
      'falco-kmod.service',
      'falco-bpf.service',
      'falco-modern-bpf.service',
      'falco-custom.service',
    ],
    matches: [['_COMM=falco', '_UID=0']],
    directory: null,
  });
});

test('everything configured', () => {
  const text = `journal:
  enabled: true
  units: [falco, falco.service, "my@1.service", run-1.scope]
  matches: [CONTAINER_NAME=falco, " _EXE=/opt/my falco/falco  _UID=0 "]
  directory: /host/var/log/journal
`;
  expect(parseConfig(text, 'f').journal).toEqual({
    enabled: true,
    units: ['falco.service', 'my@1.service', 'run-1.scope'],
    matches: [['CONTAINER_NAME=falco'], ['_EXE=/opt/my falco/falco', '_UID=0']],
    directory: '/host/var/log/journal',
  });
});

describe('refused', () => {
  test.each([
    ['units: ["--follow=x y"]', 'is no name of a unit'],
    ['units: ["falco*"]', 'is no name of a unit'],
    ['units: [""]', 'is no name of a unit'],
    ['matches: [falco]', 'is no FIELD=value'],
    ['matches: [+]', 'is no FIELD=value'],
    ['matches: ["--rotate"]', 'is no FIELD=value'],
    ['matches: [/usr/bin/falco]', 'is no FIELD=value'],
    ['matches: ["_COMM="]', 'is no FIELD=value'],
    ['matches: ["_COMM=falco + _UID"]', null],
    ['matches: ["comm=falco"]', 'is no FIELD=value'],
    ['{ units: [], matches: [] }', 'the whole journal would be read'],
    ['directory: relative', 'absolute path'],
    ['since: 5m', 'since'],
  ])('journal: %s', (text, words) => {
    const config = `journal: ${text.startsWith('{') ? text : `{ ${text} }`}`;
    if (words === null) expect(parseConfig(config, 'f').journal.matches).toEqual([['_COMM=falco + _UID']]);
    else expect(() => parseConfig(config, 'f')).toThrow(words);
  });
});
