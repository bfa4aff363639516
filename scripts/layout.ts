/**
 * Writes src/kernel/layout.generated.ts: sizes, offsets and constants of bpf/abi.h, read from the BPF object's own BTF, so
 * that TypeScript can not disagree with the compiler. Usage: node scripts/layout.ts OBJECT [--check]
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { native } from '../src/kernel/native.ts';

const target = new URL('../src/kernel/layout.generated.ts', import.meta.url);
const structs = [
  'block',
  'allow',
  'port',
  'scope',
  'cidr_v4',
  'cidr_v6',
  'hints',
  'settings',
  'total',
  'interface_slot',
  'sample',
  'change',
];
const enums = ['block_owner', 'hint_prefixes', 'mode', 'count_kind', 'change_operation', 'change_result'];
/** What BTF does not carry: macros of abi.h that others need. */
const macros = ['FALCODROP_FORMAT', 'MAX_SLOTS', 'MAX_SCOPES', 'SCOPE_PORTS', 'NEVER_DROP_PORTS'];
const macroFiles = ['abi.h', 'maps.h'];

const [objectPath, flag] = process.argv.slice(2);
if (objectPath === undefined) throw new Error('usage: node scripts/layout.ts OBJECT [--check]');

const object = native().openObject(readFileSync(objectPath), 'falcodrop');
const headers = macroFiles.map((file) => readFileSync(new URL(`../bpf/${file}`, import.meta.url), 'utf8')).join('\n');

const lines = [
  '// Generated from the BPF object by scripts/layout.ts; do not edit.',
  '// biome-ignore-all format: generated',
  '',
];
for (const name of macros) {
  const value = new RegExp(`#define ${name}\\s+(\\d+)`).exec(headers)?.[1];
  if (value === undefined) throw new Error(`${name} is not defined in bpf/`);
  lines.push(`export const ${name} = ${value};`);
}
lines.push(
  '',
  '/** Bytes: the size of each struct and the [offset, size] of its members. */',
  'export const layout = {',
);
for (const name of structs) {
  const { size, members } = object.structLayout(name);
  const fields = members.map((member) => `${member.name}: [${member.offset}, ${member.size}]`).join(', ');
  lines.push(`  ${name}: { size: ${size}, members: { ${fields} } },`);
}
lines.push('} as const;', '');
for (const name of enums) {
  const values = Object.entries(object.enumValues(name)).map(([key, value]) => `${key}: ${value}`);
  lines.push(`export const ${name} = { ${values.join(', ')} } as const;`);
}
object.close();

const text = `${lines.join('\n')}\n`;
if (flag === '--check') {
  if (readFileSync(target, 'utf8') !== text) {
    process.stderr.write('src/kernel/layout.generated.ts is not what the BPF object says: run "make build"\n');
    process.exitCode = 1;
  }
} else {
  writeFileSync(target, text);
}
