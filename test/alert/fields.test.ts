import { describe, expect, test } from 'vitest';
import { field, integerField, listField, portField, readPort, textField, truthField } from '../../src/alert/fields.ts';

test.each([{}, { k: null }, { k: '<NA>' }, { k: '' }, { k: undefined }, null])(
  '%j: missing in every spelling',
  (fields) => {
    expect(field(fields, 'k')).toBeNull();
    expect(textField(fields, 'k')).toBeNull();
    expect(portField(fields, 'k')).toBeNull();
    expect(integerField(fields, 'k')).toBeNull();
    expect(truthField(fields, 'k')).toBeNull();
    expect(listField(fields, 'k')).toBeNull();
  },
);

test("inherited members are not the alert's", () => {
  expect(field({}, 'constructor')).toBeNull();
  expect(field({}, '__proto__')).toBeNull();
  expect(field(JSON.parse('{"__proto__":"x"}') as Record<string, unknown>, '__proto__')).toBe('x');
});

test('keys with brackets', () => {
  expect(textField({ 'proc.aname[2]': 'bash' }, 'proc.aname[2]')).toBe('bash');
});

test('text of another type counts as missing', () => {
  expect(textField({ k: 7 }, 'k')).toBeNull();
  expect(textField({ k: ['a'] }, 'k')).toBeNull();
});

describe('ports', () => {
  test.each([
    [0, 0],
    [80, 80],
    ['80', 80],
    ['0', 0],
    [65_535, 65_535],
    ['65535', 65_535],
  ])('%j is %i', (value, port) => {
    expect(portField({ k: value }, 'k')).toBe(port);
  });

  test.each([
    -1,
    65_536,
    '65536',
    '080',
    '+80',
    '-1',
    ' 80',
    '80 ',
    '8e1',
    '0x50',
    80.5,
    Number.NaN,
    true,
    [80],
    {},
    '٨٠',
    '999999',
  ])('%j is none', (value) => {
    expect(portField({ k: value }, 'k')).toBeNull();
  });

  test('text', () => {
    expect(readPort('')).toBeNull();
    expect(readPort('443')).toBe(443);
  });
});

test.each([
  [-115, -115],
  ['-115', -115],
  [0, 0],
  ['0', 0],
  [1.5, null],
  [2 ** 60, null],
  ['x', null],
  [true, null],
])('integer %j is %j', (value, integer) => {
  expect(integerField({ k: value }, 'k')).toBe(integer);
});

test.each([
  [true, true],
  ['true', true],
  [false, false],
  ['false', false],
  [1, null],
  ['yes', null],
])('truth of %j is %j', (value, truth) => {
  expect(truthField({ k: value }, 'k')).toBe(truth);
});

test.each([
  [
    ['10.0.0.1', '192.0.2.1'],
    ['10.0.0.1', '192.0.2.1'],
  ],
  ['(10.0.0.1,192.0.2.1)', ['10.0.0.1', '192.0.2.1']],
  ['(10.0.0.1, 192.0.2.1)', ['10.0.0.1', '192.0.2.1']],
  ['()', []],
  ['10.0.0.1', ['10.0.0.1']],
  [[1, 'a', null], ['a']],
  [7, null],
])('list %j is %j', (value, list) => {
  expect(listField({ k: value }, 'k')).toEqual(list);
});
