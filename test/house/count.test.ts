import { describe, expect, test } from 'vitest';
import type { TalliedTest, Tally } from '../../scripts/tally.ts';
import { count } from '../../scripts/test.ts';

const one = (state: TalliedTest['state'], reason: string | null = null, project = 'unit'): TalliedTest => ({
  project,
  file: 'test/x.test.ts',
  name: 'x',
  state,
  reason,
});
const tally = (tests: readonly TalliedTest[], rest: Partial<Tally> = {}): Tally => ({
  tests,
  brokenFiles: [],
  strayErrors: 0,
  ...rest,
});

describe('what make test counts', () => {
  test.each<[string, Tally | null, number | null, number, number]>([
    ['passes', tally([one('passed'), one('passed')]), 0, 2, 0],
    ['a failure once, though the status says so too', tally([one('passed'), one('failed')]), 1, 1, 1],
    ['a test that never ended as failed', tally([one('passed'), one('pending')]), 1, 1, 1],
    ['a worker that died behind a report of successes', tally([one('passed')]), 1, 1, 1],
    ['a run ended by a signal', tally([one('passed')]), null, 1, 1],
    ['no report at all', null, 1, 0, 1],
    ['a skip with a reason as nothing', tally([one('passed'), one('skipped', 'no bpftool')]), 0, 1, 0],
    ['a skip without a reason as failed', tally([one('passed'), one('skipped')]), 0, 1, 1],
    [
      'a skipped kernel test as failed, where it could have run',
      tally([one('skipped', 'not root', 'kernel')]),
      0,
      0,
      1,
    ],
    ['a skipped one that runs alone too', tally([one('skipped', 'not root', 'alone')]), 0, 0, 1],
    [
      'a kernel test this kernel cannot run as nothing',
      tally([one('skipped', 'this kernel has no x', 'kernel')]),
      0,
      0,
      0,
    ],
    ['a file that did not load', tally([one('passed')], { brokenFiles: ['test/y.test.ts'] }), 1, 1, 1],
    ['an error that belongs to no test', tally([one('passed')], { strayErrors: 1 }), 1, 1, 1],
  ])('%s', (_, report, status, passed, failed) => {
    expect(count(report, status)).toEqual({ passed, failed });
  });
});
