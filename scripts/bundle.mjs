/**
 * Bundles src/main.ts into dist/: one entry and a chunk a verb (dynamic imports stay dynamic), so that a hand verb loads
 * only its own code; the thread that writes the ledger, and the one that speaks with Kafka. The addon and the BPF object are laid beside it by the Makefile;
 * kernel/native.ts finds them there.
 *
 * Files are renamed into place and chunks carry a hash: a daemon that runs meanwhile never reads half a file.
 */
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');

// CommonJS packages (pino) require Node's own modules; esbuild's shim takes a global `require` when there is one.
const banner = `import { createRequire as bundleRequire } from 'node:module'; globalThis.require ??= bundleRequire(import.meta.url);`;

const result = await build({
  absWorkingDir: root,
  entryPoints: {
    main: 'src/main.ts',
    'ledger-worker': 'src/blocklist/ledger/worker.ts',
    'kafka-worker': 'src/sources/kafka/worker.ts',
  },
  outdir: dist,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node22',
  sourcemap: 'linked',
  sourcesContent: false,
  chunkNames: '[name]-[hash]',
  // better-sqlite3 looks for its addon beside itself, in node_modules.
  external: ['*.node', 'better-sqlite3'],
  // Its usual entry reads a file beside itself, this one holds it.
  alias: { '@platformatic/wasm-utils': join(root, 'node_modules/@platformatic/wasm-utils/dist/bundled.js') },
  banner: { js: banner },
  legalComments: 'none',
  logLevel: 'warning',
  write: false,
}).catch(() => process.exit(1)); // esbuild has printed why

await mkdir(dist, { recursive: true });
// The entries last: they name the chunks.
const files = result.outputFiles.toSorted((a, b) => Number(isEntry(a.path)) - Number(isEntry(b.path)));
for (const file of files) {
  await writeFile(`${file.path}.new`, file.contents);
  await rename(`${file.path}.new`, file.path);
}
await writeFile(join(dist, 'package.json'), '{ "type": "module" }\n');

const made = new Set(files.map((file) => basename(file.path)));
for (const name of await readdir(dist)) {
  if (/\.js(\.map)?$/.test(name) && !made.has(name)) await rm(join(dist, name));
}

function isEntry(path) {
  return /^(main|ledger-worker|kafka-worker)\.js/.test(basename(path));
}
