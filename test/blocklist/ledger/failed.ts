import { FalcodropError } from '../../../src/errors.ts';

/** The error that the work must throw; fails the test when it throws none, or one that is not for people. */
export function failureOf(work: () => unknown): FalcodropError {
  try {
    work();
  } catch (error) {
    if (error instanceof FalcodropError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}
