/**
 * Writes src/falco/files.generated.ts: what lies in falco/, so that the built command needs no path of the tree. Usage:
 * node scripts/falco-files.ts; a test compares.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const sources = {
  configFile: 'config.d/falcodrop.yaml',
  rulesFile: 'rules.d/falcodrop_rules.yaml',
} as const;

export function falcoFilesModule(): string {
  const parts = Object.entries(sources).map(([name, path]) => {
    const lines = readFileSync(new URL(`../falco/${path}`, import.meta.url), 'utf8').split('\n');
    return `/** falco/${path} */\nexport const ${name} = [\n${lines.map((line) => `  ${JSON.stringify(line)},\n`).join('')}].join('\\n');\n`;
  });
  return `// Made from falco/ by: node scripts/falco-files.ts\n\n${parts.join('\n')}`;
}

if (import.meta.main) {
  writeFileSync(new URL('../src/falco/files.generated.ts', import.meta.url), falcoFilesModule());
}
