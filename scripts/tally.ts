/**
 * A vitest reporter that writes what became of every test, with the reason of a skip (vitest's own JSON leaves it out),
 * to the file TALLY_FILE names. scripts/test.ts counts from it.
 */
import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';

export interface TalliedTest {
  readonly project: string;
  readonly file: string;
  readonly name: string;
  /** `pending`: the worker died, or the run was stopped, before it ended. */
  readonly state: 'passed' | 'failed' | 'skipped' | 'pending';
  /** Why it was skipped, as given to `context.skip(reason)`; null when nobody said. */
  readonly reason: string | null;
}

export interface Tally {
  readonly tests: readonly TalliedTest[];
  /** Files that failed though none of their tests did: they did not load, or a hook threw. */
  readonly brokenFiles: readonly string[];
  /** Errors that belong to no test. */
  readonly strayErrors: number;
}

export default class TallyReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    const path = process.env.TALLY_FILE;
    if (path === undefined) return;
    const tests: TalliedTest[] = [];
    const brokenFiles: string[] = [];
    for (const module of modules) {
      const file = relative(process.cwd(), module.moduleId);
      const project = module.project.name;
      let told = false;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === 'failed' || result.state === 'pending') told = true;
        const reason = result.state === 'skipped' ? (result.note ?? null) : null;
        tests.push({ project, file, name: test.fullName, state: result.state, reason });
      }
      if (module.state() !== 'passed' && module.state() !== 'skipped' && !told) brokenFiles.push(file);
    }
    const tally: Tally = { tests, brokenFiles, strayErrors: errors.length };
    writeFileSync(path, JSON.stringify(tally));
  }
}
