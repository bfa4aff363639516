import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { type Bundle, readBundle } from '../../src/falco/bundle.ts';

const folder = mkdtempSync(join(tmpdir(), 'falcodrop-bundle-'));
afterAll(() => rmSync(folder, { recursive: true }));
let dir = '';
let n = 0;
beforeEach(() => {
  dir = join(folder, `${n++}`);
  mkdirSync(dir);
});

const rule = '- list: ports\n  items: [1]\n';
const read = (path: string): Promise<Bundle> =>
  readBundle(path, { environment: { ...process.env, TAR_OPTIONS: '--nonsense' } });
const namesOf = ({ files }: Bundle): string[] => [...files.keys()];

interface Member {
  readonly name: string;
  readonly text?: string;
  /** '0' file, '1' hard link, '2' symbolic link, '3' and '4' devices, '5' folder, '6' pipe. */
  readonly kind?: string;
  readonly link?: string;
  /** What the header says; else what is there. */
  readonly size?: number;
}

/** A POSIX (ustar) archive, made by hand: no tar would make these. */
function archive(members: readonly Member[], end = true): Buffer {
  const blocks = members.flatMap(({ name, text = '', kind = '0', link = '', size }) => {
    const contents = Buffer.from(text);
    const header = Buffer.alloc(512);
    header.write(name, 0, 100);
    header.write('0000644\0', 100);
    header.write('0000000\0', 108);
    header.write('0000000\0', 116);
    header.write(`${(size ?? contents.length).toString(8).padStart(11, '0')}\0`, 124);
    header.write('14000000000\0', 136);
    header.write('        ', 148);
    header.write(kind, 156);
    header.write(link, 157, 100);
    header.write('ustar\u000000', 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    return [header, contents, Buffer.alloc((512 - (contents.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, ...(end ? [Buffer.alloc(1024)] : [])]);
}

function packed(members: readonly Member[]): string {
  const path = join(dir, 'bundle.tar.gz');
  writeFileSync(path, gzipSync(archive(members)));
  return path;
}

describe('a folder', () => {
  test('gives its rule files, and says what it passed over', async () => {
    for (const name of ['b.yaml', 'a.yml', 'README.md', '.hidden.yaml', 'x y.yaml'])
      writeFileSync(join(dir, name), rule);
    mkdirSync(join(dir, 'more'));
    const bundle = await read(dir);
    expect(namesOf(bundle)).toEqual(['a.yml', 'b.yaml']);
    expect(bundle.files.get('b.yaml')?.toString()).toBe(rule);
    expect(bundle.passedOver).toEqual(['.hidden.yaml', 'README.md', 'x y.yaml']);
  });

  test.each<[string, () => void, RegExp]>([
    ['nothing', () => undefined, /no file \*\.yaml/],
    ['a symbolic link', () => symlinkSync('/etc/shadow', join(dir, 'a.yaml')), /a\.yaml is a symbolic link/],
    ['a pipe', () => spawnSync('mkfifo', [join(dir, 'a.yaml')]), /a\.yaml is no regular file/],
    ['too much', () => writeFileSync(join(dir, 'a.yaml'), `#${'x'.repeat(5 << 20)}`), /larger than 4096 KiB/],
    ['no YAML', () => writeFileSync(join(dir, 'a.yaml'), '- rule: [\n'), /a\.yaml: it is no YAML/],
    ['a configuration', () => writeFileSync(join(dir, 'a.yaml'), 'json_output: true\n'), /it is no list of rules/],
    [
      'too many files',
      () => {
        for (let i = 0; i < 257; i++) writeFileSync(join(dir, `${i}.yaml`), rule);
      },
      /more than 256 rule files/,
    ],
  ])('with %s is refused', async (_, make, message) => {
    make();
    await expect(read(dir)).rejects.toMatchObject({
      code: 'bundle_invalid',
      message: expect.stringMatching(message) as string,
    });
  });
});

describe('an archive', () => {
  test('as tar makes it, of a folder or of what is in it', async () => {
    const rules = join(dir, 'rules');
    mkdirSync(rules);
    writeFileSync(join(rules, 'b.yaml'), `${rule}# b\n`);
    writeFileSync(join(rules, 'a.yaml'), rule);
    writeFileSync(join(rules, 'empty.yaml'), '');
    writeFileSync(join(rules, 'README'), 'x');
    for (const words of [
      ['-C', dir, 'rules'],
      ['-C', rules, '.'],
      ['-C', rules, 'a.yaml', 'b.yaml', 'empty.yaml', 'README'],
      ['-C', dir, '--format=pax', 'rules'],
      ['-C', dir, '--format=v7', 'rules'],
    ]) {
      const path = join(dir, 'x.tar.gz');
      expect(spawnSync('tar', ['-czf', path, ...words]).status).toBe(0);
      const bundle = await read(path);
      expect(namesOf(bundle)).toEqual(['a.yaml', 'b.yaml', 'empty.yaml']);
      expect(bundle.files.get('b.yaml')?.toString()).toBe(`${rule}# b\n`);
      expect(bundle.passedOver).toEqual(['README']);
    }
  });

  test('below a second folder nothing is taken', async () => {
    const bundle = await read(
      packed([
        { name: 'a.yaml', text: rule },
        { name: 'test/b.yaml', text: rule },
      ]),
    );
    expect([namesOf(bundle), bundle.passedOver]).toEqual([['a.yaml'], ['test/b.yaml']]);
  });

  test.each<[string, readonly Member[], RegExp]>([
    ['an absolute path', [{ name: '/etc/cron.d/a.yaml', text: rule }], /"\/etc\/cron\.d\/a\.yaml" is an absolute path/],
    ['a way out', [{ name: '../a.yaml', text: rule }], /leads out of the archive/],
    ['a way out further in', [{ name: 'x/../../a.yaml', text: rule }], /leads out of the archive/],
    ['a symbolic link', [{ name: 'a.yaml', kind: '2', link: '/etc/shadow' }], /is no file and no folder/],
    [
      'a hard link',
      [
        { name: 'b.yaml', text: rule },
        { name: 'a.yaml', kind: '1', link: 'b.yaml' },
      ],
      /is no file and no folder/,
    ],
    ['a device', [{ name: 'a.yaml', kind: '3' }], /is no file and no folder/],
    ['a disk', [{ name: 'a.yaml', kind: '4' }], /is no file and no folder/],
    ['a pipe', [{ name: 'a.yaml', kind: '6' }], /is no file and no folder/],
    [
      'a name twice',
      [
        { name: 'a.yaml', text: rule },
        { name: './a.yaml', text: '- x\n' },
      ],
      /is in it twice/,
    ],
    ['a size that is not there', [{ name: 'a.yaml', text: rule, size: 4096 }], /tar does not read it|something else/],
    ['a size of gigabytes', [{ name: 'a.yaml', size: 0o77777777777 }], /larger than|tar does not read it/],
    [
      'large files',
      Array.from({ length: 5 }, (_, i) => ({ name: `${i}.yaml`, text: `#${'x'.repeat((4 << 20) - 1)}` })),
      /larger than \d+ MiB/,
    ],
    [
      'entries without end',
      Array.from({ length: 2_001 }, (_, i) => ({ name: `${i}`, text: '' })),
      /more than 2000 entries/,
    ],
    ['nothing of use', [{ name: 'a.txt', text: 'x' }], /no file \*\.yaml/],
    ['nothing', [], /no file \*\.yaml/],
    ['a hostile name', [{ name: 'a\n-rw-r--r-- 0/0 3 2026-01-01 00:00 b.yaml', text: rule }], /no file \*\.yaml/],
  ])('with %s is refused', async (_, members, message) => {
    await expect(read(packed(members))).rejects.toMatchObject({
      code: 'bundle_invalid',
      message: expect.stringMatching(message) as string,
    });
  });

  test.each<[string, () => Buffer, RegExp]>([
    ['that is none', () => Buffer.from('PK\u0003\u0004'), /neither a folder nor gzip/],
    ['that is empty', () => Buffer.alloc(0), /neither a folder nor gzip/],
    [
      'of a gzip that is cut short',
      () => gzipSync(archive([{ name: 'a.yaml', text: rule }])).subarray(0, 40),
      /unexpected end of file/,
    ],
    ['that is a gzip bomb', () => gzipSync(Buffer.alloc(64 << 20)), /when unpacked/],
    ['that is no tar', () => gzipSync(Buffer.from('x'.repeat(2_000))), /tar does not read it/],
    [
      'with a broken sum',
      () => gzipSync(archive([{ name: 'a.yaml', text: rule }]).fill(0xff, 0, 3)),
      /tar does not read it/,
    ],
  ])('%s is refused', async (_, bytes, message) => {
    const path = join(dir, 'x.tar.gz');
    writeFileSync(path, bytes());
    await expect(read(path)).rejects.toMatchObject({
      code: 'bundle_invalid',
      message: expect.stringMatching(message) as string,
    });
  });

  test('of any bytes is read, or refused by name', async () => {
    const good = archive([
      { name: 'a.yaml', text: rule },
      { name: 'b.yaml', text: rule },
    ]);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        async (edits) => {
          const bytes = Buffer.from(good);
          for (const [at, value] of edits) bytes[at] = value;
          const path = join(dir, 'x.tar.gz');
          writeFileSync(path, gzipSync(bytes));
          const result = await read(path).catch((error: unknown) => error);
          if (result instanceof Error) expect(result).toMatchObject({ code: 'bundle_invalid' });
          else
            for (const name of namesOf(result as Bundle)) expect(name).toMatch(/^[A-Za-z0-9_][A-Za-z0-9_.-]*\.ya?ml$/);
        },
      ),
      { numRuns: 40 },
    );
  }, 60_000);

  test('that is not there', async () => {
    await expect(read(join(dir, 'no'))).rejects.toMatchObject({ code: 'bundle_invalid' });
  });
});
