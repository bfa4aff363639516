import { defineConfig } from 'vitest/config';

/**
 * Two projects, one after the other. `unit` runs in parallel; `kernel` (what loads programs, makes namespaces or measures)
 * runs one file at a time: its tests share CPUs with a packet generator, and the machine's kernel with each other.
 * A test elsewhere that needs the kernel is named `*.kernel.test.ts`.
 */
const kernel = ['test/{kernel,native,bpf,e2e}/**/*.test.ts', 'test/**/*.kernel.test.ts'];

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: kernel,
          pool: 'forks',
          testTimeout: 60_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'kernel',
          include: kernel,
          pool: 'forks',
          // --expose-gc: handles must close when they are collected
          execArgv: ['--expose-gc'],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 180_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
    coverage: { provider: 'v8', include: ['src/**/*.ts'] },
  },
});
