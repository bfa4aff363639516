import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The import table of CONTRIBUTING.md. Rooms that wire everything are `'all'`. */
const rooms: Readonly<
  Record<string, { readonly imports: readonly string[] | 'all'; readonly packages: readonly string[] }>
> = {
  address: { imports: [], packages: [] },
  time: { imports: [], packages: [] },
  alert: { imports: ['address', 'time'], packages: [] },
  judge: { imports: ['alert', 'address', 'time'], packages: [] },
  kernel: { imports: ['address', 'time'], packages: ['node'] },
  host: { imports: ['kernel', 'judge', 'address'], packages: ['node'] },
  blocklist: { imports: ['kernel', 'address', 'time'], packages: ['node', 'better-sqlite3'] },
  sources: { imports: ['alert', 'time'], packages: ['node', '@grpc/grpc-js', '@platformatic/kafka'] },
  falco: { imports: ['judge', 'alert'], packages: ['node', 'yaml'] },
  observe: { imports: ['alert', 'judge', 'blocklist', 'kernel', 'time'], packages: ['node', 'pino'] },
  config: { imports: ['judge', 'address', 'time'], packages: ['node', 'yaml', 'zod'] },
  daemon: { imports: 'all', packages: ['node', 'pino'] },
  cli: { imports: 'all', packages: ['node', 'commander'] },
};
const names = Object.keys(rooms);

/** Rooms another one may know by its types only. */
const typesOnly: readonly (readonly [from: string, of: string])[] = [
  ['host', 'judge'],
  ['observe', 'judge'],
];

const modulesOf: Readonly<Record<string, readonly string[]>> = {
  node: ['node:fs', 'node:fs/promises'],
  yaml: ['yaml'],
  zod: ['zod'],
  pino: ['pino'],
  commander: ['commander'],
  'better-sqlite3': ['better-sqlite3'],
  '@grpc/grpc-js': ['@grpc/grpc-js'],
  '@platformatic/kafka': ['@platformatic/kafka'],
  // never anybody's
  loader: ['node:module', 'left-pad'],
};

/** A tree of its own with our lint configuration; what is planted is planted there. */
let tree = '';

beforeAll(() => {
  tree = mkdtempSync(join(tmpdir(), 'falcodrop-rooms-'));
  for (const name of ['biome.json', 'scripts/lint', 'package.json'])
    cpSync(join(root, name), join(tree, name), { recursive: true });
});
afterEach(() => rmSync(join(tree, 'src'), { recursive: true, force: true }));
afterAll(() => rmSync(tree, { recursive: true, force: true }));

function plant(path: string, text: string): void {
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), text);
}

/** The files below `folder` that break the import table or load native code by themselves. */
function offenders(folder: string): Set<string> {
  const { stdout, stderr } = spawnSync(
    join(root, 'node_modules/.bin/biome'),
    ['lint', '--reporter=github', '--max-diagnostics=none', '--colors=off', folder],
    { cwd: tree, encoding: 'utf8', maxBuffer: 64 << 20 },
  );
  const found = new Set<string>();
  for (const [, path] of `${stdout}\n${stderr}`.matchAll(
    /^::error title=(?:lint\/style\/noRestrictedImports|plugin),file=([^,]+),/gm,
  )) {
    if (path !== undefined) found.add(path.startsWith('/') ? relative(tree, path) : path);
  }
  return found;
}

/** The TypeScript sources below a folder of the real tree: path and text. A room may be empty still. */
function sources(folder: string): (readonly [path: string, text: string])[] {
  if (!existsSync(join(root, folder))) return [];
  const paths = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' });
  return paths
    .filter((path) => path.endsWith('.ts'))
    .map((path) => [`${folder}/${path}`, readFileSync(join(root, folder, path), 'utf8')]);
}

