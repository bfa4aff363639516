import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { comparePrefixes, formatPrefix, parsePrefix } from '../../src/address/prefix.ts';
import { formatAllowLine, isStanding, isVeryWide, parseAllowFile, widestAllow } from '../../src/cli/allow-file.ts';
import { prefixes } from '../address/arbitrary.ts';

const noon = Date.UTC(2026, 10, 22, 12);

test('a file: targets, ends, reasons, comments, either end of line', () => {
  const text = [
    '\uFEFF# the office, and who tests us',
    '198.51.100.0/24',
    '',
    '\t2001:db8:7::/48   until=2026-11-22T12:00:00Z # pentest # ticket 4711\r',
    '203.0.113.9 until=2026-11-22T13:00:00.5+01:00',
    '10.0.0.0/8',
    '::/0 force # all of it',
    '0.0.0.0/0 until=2030-01-01T00:00:00z force',
  ].join('\n');
  const { allows, problems } = parseAllowFile(text);
  expect(problems).toEqual([]);
  expect(allows.map((each) => ({ ...each, target: formatPrefix(each.target) }))).toEqual([
    { line: 2, target: '198.51.100.0/24', until: null, force: false, reason: null },
    { line: 4, target: '2001:db8:7::/48', until: noon, force: false, reason: 'pentest # ticket 4711' },
    { line: 5, target: '203.0.113.9', until: noon + 500, force: false, reason: null },
    { line: 6, target: '10.0.0.0/8', until: null, force: false, reason: null },
    { line: 7, target: '::/0', until: null, force: true, reason: 'all of it' },
    { line: 8, target: '0.0.0.0/0', until: Date.UTC(2030, 0, 1), force: true, reason: null },
  ]);
});

test.each([
  ['an address that is none', '203.0.113.256', /is not an IP address/],
  ['a name', 'office.example.org', /is not an IP address/],
  ['host bits', '203.0.113.9/24', /write 203\.0\.113\.0\/24/],
  ['a length that is none', '203.0.113.0/33', /prefix length must be 0 to 32/],
  ['two targets', '203.0.113.9 203.0.113.10', /does not belong there/],
  ['a reason without its #', '203.0.113.9 office', /does not belong there/],
  ['an end without an offset', '203.0.113.9 until=2026-11-22T12:00:00', /RFC 3339/],
  ['an end without a time', '203.0.113.9 until=2026-11-22', /RFC 3339/],
  ['a day that there is not', '203.0.113.9 until=2026-02-30T12:00:00Z', /no day that there is/],
  ['an empty end', '203.0.113.9 until=', /RFC 3339/],
  ['two ends', '203.0.113.9 until=2026-11-22T12:00:00Z until=2026-11-22T12:00:00Z', /does not belong there/],
  ['a duration', '203.0.113.9 for=1h', /does not belong there/],
  ['force twice', '0.0.0.0/0 force force', /does not belong there/],
  ['FORCE', '0.0.0.0/0 FORCE', /does not belong there/],
  ['everything, not meant', '0.0.0.0/0', /wider than \/8.*force/],
  ['half of it', '128.0.0.0/1', /wider than \/8.*force/],
  ['a /7', '10.0.0.0/7', /wider than \/8/],
  ['all of IPv6', '::/0', /wider than \/16/],
  ['a /15 of IPv6', '2000::/15', /wider than \/16/],
  ['all of IPv4 in the clothes of IPv6', '::ffff:0.0.0.0/96', /wider than \/8/],
  ['a NUL', '203.0.113.9\0', /is not an IP address/],
  ['bytes that are no UTF-8', '203.0.113.9 \uFFFD', /does not belong there/],
  ['a line without an end', `203.0.113.9 # ${'x'.repeat(5000)}`, /longer than 4096/],
  ['a quoted one', '"203.0.113.9"', /is not an IP address/],
])('refused whole: %s', (_, line, why) => {
  const { allows, problems } = parseAllowFile(`198.51.100.1\n${line}\n198.51.100.2\n`);
  expect(allows).toEqual([]);
  expect(problems).toEqual([{ line: 2, message: expect.stringMatching(why) as string }]);
});

test('every bad line is named', () => {
  expect(parseAllowFile('x\n198.51.100.1\ny\n\nz').problems.map(({ line }) => line)).toEqual([1, 3, 5]);
});

describe('properties', () => {
  test('what is written is read back; a reason ends no line and hides nothing', () => {
    fc.assert(
      fc.property(
        prefixes,
        fc.option(fc.integer({ min: 0, max: Date.UTC(2200, 0, 1) })),
        fc.option(fc.string({ unit: 'grapheme', maxLength: 700 })),
        (target, until, reason) => {
          const line = formatAllowLine({ target, until, force: isVeryWide(target), reason });
          expect(line).not.toMatch(/[\p{Cc}\p{Cf}]/u);
          const { allows, problems } = parseAllowFile(`${line}\n`);
          expect(problems).toEqual([]);
          expect(allows).toHaveLength(1);
          const [read] = allows;
          expect(read === undefined ? null : formatPrefix(read.target)).toBe(formatPrefix(target));
          // To the second, and never earlier.
          expect(read?.until ?? null).toBe(until === null ? null : Math.ceil(until / 1000) * 1000);
        },
      ),
    );
  });

  test('any text: all or nothing, and no target that is not in it', () => {
    const word = fc.oneof(
      fc.constantFrom(
        '203.0.113.9',
        '2001:db8::/32',
        '0.0.0.0/0',
        'force',
        '#',
        'until=2026-11-22T12:00:00Z',
        '\n',
        ' ',
        '\r\n',
      ),
      fc.string({ maxLength: 6 }),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 30 }), (words) => {
        const text = words.join(' ');
        const { allows, problems } = parseAllowFile(text);
        if (problems.length > 0) expect(allows).toEqual([]);
        const lines = text.split('\n');
        for (const { line, target, force } of allows) {
          const [first = ''] = (lines[line - 1] ?? '').trim().split(/[ \t]+/);
          expect(comparePrefixes(parsePrefix(first.replace(/^\uFEFF/, '').replace(/#.*$/, '')), target)).toBe(0);
          if (target.length < widestAllow[target.address.family]) expect(force).toBe(true);
        }
      }),
    );
  });
});

test('an end is exclusive', () => {
  expect([null, noon, noon + 1].map((until) => isStanding({ until }, noon))).toEqual([true, false, true]);
});
