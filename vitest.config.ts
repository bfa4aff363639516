import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/**
 * Three projects. `unit` and `kernel` run three files at a time, for many wait for the kernel; `kernel` loads programs and makes
 * namespaces, maps and mounts of its own. `alone` comes after them, one file at a time: it floods or measures, or compares what
 * belongs to the whole machine.
 * A test elsewhere that needs the kernel is named `*.kernel.test.ts`.
 */
const kernel = ['test/{kernel,native,bpf,e2e}/**/*.test.ts', 'test/**/*.kernel.test.ts'];
const alone = ['test/e2e/{gap,reboot,traffic}.test.ts', 'test/native/netlink.test.ts'];

/** Node of a test's processes keeps what it compiled (and stripped of types): hundreds of them start in a run. */
const env = { NODE_COMPILE_CACHE: fileURLToPath(new URL('build/compile-cache', import.meta.url)) };

const ofKernel = {
  env,
  pool: 'forks' as const,
  // --expose-gc: handles must close when they are collected
  execArgv: ['--expose-gc'],
  testTimeout: 180_000,
  hookTimeout: 180_000,
};

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: kernel,
          env,
          pool: 'forks',
          maxWorkers: 3,
          testTimeout: 60_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...ofKernel,
          name: 'kernel',
          include: kernel,
          exclude: alone,
          maxWorkers: 3,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...ofKernel,
          name: 'alone',
          include: alone,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
    coverage: { provider: 'v8', include: ['src/**/*.ts'] },
  },
});