describe('the import table', () => {
  test('knows every folder of src/', () => {
    const folders = readdirSync(join(root, 'src'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
    expect(folders.map((entry) => entry.name).filter((name) => !names.includes(name))).toEqual([]);
    expect(folders.length).toBeGreaterThan(0);
  });

  test('is what lint enforces, for every pair of rooms and every package, at both depths', () => {
    const expected = new Set<string>();
    for (const [room, { imports, packages }] of Object.entries(rooms)) {
      for (const [up, folder] of [
        ['../', `src/${room}`],
        ['../../', `src/${room}/inner`],
      ] as const) {
        const cases: (readonly [name: string, specifier: string, allowed: boolean])[] = [
          ['here', './here.ts', true],
          ['errors', `${up}errors.ts`, true],
          ['fault', `${up}fault.ts`, true],
          ['main', `${up}main.ts`, false],
        ];
        if (up === '../../') cases.push(['own-root', '../own.ts', true], ['own-sibling', '../other/x.ts', true]);
        for (const other of names.filter((name) => name !== room)) {
          const allowed = imports === 'all' || imports.includes(other);
          cases.push(
            [`room-${other}`, `${up}${other}/x.ts`, allowed],
            [`room-${other}-inner`, `${up}${other}/y/x.ts`, allowed],
          );
        }
        for (const [name, specifiers] of Object.entries(modulesOf)) {
          for (const specifier of specifiers) {
            cases.push([`package-${specifier.replaceAll(/[:/]/g, '-')}`, specifier, packages.includes(name)]);
          }
        }
        for (const [name, specifier, allowed] of cases) {
          const path = `${folder}/${name}.ts`;
          plant(path, `import { x } from '${specifier}';\nexport const planted = x;\n`);
          if (!allowed) expected.add(path);
        }
      }
    }
    const found = offenders('src');
    expect([...found].filter((path) => !expected.has(path)).sort(), 'refused, but allowed by the table').toEqual([]);
    expect([...expected].filter((path) => !found.has(path)).sort(), 'forbidden by the table, but not refused').toEqual(
      [],
    );
    expect(expected.size).toBeGreaterThan(300);
  });

  test.each([
    ['import type', `import type { X } from '../kernel/x.ts';\nexport const planted: X | null = null;\n`],
    ['a side effect', `import '../kernel/x.ts';\n`],
    ['a dynamic import', `export const planted = (): Promise<unknown> => import('../kernel/x.ts');\n`],
    ['a re-export', `export { x } from '../kernel/x.ts';\n`],
    ['a re-export of all', `export * from '../kernel/x.ts';\n`],
  ])('holds for %s', (_, text) => {
    plant('src/alert/planted.ts', text);
    expect([...offenders('src')]).toEqual(['src/alert/planted.ts']);
  });

  test('has rooms that know another by its types only', () => {
    for (const [from, of] of typesOnly) {
      const values = sources(`src/${from}`).flatMap(([path, text]) =>
        [...text.matchAll(/^(?:import|export)\s(?!type\s)[^;]*?from '([^']+)'/gm)]
          .filter((match) => new RegExp(`^(\\.\\./)+${of}/`).test(match[1] ?? ''))
          .map((match) => `${path}: ${match[1]}`),
      );
      expect(values, `${from} imports more than types of ${of}`).toEqual([]);
    }
  });
});

describe('native code', () => {
  const uses = [
    `process.dlopen({ exports: {} }, 'x.node');\n`,
    `process['dlopen']({ exports: {} }, 'x.node');\n`,
    `import { createRequire } from 'node:module';\nexport const require = createRequire(import.meta.url);\n`,
  ];

  test.each(uses)('is loaded by no other file: %s', (text) => {
    plant('src/kernel/second.ts', text);
    plant('src/cli/third.ts', text);
    expect([...offenders('src')].sort()).toEqual(['src/cli/third.ts', 'src/kernel/second.ts']);
  });

  test.each(uses)('is loaded by kernel/native.ts: %s', (text) => {
    plant('src/kernel/native.ts', text);
    expect([...offenders('src')]).toEqual([]);
  });
});
