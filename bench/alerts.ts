/** Alerts for the benches of sources: recorded ones, each with a time of its own, so that none is the same as another. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './host.ts';

export function recordedAlerts(count: number): readonly string[] {
  const recorded = readFileSync(join(root, 'test/fixtures/alerts/falco-0.43-append.jsonl'), 'utf8').trim().split('\n');
  return Array.from({ length: count }, (_, n) => {
    const line = recorded[n % recorded.length] ?? '';
    return line.replace(
      /("time":"[^."]*\.)\d+Z"/,
      (_text, before: string) => `${before}${String(n).padStart(9, '0')}Z"`,
    );
  });
}
